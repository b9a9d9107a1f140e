// Preemption of this CPU's thread, switched off for a scope.
//
// A counter per CPU: the scheduler switches threads only while it is zero. Interrupts stay on. Nests. A thread that has
// preemption off stays on its CPU and may use per-CPU data that interrupts do not touch; it must not sleep.
// Cost: two instructions, and a test at the end.
//
//   preempt_count   0-15  scopes with preemption off, spin locks held
//                  16-31  interrupt handlers that are running
#pragma once

#include "arch/percpu.hpp"

namespace paean {

/// Zero: the running thread may be switched away. Also counted up by interrupt entry and by spin locks.
extern arch::PerCpu<u32> preempt_count;
/// Not zero: somebody of higher priority, or the end of a time slice, waits for preempt_count to become zero.
extern arch::PerCpu<u32> need_resched;
/// Not zero: the running thread is in the middle of per-CPU data that it claimed with one instruction (the page
/// stacks). It is not switched away meanwhile; whoever waits gets the CPU at the next interrupt.
extern arch::PerCpu<u32> percpu_claims;

inline constexpr u32 kInterruptCount = 1u << 16;

/// Switches threads now if somebody waits for it and the context allows it; otherwise does nothing. Any context.
void preempt_check();

inline void preempt_disable() { asm volatile("incl %%fs:%0" : "+m"(preempt_count)::"memory"); }
/// Without looking whether somebody waits: for code that goes on to sleep or is about to be interrupted anyway.
inline void preempt_enable_no_check() { asm volatile("decl %%fs:%0" : "+m"(preempt_count)::"memory"); }
inline void preempt_enable() {
  bool zero;
  asm volatile("decl %%fs:%1" : "=@ccz"(zero), "+m"(preempt_count)::"memory");
  if (zero && !need_resched.is_zero()) [[unlikely]]
    preempt_check();
}

/// Around every interrupt handler. Context: interrupts off.
inline void enter_interrupt() {
  asm volatile("addl %1, %%fs:%0" : "+m"(preempt_count) : "i"(kInterruptCount) : "memory", "cc");
}
inline void leave_interrupt() {
  asm volatile("subl %1, %%fs:%0" : "+m"(preempt_count) : "i"(kInterruptCount) : "memory", "cc");
}
/// True inside an interrupt handler.
inline bool in_interrupt() { return preempt_count.get() >= kInterruptCount; }

class [[nodiscard]] PreemptGuard {
 public:
  PreemptGuard() { preempt_disable(); }
  ~PreemptGuard() { preempt_enable(); }
  PreemptGuard(const PreemptGuard&) = delete;
  PreemptGuard& operator=(const PreemptGuard&) = delete;
};

/// True where sleeping is a mistake: in an interrupt, with preemption off, or with interrupts off.
bool in_atomic_context();
/// Panics with the caller's words if so. Call first in everything that may sleep.
void might_sleep(const char* what);

}  // namespace paean
