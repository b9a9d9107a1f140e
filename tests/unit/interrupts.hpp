// Interrupts of this CPU that a test causes itself.
#pragma once

#include "arch/interrupts.hpp"
#include "arch/traps.hpp"

namespace paean {

inline constexpr u32 kFreeVector = 0xfe;

/// As an interrupt would call it. Only where arch::using_apic(): the handler is followed by an acknowledgement.
inline void call_as_interrupt(arch::IrqHandler handler) {
  (void)arch::set_local_handler(kFreeVector, handler);
  asm volatile("int %0" : : "i"(kFreeVector) : "memory");
  (void)arch::set_local_handler(kFreeVector, nullptr);
}

}  // namespace paean
