// Exceptions and interrupts of this CPU.
//
// Vectors: 0-31 exceptions, 32-47 device interrupts (ISA numbers 0-15, whether they come from PIC or IOAPIC),
// 0xf0 LAPIC timer, 0xff spurious. Handlers run with interrupts off on the interrupted stack; a double fault runs on a
// task and stack of its own, so that a kernel stack overflow is reported instead of resetting the machine.
#pragma once

#include <string_view>

#include "arch/interrupts.hpp"
#include "arch/irq.hpp"
#include "lib/addr.hpp"
#include "lib/format.hpp"
#include "lib/result.hpp"

namespace paean::arch {

/// What arch/x86/entry.S pushes; the last two only if the trap came from user mode.
struct TrapFrame {
  u32 gs, fs, es, ds;
  u32 edi, esi, ebp, esp_at_push, ebx, edx, ecx, eax;
  u32 vector, error;
  u32 eip, cs, eflags;
  u32 user_esp, user_ss;

  bool from_user() const { return (cs & 3) == 3; }
  /// The stack pointer at the trap.
  u32 esp() const { return from_user() ? user_esp : reinterpret_cast<u32>(&user_esp); }
};

inline constexpr u32 kVectorNmi = 2, kVectorDoubleFault = 8, kVectorPageFault = 14;
inline constexpr u32 kVectorIrqBase = 32, kVectorTimer = 0xf0, kVectorSpurious = 0xff;

inline constexpr u32 kPageFaultPresent = 1, kPageFaultWrite = 2, kPageFaultUser = 4, kPageFaultReserved = 8;
inline constexpr u32 kPageFaultFetch = 16;

/// Builds this CPU's GDT, TSS and double-fault task and loads them; FS becomes the per-CPU segment.
/// `fault_stack_top` is the stack of its double-fault task.
void init_descriptors(u32 cpu, u32 percpu_delta_value, void* fault_stack_top);
/// The boot CPU's copy of the per-CPU variables, and its descriptors. First of all.
void init_boot_cpu_descriptors();
/// Gives this CPU's double-fault task another stack.
void set_double_fault_stack(void* top);
/// The top of a CPU's.
VirtAddr double_fault_stack(u32 cpu);
/// Fills and loads the IDT. Boot CPU once; other CPUs only load it.
void init_idt();
void load_idt();

/// `#PF page fault` and so on.
std::string_view exception_name(u32 vector);

using IrqHandler = void (*)(IrqsOff);
/// One handler for an ISA interrupt number, enabled at the interrupt controller. Replaces an older one.
void set_irq_handler(u32 irq, IrqHandler handler, IrqTrigger trigger = IrqTrigger::Isa);
bool has_irq_handler(u32 irq);
/// The handler for a vector of the local APIC, 0xf0 to 0xfe; it is acknowledged before the handler runs. All CPUs.
/// Returns the one before.
IrqHandler set_local_handler(u32 vector, IrqHandler handler);
/// The same for the LAPIC timer's vector.
inline IrqHandler set_timer_handler(IrqHandler handler) { return set_local_handler(kVectorTimer, handler); }
/// Interrupts taken by this CPU, per ISA number; 16 is the local timer.
u32 irq_count(u32 irq);
/// The same of another CPU.
u32 irq_count_on(u32 cpu, u32 irq);

/// Non-maskable interrupts are counted, and no more: they may have interrupted anything. A watcher looks at each where
/// it happens; it takes no lock, causes no fault and does not log. nullptr ends that.
using NmiWatcher = void (*)(const TrapFrame&);
void watch_nmis(NmiWatcher watcher);
u32 nmi_count_on(u32 cpu);
/// Those of this CPU since the last call, unless somebody watches. For a place where logging is safe; interrupts off.
u32 take_unasked_nmis();

/// Reads or writes a word that may not be mapped: NotFound instead of a fault. Any context.
Result<u32> probe_read(VirtAddr va);
Result<> probe_write(VirtAddr va, u32 value);
/// Jumps to `va`; NotFound if the CPU refused to execute there. What is at `va` must return with `ret` at once.
Result<> probe_execute(VirtAddr va);
/// The error code of the last page fault that a probe_ function met on this CPU.
u32 last_probe_error();

/// Registers, symbolised backtrace and, for page faults, the walk of CR2.
void print_frame(Sink& out, const TrapFrame& frame);
/// `#0 c01034ab func+0x1b/0x40` lines from a frame pointer upwards; stops at anything odd.
void print_backtrace(Sink& out, u32 eip, u32 ebp);

/// Faults of the kernel's own copies to and from user memory: the handler is called with the interrupts of the
/// interrupted code, may sleep, and says whether the access will work now. Otherwise, and where the copy may not sleep,
/// the copy's fix-up runs. One; boot.
using UserFaultHandler = bool (*)(VirtAddr address, u32 error);
void set_user_fault_handler(UserFaultHandler handler);

/// Around the handler of every interrupt, exceptions not counted; the second may run other threads before it returns.
/// It takes what the first returned, and panics if the handler did not leave preemption as it was.
/// Implemented by kernel/sched/scheduler.cpp.
u32 interrupt_begins();
void interrupt_ends(u32 preemption);

/// Whether the running thread may sleep now, interrupts aside. Implemented by kernel/sched/scheduler.cpp.
bool may_handle_user_fault();

/// Called for a trap that nothing handles. Implemented by kernel/base/panic.cpp; never returns.
[[noreturn]] void fatal_trap(const TrapFrame& frame, std::string_view what);

}  // namespace paean::arch
