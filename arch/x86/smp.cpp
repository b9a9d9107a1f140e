#include "arch/smp.hpp"

#include <atomic>

#include "arch/acpi.hpp"
#include "arch/address_space.hpp"
#include "arch/cpu.hpp"
#include "arch/fixmap.hpp"
#include "arch/interrupts.hpp"
#include "arch/lapic.hpp"
#include "arch/lock.hpp"
#include "arch/pdpt.hpp"
#include "arch/traps.hpp"
#include "arch/tsc.hpp"
#include "lib/assert.hpp"
#include "lib/log.hpp"

namespace paean::arch {

extern PageDirectory identity_directory;
extern PageTable identity_table;

extern "C" {
extern char trampoline_start[], trampoline_end[], trampoline_parameters[];
extern char __percpu_start[], __percpu_end[];
[[noreturn]] void cpu_entry();
}

namespace {

/// At the end of the trampoline's page; see trampoline.S.
struct StartParameters {
  u32 cr3, cr4, no_execute, esp, entry;
};

/// What the CPU that is being started needs; one at a time.
struct Starting {
  u32 number;
  u32 delta;
  void* fault_stack_top;
  void (*idle)();
};
constinit Starting starting{};

/// What lies between None and the rest is said by whoever comes first: the new CPU that it is there, or the boot CPU
/// that it has waited long enough.
enum class Answer : u8 { None, Here, TooLate, Online, Unfit };
constinit std::atomic<Answer> answer{Answer::None};
constinit Result<CpuMemory> unused_memory = std::unexpected(Error::NotFound);  // of one that did not come
constinit std::atomic<u32> online{1};
constinit u32 apic_ids[kMaxCpus]{};

/// The kernel's table and the trampoline's page; new CPUs leave it for the kernel's own at once.
constinit Pdpt start_pdpt{};

PhysAddr image_physical(const void* linked) { return PhysAddr{u64{reinterpret_cast<u32>(linked)} - kImageOffset}; }

void map_trampoline(PhysAddr page) {
  for (Pte& entry : identity_table.entries) entry.clear();
  identity_table.entries[page.raw() >> kPageShift].set(
      make_leaf(page, Protection::ReadExecute).without(pte_bits::kGlobal));
  make_start_pdpt(start_pdpt, image_physical(&identity_directory));
}

void write_trampoline(PhysAddr page, const StartParameters& parameters) {
  const FixWindow window{page};
  __builtin_memcpy(window.bytes(), trampoline_start, static_cast<usize>(trampoline_end - trampoline_start));
  __builtin_memcpy(window.bytes() + (trampoline_parameters - trampoline_start), &parameters, sizeof parameters);
}

u32 make_percpu_copy(void* memory) {
  __builtin_memcpy(memory, __percpu_start, percpu_size());
  return reinterpret_cast<u32>(memory) - reinterpret_cast<u32>(__percpu_start);
}

/// A CPU with fewer features than the boot CPU would fault on the first NX or global entry.
bool has_boot_features() {
  const CpuFeatures mine = read_cpu_features(), &boot = cpu_features();
  return mine.pae && mine.cx8 && mine.nx >= boot.nx && mine.pge >= boot.pge && mine.smep >= boot.smep &&
         mine.smap >= boot.smap;
}

bool say(Answer what) {
  Answer before = Answer::None;
  return answer.compare_exchange_strong(before, what);
}

/// What the CPU has said in the end. One that has not come in time will not come any more: the stack and the page that
/// it would begin with are the next one's.
Answer wait_for_answer(u32 apic_id) {
  constexpr u32 kPatience = 1000;  // milliseconds; an emulator on a busy host may take most of it
  constexpr u32 kLongest = 10 * kPatience;
  for (u32 waited = 0; waited < kLongest; ++waited) {
    const Answer now = answer.load();
    if (now == Answer::Online || now == Answer::Unfit) return now;
    if (waited >= kPatience && now == Answer::None && say(Answer::TooLate)) {
      send_init(apic_id);
      delay_microseconds(10'000);
      return Answer::TooLate;
    }
    delay_microseconds(1000);
  }
  panic("the CPU with APIC id {} stopped while it was being started", apic_id);
}

/// What one that did not come has left, or new memory.
Result<CpuMemory> memory_for_cpu(CpuMemoryProvider provider) {
  Result<CpuMemory> left = std::unexpected(Error::NotFound);
  std::swap(left, unused_memory);
  return left ? left : provider();
}

void start_cpu(u32 apic_id, PhysAddr low_page, CpuMemoryProvider provider, void (*idle)()) {
  const u32 number = online.load();
  const Result<CpuMemory> memory = memory_for_cpu(provider);
  if (!memory) return log_warning("no memory for the CPU with APIC id {}", apic_id);
  starting = Starting{number, make_percpu_copy(memory->percpu), memory->fault_stack_top, idle};
  answer = Answer::None;
  write_trampoline(low_page, StartParameters{static_cast<u32>(image_physical(&start_pdpt).raw()), read_cr4() & kCr4Pae,
                                             cpu_features().nx ? 1u : 0u, reinterpret_cast<u32>(memory->stack_top),
                                             reinterpret_cast<u32>(cpu_entry)});
  apic_ids[number] = apic_id;
  send_startup(apic_id, static_cast<u32>(low_page.raw() >> kPageShift));
  const Answer said = wait_for_answer(apic_id);
  if (said == Answer::Online) return;
  if (said == Answer::TooLate) unused_memory = memory;
  log_warning("the CPU with APIC id {} {}", apic_id,
              said == Answer::Unfit ? "lacks features of the boot CPU, left asleep" : "does not answer");
}

void on_reschedule(IrqsOff) {}  // the way out of every interrupt looks at need_resched

/// What run_on_other_cpus() asks; one call at a time.
struct Call {
  void (*function)(IrqsOff) = nullptr;
  std::atomic<CpuMask> waiting{0};
};
constinit Call call;
constinit CallLock call_lock{LockRank::CpuCall};

void on_call(IrqsOff off) {
  call.function(off);
  call.waiting.fetch_and(~(1u << this_cpu()), std::memory_order_release);
}

void on_stop(IrqsOff) { halt_forever(); }

}  // namespace

u32 percpu_size() { return static_cast<u32>(__percpu_end - __percpu_start); }

extern "C" void cpu_entry() {
  if (!say(Answer::Here)) halt_forever();
  leave_start_pdpt();
  if (!has_boot_features()) {
    answer = Answer::Unfit;
    halt_forever();
  }
  init_descriptors(starting.number, starting.delta, starting.fault_stack_top);
  load_kernel_pdpt();
  load_idt();
  init_fix_slots(starting.number);
  enable_protection();
  enable_local_apic();
  tlb_cpu_is_online();
  void (*const idle)() = starting.idle;
  online.fetch_add(1);
  load_kernel_pdpt();       // who changed it before the line above did not tell us
  answer = Answer::Online;  // from here on the boot CPU may start the next one
  start_tick();
  idle();
  halt_forever();
}

void start_other_cpus(u32 limit, PhysAddr low_page, CpuMemoryProvider provider, void (*idle)()) {
  set_local_handler(kVectorReschedule, on_reschedule);
  set_local_handler(kVectorStop, on_stop);
  set_local_handler(kVectorCall, on_call);
  init_tlb_interrupts();
  apic_ids[0] = local_apic_id();
  if (!have_lapic()) return;
  map_trampoline(low_page);
  for (u32 i = 0; i < madt().cpu_count && online.load() < limit && online.load() < kMaxCpus; ++i) {
    const CpuFact& cpu = madt().cpus[i];
    if (!cpu.usable || cpu.apic_id == local_apic_id()) continue;
    start_cpu(cpu.apic_id, low_page, provider, idle);
  }
  for (u64& slot : start_pdpt.slots) slot = 0;  // nobody runs on it any more
}

u32 online_cpus() { return online.load(std::memory_order_relaxed); }
CpuMask online_cpu_mask() { return online_cpus() == 32 ? ~0u : (1u << online_cpus()) - 1; }
u32 apic_id_of(u32 cpu) { return apic_ids[cpu]; }

void send_reschedule_ipi(u32 cpu) {
  const IrqsOffGuard off;
  send_ipi(apic_ids[cpu], kVectorReschedule, off.token());
}

void run_on_other_cpus(void (*function)(IrqsOff)) {
  if (online_cpus() == 1) return;
  ASSERT(irqs_enabled());
  const CallGuard guard{call_lock};
  call.function = function;
  const CpuMask others = online_cpu_mask() & ~(1u << this_cpu());
  call.waiting.store(others, std::memory_order_release);
  for (u32 cpu = 0; cpu < online_cpus(); ++cpu) {
    if ((others >> cpu & 1) == 0) continue;
    const IrqsOffGuard off;
    send_ipi(apic_ids[cpu], kVectorCall, off.token());
  }
  while (call.waiting.load(std::memory_order_acquire) != 0) cpu_relax();
}

void stop_other_cpus() {
  const IrqsOffGuard off;
  for (u32 cpu = 0; cpu < online_cpus(); ++cpu) {
    if (cpu != this_cpu()) send_ipi(apic_ids[cpu], kVectorStop, off.token());
  }
}

}  // namespace paean::arch
