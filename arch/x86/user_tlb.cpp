#include "arch/user_tlb.hpp"

#include "arch/cpu.hpp"
#include "arch/fixmap.hpp"
#include "arch/interrupts.hpp"
#include "arch/lapic.hpp"
#include "arch/pdpt.hpp"
#include "arch/smp.hpp"
#include "lib/assert.hpp"

namespace paean::arch {

namespace {

/// What a CPU has loaded; written by it, read by those who wait for it.
struct alignas(64) Loaded {
  std::atomic<UserTlb*> space{nullptr};
  std::atomic<u32> generation{0};
  bool lazy = false;
};
constinit Loaded loaded[kMaxCpus];

constinit std::atomic<u32> loads{0}, lazy_returns{0}, flushes{0}, ipis{0}, evicted{0};

void count(std::atomic<u32>& counter) { counter.fetch_add(1, std::memory_order_relaxed); }

CpuMask my_bit() { return 1u << this_cpu(); }

/// CR3 of `space` on this CPU, with everything that its flushes asked for until now.
void load(Loaded& mine, UserTlb& space) {
  // Read first: a flush that begins after this line counts as not done, though it may be.
  const u32 generation = space.generation.load();
  load_user_pdpt(space.cr3);
  mine.generation.store(generation, std::memory_order_release);
}

void leave(Loaded& mine) {
  UserTlb* space = mine.space.load(std::memory_order_relaxed);
  leave_user_pdpt();
  mine.space.store(nullptr, std::memory_order_release);
  mine.lazy = false;
  space->cpus.fetch_and(~my_bit());  // last: the space may be freed now
}

bool is_done(const UserTlb& space, u32 cpu, u32 generation) {
  if ((space.cpus.load() >> cpu & 1) == 0) return true;
  const Loaded& other = loaded[cpu];
  return other.space.load(std::memory_order_acquire) == &space &&
         static_cast<i32>(other.generation.load(std::memory_order_acquire) - generation) >= 0;
}

void interrupt_cpu(u32 cpu) {
  const IrqsOffGuard off;
  send_ipi(apic_id_of(cpu), kVectorTlb, off.token());
  count(ipis);
}

/// Preemption is off, so this CPU stays the one that it is.
template <typename Done>
void interrupt_others(CpuMask others, Done done) {
  if (others == 0) return;
  ASSERT(irqs_enabled());  // who waits must answer, too
  for (CpuMask left = others; left != 0; left &= left - 1) interrupt_cpu(static_cast<u32>(__builtin_ctz(left)));
  for (CpuMask left = others; left != 0; left &= left - 1) {
    while (!done(static_cast<u32>(__builtin_ctz(left)))) cpu_relax();
  }
}

void flush_others(UserTlb& space, u32 generation) {
  interrupt_others(space.cpus.load() & ~my_bit(), [&](u32 cpu) { return is_done(space, cpu, generation); });
}

}  // namespace

void load_user_tlb(UserTlb& space, IrqsOff) {
  Loaded& mine = loaded[this_cpu()];
  UserTlb* old = mine.space.load(std::memory_order_relaxed);
  mine.lazy = false;
  if (old == &space) {
    count(lazy_returns);
    if (mine.generation.load(std::memory_order_relaxed) != space.generation.load()) load(mine, space);
    return;
  }
  space.cpus.fetch_or(my_bit());
  load(mine, space);
  mine.space.store(&space, std::memory_order_release);
  if (old != nullptr) old->cpus.fetch_and(~my_bit());  // last: that one may be freed now
  count(loads);
}

void make_user_tlb_lazy(IrqsOff) {
  Loaded& mine = loaded[this_cpu()];
  mine.lazy = mine.space.load(std::memory_order_relaxed) != nullptr;
}

void flush_user_range(UserTlb& space, VirtAddr start, u32 pages) {
  if (pages > kTlbRangeLimit) return flush_user_tlb(space);
  count(flushes);
  const CpuHold hold;
  const u32 generation = space.generation.fetch_add(1) + 1;
  {
    const IrqsOffGuard off;
    Loaded& mine = loaded[this_cpu()];
    if (mine.space.load(std::memory_order_relaxed) == &space) {
      if (mine.generation.load(std::memory_order_relaxed) == generation - 1) {
        for (u32 i = 0; i < pages; ++i) invalidate_page(start + i * kPageSize);
        mine.generation.store(generation, std::memory_order_release);
      } else {
        load(mine, space);  // somebody else's flush is on its way to us
      }
    }
  }
  flush_others(space, generation);
}

void flush_user_tlb(UserTlb& space) {
  count(flushes);
  const CpuHold hold;
  const u32 generation = space.generation.fetch_add(1) + 1;
  {
    const IrqsOffGuard off;
    Loaded& mine = loaded[this_cpu()];
    if (mine.space.load(std::memory_order_relaxed) == &space) load(mine, space);
  }
  flush_others(space, generation);
}

void drop_user_tlb(UserTlb& space) {
  const CpuHold hold;
  (void)space.generation.fetch_add(1);
  {
    const IrqsOffGuard off;
    Loaded& mine = loaded[this_cpu()];
    if (mine.space.load(std::memory_order_relaxed) == &space) leave(mine);
  }
  interrupt_others(space.cpus.load(), [&](u32 cpu) { return (space.cpus.load() >> cpu & 1) == 0; });
}

void answer_user_flush() {
  Loaded& mine = loaded[this_cpu()];
  UserTlb* space = mine.space.load(std::memory_order_relaxed);
  if (space == nullptr || mine.generation.load(std::memory_order_relaxed) == space->generation.load()) return;
  if (!mine.lazy) return load(mine, *space);
  leave(mine);
  count(evicted);
}

void reload_user_tlb(IrqsOff) {
  Loaded& mine = loaded[this_cpu()];
  if (UserTlb* space = mine.space.load(std::memory_order_relaxed); space != nullptr) load(mine, *space);
}

UserTlbEvents user_tlb_events() {
  return UserTlbEvents{loads.load(), lazy_returns.load(), flushes.load(), ipis.load(), evicted.load()};
}

}  // namespace paean::arch
