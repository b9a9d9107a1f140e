#include "arch/tlb.hpp"

#include <atomic>

#include "arch/address_space.hpp"
#include "arch/cpu.hpp"
#include "arch/fixmap.hpp"
#include "arch/lapic.hpp"
#include "arch/lock.hpp"
#include "arch/pdpt.hpp"
#include "arch/smp.hpp"
#include "arch/tlb_checker.hpp"
#include "arch/traps.hpp"
#include "arch/user_tlb.hpp"
#include "lib/assert.hpp"

namespace paean::arch {

namespace {

constinit std::atomic<u32> kernel_generation{1};
/// The newest that somebody interrupts others for. Newer ones can wait until a CPU comes by, so that an interrupt for a
/// range costs nobody his other translations.
constinit std::atomic<u32> wanted_generation{1};
/// A bit for each CPU that is in cpu_idle(). Set before it halts, cleared before anything else runs.
constinit std::atomic<CpuMask> idle_mask{0};
/// By CPU; on a cache line of its own, because others read it while they wait.
struct alignas(64) CpuGeneration {
  std::atomic<u32> flushed{0};
};
constinit CpuGeneration generations[kMaxCpus];
/// A generation that was found done. It stays so, though a CPU that leaves its idling is for a moment neither idle nor
/// up to date: who was told that he may go on is not told otherwise when he asks again.
constinit std::atomic<u32> known_done{0};
constinit std::atomic<u32> full_flushes{0}, ipis_sent{0}, ipis_saved{0}, range_shootdowns{0};

/// One range at a time; `waiting` has a bit for each CPU that has not invalidated it yet.
struct RangeRequest {
  VirtAddr start{};
  u32 pages = 0;
  std::atomic<CpuMask> waiting{0};
};
constinit RangeRequest request;
constinit CallLock request_lock{LockRank::Shootdown};

bool is_behind(u32 cpu, u32 generation) {
  return static_cast<i32>(generations[cpu].flushed.load(std::memory_order_acquire) - generation) < 0;
}

/// A stamp that seems to lie in the future is older than half of all generations: every CPU has flushed since.
bool is_ancient(u32 generation) {
  return static_cast<i32>(kernel_generation.load(std::memory_order_acquire) - generation) < 0;
}

bool is_known_done(u32 generation) {
  return static_cast<i32>(known_done.load(std::memory_order_acquire) - generation) >= 0;
}

/// At least as new as this one.
void raise(std::atomic<u32>& to, u32 generation) {
  u32 known = to.load(std::memory_order_relaxed);
  while (static_cast<i32>(known - generation) < 0 &&
         !to.compare_exchange_weak(known, generation, std::memory_order_acq_rel)) {}
}

void invalidate_range(VirtAddr start, u32 pages) {
  for (u32 i = 0; i < pages; ++i) invalidate_page(start + i * kPageSize);
}

/// Does whatever is asked of this CPU: a range, a full flush, or both.
void on_tlb_interrupt(IrqsOff) {
  const CpuMask me = 1u << this_cpu();
  if ((request.waiting.load(std::memory_order_acquire) & me) != 0) {
    invalidate_range(request.start, request.pages);
    request.waiting.fetch_and(~me, std::memory_order_release);
  }
  if (is_behind(this_cpu(), wanted_generation.load(std::memory_order_acquire))) flush_tlb_all();
  answer_user_flush();
}

void interrupt_cpu(u32 cpu) {
  const IrqsOffGuard off;
  send_ipi(apic_id_of(cpu), kVectorTlb, off.token());
  ipis_sent.fetch_add(1, std::memory_order_relaxed);
}

/// Interrupts every CPU that is neither this one nor idle and has not flushed since.
u32 interrupt_those_behind(u32 generation) {
  raise(wanted_generation, generation);
  const bool done = is_known_done(generation);  // a CPU that leaves its idling may seem to be behind all the same
  const CpuMask idle = idle_mask.load();        // after the generation rose, see tlb_leave_idle()
  u32 interrupted = 0;
  for (u32 cpu = 0; cpu < online_cpus(); ++cpu) {
    if (cpu == this_cpu()) continue;
    if (!done && is_behind(cpu, generation) && (idle >> cpu & 1) == 0) {
      interrupt_cpu(cpu);
      ++interrupted;
    } else {
      ipis_saved.fetch_add(1, std::memory_order_relaxed);
    }
  }
  return interrupted;
}

/// A CPU that waits for others must itself answer: with interrupts off it would not.
void assert_may_wait() { ASSERT(online_cpus() == 1 || irqs_enabled()); }

}  // namespace

PER_CPU(u32, cpu_is_idle){0u};

void cpu_idle() {
  check_cr3_reload();
  cpu_is_idle.set(1);
  idle_mask.fetch_or(1u << this_cpu());
  wait_for_irq();
  const IrqsOffGuard off;
  if (!cpu_is_idle.is_zero()) tlb_leave_idle();  // an NMI ends the wait, too, and its handler leaves this to us
}

/// Either the CPU that wants a flush sees the bit cleared and interrupts us, or we see its generation here: both sides
/// write, with a locked instruction, before they read.
void tlb_leave_idle() {
  idle_mask.fetch_and(~(1u << this_cpu()));
  if (is_behind(this_cpu(), kernel_generation.load())) flush_tlb_all();
  cpu_is_idle.set(0);
}

bool tlb_generation_is_done(u32 generation) {
  if (is_ancient(generation) || is_known_done(generation)) return true;
  const CpuMask idle = idle_mask.load();
  for (u32 cpu = 0; cpu < online_cpus(); ++cpu) {
    if ((idle >> cpu & 1) == 0 && is_behind(cpu, generation)) return false;
  }
  raise(known_done, generation);
  return true;
}

void init_tlb_interrupts() { set_local_handler(kVectorTlb, on_tlb_interrupt); }

void tlb_cpu_is_online() { flush_tlb_all(); }

void flush_tlb_all() {
  const IrqsOffGuard guard;
  // Read first: entries that are cleared after this line may still be in the TLB after the flush.
  const u32 generation = kernel_generation.load(std::memory_order_acquire);
  const u32 cr4 = read_cr4();
  if ((cr4 & kCr4Pge) != 0) {  // a CR3 reload would leave global entries alone
    write_cr4(cr4 & ~kCr4Pge);
    write_cr4(cr4);
  } else {
    write_cr3(read_cr3());
  }
  generations[this_cpu()].flushed.store(generation, std::memory_order_release);
  full_flushes.fetch_add(1, std::memory_order_relaxed);
}

u32 tlb_new_generation() { return kernel_generation.fetch_add(1, std::memory_order_acq_rel) + 1; }

u32 tlb_newest_generation() { return kernel_generation.load(std::memory_order_acquire); }

u32 tlb_cpu_generation(u32 cpu) { return generations[cpu].flushed.load(std::memory_order_acquire); }

u32 tlb_wait_for_generation(u32 generation) {
  assert_may_wait();
  if (is_ancient(generation)) return 0;
  const CpuHold hold;  // who moved to another CPU half way would leave out that one
  if (is_behind(this_cpu(), generation)) flush_tlb_all();
  const u32 interrupted = interrupt_those_behind(generation);
  while (!tlb_generation_is_done(generation)) cpu_relax();
  return interrupted;
}

void tlb_request_generation(u32 generation) {
  const CpuHold hold;
  if (is_behind(this_cpu(), generation)) flush_tlb_all();
  (void)interrupt_those_behind(generation);
}

void tlb_shootdown(VirtAddr start, u32 pages) {
  if (pages > kTlbRangeLimit) {
    (void)tlb_wait_for_generation(tlb_new_generation());
    return;
  }
  const CpuHold hold;
  invalidate_range(start, pages);
  if (online_cpus() == 1) return note_shot_down(start, pages);
  assert_may_wait();
  const CallGuard guard{request_lock};
  request.start = start;
  request.pages = pages;
  request.waiting.store(online_cpu_mask() & ~(1u << this_cpu()), std::memory_order_release);
  for (u32 cpu = 0; cpu < online_cpus(); ++cpu) {
    if (cpu != this_cpu()) interrupt_cpu(cpu);
  }
  while (request.waiting.load(std::memory_order_acquire) != 0) cpu_relax();
  note_shot_down(start, pages);
  range_shootdowns.fetch_add(1, std::memory_order_relaxed);
}

TlbEvents tlb_events() {
  return TlbEvents{full_flushes.load(), ipis_sent.load(), ipis_saved.load(), range_shootdowns.load()};
}

}  // namespace paean::arch
