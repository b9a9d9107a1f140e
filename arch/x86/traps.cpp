// From vectors to handlers.
#include "arch/traps.hpp"

#include "arch/cpu.hpp"
#include "arch/fixmap.hpp"
#include "arch/interrupts.hpp"
#include "arch/lapic.hpp"
#include "arch/percpu.hpp"
#include "arch/tlb.hpp"
#include "arch/traps_internal.hpp"
#include "arch/user.hpp"
#include "arch/user_access.hpp"
#include "lib/assert.hpp"

namespace paean::arch {

extern "C" {
extern char trap_stubs[], system_call_entry[], probe_call_failed[];
constinit u32 user_access_guarded = 0;
extern const u32 __start_fixups[], __stop_fixups[];
u32 probe_load(u32 address, u32* value);
u32 probe_store(u32 address, u32 value);
u32 probe_call(u32 address);
constinit u32 probe_call_esp = 0;
void trap_dispatch(TrapFrame* frame);
[[noreturn]] void double_fault_main();
}

namespace {

constexpr u32 kStubSize = 16;
constexpr u32 kIsaIrqs = 16;
constexpr u8 kInterruptGate = 0x8e, kTaskGate = 0x85, kUserGate = 0xee;
constexpr u32 kVectorBreakpoint = 3, kVectorOverflow = 4, kVectorNotPresent = 11, kVectorProtection = 13;

struct Gate {
  u16 offset_low, selector;
  u8 zero, type;
  u16 offset_high;
};
static_assert(sizeof(Gate) == 8);

struct [[gnu::packed]] DescriptorPointer {
  u16 limit;
  u32 base;
};

constinit Gate idt[256]{};
constinit IrqHandler irq_handlers[kIsaIrqs]{};
constexpr u32 kFirstLocalVector = 0xf0, kLocalVectors = 15;
constinit IrqHandler local_handlers[kLocalVectors]{};

struct IrqCounts {
  u32 taken[kIsaIrqs + 1];
};
PER_CPU(IrqCounts, irq_counts);
PER_CPU(u32, nmi_counts){0u};
PER_CPU(u32, nmis_reported){0u};
constinit NmiWatcher nmi_watcher = nullptr;
PER_CPU(u32, probe_target){0u};
PER_CPU(u32, probe_running){0u};
PER_CPU(u32, probe_error){0u};

/// A fault at an instruction that expects one continues at its fix-up.
bool fix_up(TrapFrame& frame) {
  for (const u32* pair = __start_fixups; pair != __stop_fixups; pair += 2) {
    if (pair[0] == frame.eip) {
      frame.eip = pair[1];
      probe_error.local() = frame.error;
      return true;
    }
  }
  if (probe_running.local() != 0 && frame.eip == probe_target.local() && frame.vector == kVectorPageFault) {
    frame.eip = reinterpret_cast<u32>(probe_call_failed);
    probe_error.local() = frame.error;
    return true;
  }
  return false;
}

void handle_exception(TrapFrame& frame) {
  const bool expected =
      frame.vector == kVectorPageFault || frame.vector == kVectorProtection || frame.vector == kVectorNotPresent;
  if (expected && fix_up(frame)) return;
  fatal_trap(frame, exception_name(frame.vector));
}

void handle_irq(u32 irq, IrqsOff off) {
  if (irq_is_spurious(irq)) return;
  ++irq_counts.local().taken[irq];
  if (irq_handlers[irq] != nullptr) irq_handlers[irq](off);
  end_of_interrupt(irq);
}

}  // namespace

namespace {

constinit UserFaultHandler user_fault_handler = nullptr;

bool has_fix_up(u32 eip) {
  for (const u32* pair = __start_fixups; pair != __stop_fixups; pair += 2) {
    if (pair[0] == eip) return true;
  }
  return false;
}

/// A copy to or from user memory that may sleep for its page. Runs as part of the thread, so not inside HandlerCheck:
/// it may come back on another CPU.
bool handle_user_fault(const TrapFrame& frame) {
  const VirtAddr address{read_cr2()};
  if (frame.from_user() || user_fault_handler == nullptr || (frame.eflags & kEflagsIf) == 0) return false;
  if (!may_handle_user_fault() || !has_fix_up(frame.eip)) return false;
  enable_irqs();
  const bool handled = user_fault_handler(address, frame.error);
  disable_irqs();
  return handled;
}

void handle_interrupt(const TrapFrame& frame, IrqsOff off) {
  if (frame.vector < kVectorIrqBase + kIsaIrqs) return handle_irq(frame.vector - kVectorIrqBase, off);
  if (const u32 local = frame.vector - kFirstLocalVector; local < kLocalVectors && local_handlers[local] != nullptr) {
    if (frame.vector == kVectorTimer) ++irq_counts.local().taken[kIsaIrqs];
    end_of_local_interrupt();
    local_handlers[local](off);
    return;
  }
  if (frame.vector == kVectorSpurious) return;  // by definition without an end-of-interrupt
  fatal_trap(frame, "unexpected interrupt vector");
}

/// Comes whatever this CPU is doing, with interrupts off and locks held too, so it touches nothing but two words of its
/// own. HLT ends with it: see cpu_idle().
void handle_nmi(const TrapFrame& frame) {
  nmi_counts.set(nmi_counts.get() + 1);
  if (const NmiWatcher watcher = __atomic_load_n(&nmi_watcher, __ATOMIC_ACQUIRE); watcher != nullptr) watcher(frame);
}

/// What a handler must leave as it found it, beside the count of interrupt_begins(): its temporary maps and the
/// interrupt flag, which no gate lets in set.
class HandlerCheck {
 public:
  explicit HandlerCheck(const TrapFrame& frame) : frame_(frame), windows_(fix_next.get()) { ASSERT(!irqs_enabled()); }
  ~HandlerCheck() {
    if (irqs_enabled()) panic("the handler of vector {} turned interrupts on", frame_.vector);
    if (fix_next.get() > windows_) panic("the handler of vector {} leaves temporary maps", frame_.vector);
    if (fix_next.get() < windows_) panic("the handler of vector {} has undone maps that it found", frame_.vector);
  }
  HandlerCheck(const HandlerCheck&) = delete;
  HandlerCheck& operator=(const HandlerCheck&) = delete;

