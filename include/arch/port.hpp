// Port I/O. Any context; what a port means is the caller's business.
//
// A port may make a device look into memory, or tell that it has written there: the compiler moves no access to memory
// across one. The processor does not either.
#pragma once

#include "lib/types.hpp"

namespace paean::arch {

[[gnu::always_inline]] inline u8 in8(u16 port) {
  u8 value;
  asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
  return value;
}
[[gnu::always_inline]] inline u16 in16(u16 port) {
  u16 value;
  asm volatile("inw %1, %0" : "=a"(value) : "Nd"(port) : "memory");
  return value;
}
[[gnu::always_inline]] inline u32 in32(u16 port) {
  u32 value;
  asm volatile("inl %1, %0" : "=a"(value) : "Nd"(port) : "memory");
  return value;
}
[[gnu::always_inline]] inline void out8(u16 port, u8 value) {
  asm volatile("outb %0, %1" ::"a"(value), "Nd"(port) : "memory");
}
[[gnu::always_inline]] inline void out16(u16 port, u16 value) {
  asm volatile("outw %0, %1" ::"a"(value), "Nd"(port) : "memory");
}
[[gnu::always_inline]] inline void out32(u16 port, u32 value) {
  asm volatile("outl %0, %1" ::"a"(value), "Nd"(port) : "memory");
}

/// About a microsecond, by writing a port that nobody listens to.
[[gnu::always_inline]] inline void io_delay() { out8(0x80, 0); }

}  // namespace paean::arch
