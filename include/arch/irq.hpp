// The interrupt flag of this CPU, and proofs in the type system that it is off.
//
// A function that must run with interrupts off takes an `IrqsOff` argument; the only ways to get one are the guards
// here (and the trap entry code). Cost of a guard: five instructions.
#pragma once

#include "lib/types.hpp"

namespace paean::arch {

inline constexpr u32 kEflagsIf = 1u << 9;

inline u32 read_eflags() {
  u32 flags;
  asm volatile("pushfl; popl %0" : "=r"(flags));
  return flags;
}

inline bool irqs_enabled() { return (read_eflags() & kEflagsIf) != 0; }
inline void enable_irqs() { asm volatile("sti" ::: "memory"); }
inline void disable_irqs() { asm volatile("cli" ::: "memory"); }

/// Saves the flag and turns interrupts off. Pair with restore_irqs().
inline u32 save_and_disable_irqs() {
  u32 flags;
  asm volatile("pushfl; popl %0; cli" : "=r"(flags)::"memory");
  return flags;
}

/// Puts the whole of EFLAGS back, which is cheaper than a branch on the interrupt flag.
inline void restore_irqs(u32 flags) { asm volatile("pushl %0; popfl" ::"r"(flags) : "memory", "cc"); }

/// Waits for an interrupt. `sti; hlt` is one unit for the CPU: no interrupt is lost between the two.
inline void wait_for_irq() { asm volatile("sti; hlt" ::: "memory"); }

/// A spinning CPU says so: saves power, and lets the other CPU run under emulators.
inline void cpu_relax() { asm volatile("pause" ::: "memory"); }

/// Proof that interrupts are off on this CPU. Passed by value, never stored.
class IrqsOff {
 public:
  /// For code that knows from its context: trap entry and early boot.
  static constexpr IrqsOff assume() { return IrqsOff{}; }

 private:
  friend class IrqsOffGuard;
  constexpr IrqsOff() = default;
};

/// Interrupts off for a scope; nests.
class [[nodiscard]] IrqsOffGuard {
 public:
  IrqsOffGuard() : flags_(save_and_disable_irqs()) {}
  ~IrqsOffGuard() { restore_irqs(flags_); }
  IrqsOffGuard(const IrqsOffGuard&) = delete;
  IrqsOffGuard& operator=(const IrqsOffGuard&) = delete;
  IrqsOff token() const { return IrqsOff{}; }

 private:
  u32 flags_;
};

}  // namespace paean::arch