 private:
  const TrapFrame& frame_;
  u32 windows_;
};

/// What a user did is the user's affair, and handling it may sleep.
void handle_user_exception(TrapFrame& frame) {
  const VirtAddr address{read_cr2()};
  enable_irqs();
  on_user_exception(frame, address);
  disable_irqs();
  before_user_return(frame);
}

}  // namespace

extern "C" void trap_dispatch(TrapFrame* frame) {
  if (frame->vector == kVectorNmi) return handle_nmi(*frame);
  end_user_access();  // whatever the interrupted code may touch, handlers and other threads may not
  const bool from_user = frame->from_user();
  if (from_user && frame->vector < kVectorIrqBase) return handle_user_exception(*frame);
  if (frame->vector == kVectorPageFault && handle_user_fault(*frame)) return;
  u32 preemption;
  {
    const HandlerCheck check{*frame};
    if (frame->vector < kVectorIrqBase) return handle_exception(*frame);
    ASSERT((frame->eflags & kEflagsIf) != 0);
    if (!cpu_is_idle.is_zero()) tlb_leave_idle();
    preemption = interrupt_begins();
    handle_interrupt(*frame, IrqsOff::assume());
  }
  interrupt_ends(preemption);
  if (from_user) before_user_return(*frame);
}

/// Runs as a task: the registers at the fault are in the task that was interrupted.
extern "C" void double_fault_main() {
  const TaskState& at = interrupted_task();
  TrapFrame frame{};
  frame.gs = at.gs, frame.fs = at.fs, frame.es = at.es, frame.ds = at.ds;
  frame.edi = at.edi, frame.esi = at.esi, frame.ebp = at.ebp, frame.ebx = at.ebx;
  frame.edx = at.edx, frame.ecx = at.ecx, frame.eax = at.eax;
  frame.vector = kVectorDoubleFault;
  frame.eip = at.eip, frame.cs = at.cs | 3, frame.eflags = at.eflags;  // | 3: ESP and SS are in the frame
  frame.user_esp = at.esp, frame.user_ss = at.ss;
  asm volatile("movl %%cr0, %%eax; andl $~8, %%eax; movl %%eax, %%cr0" ::: "eax");  // a task switch sets TS
  fatal_trap(frame, exception_name(kVectorDoubleFault));
}

void set_user_fault_handler(UserFaultHandler handler) { user_fault_handler = handler; }

void init_idt() {
  for (u32 vector = 0; vector < 256; ++vector) {
    const u32 at = reinterpret_cast<u32>(trap_stubs) + vector * kStubSize;
    idt[vector] = Gate{static_cast<u16>(at), kSelectorCode, 0, kInterruptGate, static_cast<u16>(at >> 16)};
  }
  idt[kVectorBreakpoint].type = idt[kVectorOverflow].type = kUserGate;
  const u32 call = reinterpret_cast<u32>(system_call_entry);
  idt[kVectorSystemCall] = Gate{static_cast<u16>(call), kSelectorCode, 0, kUserGate, static_cast<u16>(call >> 16)};
  idt[kVectorDoubleFault] = Gate{0, kSelectorDoubleFault, 0, kTaskGate, 0};
  load_idt();
}

void load_idt() {
  const DescriptorPointer pointer{sizeof idt - 1, reinterpret_cast<u32>(idt)};
  asm volatile("lidt %0" ::"m"(pointer));
}

std::string_view exception_name(u32 vector) {
  static constexpr std::string_view kNames[] = {"#DE divide error",
                                                "#DB debug",
                                                "NMI",
                                                "#BP breakpoint",
                                                "#OF overflow",
                                                "#BR bound range",
                                                "#UD invalid opcode",
                                                "#NM device not available",
                                                "#DF double fault",
                                                "coprocessor overrun",
                                                "#TS invalid TSS",
                                                "#NP segment not present",
                                                "#SS stack segment fault",
                                                "#GP general protection",
                                                "#PF page fault",
                                                "vector 15",
                                                "#MF x87 error",
                                                "#AC alignment check",
                                                "#MC machine check",
                                                "#XM SIMD error",
                                                "#VE virtualization",
                                                "#CP control protection"};
  return vector < std::size(kNames) ? kNames[vector] : "reserved exception";
}

void set_irq_handler(u32 irq, IrqHandler handler, IrqTrigger trigger) {
  ASSERT(irq < kIsaIrqs);
  irq_handlers[irq] = handler;
  enable_irq_line(irq, trigger);
}

bool has_irq_handler(u32 irq) { return irq < kIsaIrqs && irq_handlers[irq] != nullptr; }

IrqHandler set_local_handler(u32 vector, IrqHandler handler) {
  ASSERT(vector - kFirstLocalVector < kLocalVectors);
  return __atomic_exchange_n(&local_handlers[vector - kFirstLocalVector], handler, __ATOMIC_ACQ_REL);
}

void watch_nmis(NmiWatcher watcher) { __atomic_store_n(&nmi_watcher, watcher, __ATOMIC_RELEASE); }

u32 nmi_count_on(u32 cpu) { return nmi_counts.on(cpu); }

u32 take_unasked_nmis() {
  const u32 count = nmi_counts.get(), unreported = count - nmis_reported.get();
  nmis_reported.set(count);
  return __atomic_load_n(&nmi_watcher, __ATOMIC_RELAXED) == nullptr ? unreported : 0;
}

u32 irq_count_on(u32 cpu, u32 irq) { return irq <= kIsaIrqs ? irq_counts.on(cpu).taken[irq] : 0; }

u32 irq_count(u32 irq) { return irq <= kIsaIrqs ? irq_counts.local().taken[irq] : 0; }

Result<u32> probe_read(VirtAddr va) {
  u32 value = 0;
  if (probe_load(va.raw(), &value) != 0) return std::unexpected(Error::NotFound);
  return value;
}

Result<> probe_write(VirtAddr va, u32 value) {
  if (probe_store(va.raw(), value) != 0) return std::unexpected(Error::NotFound);
  return {};
}

Result<> probe_execute(VirtAddr va) {
  const IrqsOffGuard guard;
  probe_target.local() = va.raw();
  probe_running.local() = 1;
  const bool refused = probe_call(va.raw()) != 0;
  probe_running.local() = 0;
  if (refused) return std::unexpected(Error::NotFound);
  return {};
}

u32 last_probe_error() { return probe_error.local(); }

}  // namespace paean::arch
