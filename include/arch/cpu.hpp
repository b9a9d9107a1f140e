// The processor: control registers, model-specific registers, CPUID features.
#pragma once

#include "lib/addr.hpp"

namespace paean::arch {

inline constexpr u32 kCr0Pe = 1u << 0, kCr0Mp = 1u << 1, kCr0Em = 1u << 2, kCr0Ts = 1u << 3, kCr0Ne = 1u << 5;
inline constexpr u32 kCr0Wp = 1u << 16, kCr0Nw = 1u << 29, kCr0Cd = 1u << 30, kCr0Pg = 1u << 31;
inline constexpr u32 kCr4Pse = 1u << 4, kCr4Pae = 1u << 5, kCr4Pge = 1u << 7, kCr4Smep = 1u << 20, kCr4Smap = 1u << 21;

inline constexpr u32 kMsrApicBase = 0x1b, kMsrMiscEnable = 0x1a0, kMsrEfer = 0xc0000080;
inline constexpr u32 kEferNxe = 1u << 11;
inline constexpr u32 kMiscEnableXdDisableHigh = 1u << 2;  // bit 34: firmware may have hidden NX

#define PAEAN_CONTROL_REGISTER(name)                              \
  [[gnu::always_inline]] inline u32 read_##name() {               \
    u32 value;                                                    \
    asm volatile("movl %%" #name ", %0" : "=r"(value)::"memory"); \
    return value;                                                 \
  }                                                               \
  [[gnu::always_inline]] inline void write_##name(u32 value) {    \
    asm volatile("movl %0, %%" #name ::"r"(value) : "memory");    \
  }
PAEAN_CONTROL_REGISTER(cr0)
PAEAN_CONTROL_REGISTER(cr2)
PAEAN_CONTROL_REGISTER(cr3)
PAEAN_CONTROL_REGISTER(cr4)
#undef PAEAN_CONTROL_REGISTER

[[gnu::always_inline]] inline u64 read_msr(u32 index) {
  u32 low, high;
  asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(index));
  return (u64{high} << 32) | low;
}
[[gnu::always_inline]] inline void write_msr(u32 index, u64 value) {
  asm volatile("wrmsr" ::"c"(index), "a"(static_cast<u32>(value)), "d"(static_cast<u32>(value >> 32)) : "memory");
}

struct CpuidResult {
  u32 eax, ebx, ecx, edx;
};
[[gnu::always_inline]] inline CpuidResult cpuid(u32 leaf, u32 subleaf = 0) {
  CpuidResult r;
  asm volatile("cpuid" : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx) : "a"(leaf), "c"(subleaf));
  return r;
}

/// What this kernel asks of CPUID. Read once on the boot CPU; other CPUs are held to the same set.
struct CpuFeatures {
  char vendor[13];
  char brand[49];
  u8 family, model, stepping;
  u8 physical_bits;  // MAXPHYADDR: 36 if CPUID does not say, until verify_physical_bits() has looked
  bool pae, pge, nx, cx8, pse, tsc, msr, apic, smep, smap, mtrr, hypervisor;
};

CpuFeatures read_cpu_features();
/// The boot CPU's, filled by init_cpu_features().
const CpuFeatures& cpu_features();
void init_cpu_features();
/// Corrects physical_bits where CPUID does not give it. Boot CPU, once traps and fixmap work.
void verify_physical_bits();
/// `assumed`, or 32 if an entry with its highest bit set is a reserved-bit fault.
u8 probe_physical_bits(u8 assumed);

/// Turns on what the CPU has: WP, PGE, SMEP, SMAP. NX is on since the first page table. Each CPU, early.
void enable_protection();

/// Stops this CPU for good.
[[noreturn]] inline void halt_forever() {
  for (;;) asm volatile("cli; hlt");
}

/// The exit protocol of QEMU's isa-debug-exit at port 0xf4; returns if there is no such device.
enum class ExitCode : u8 { Pass = 0x10, Fail = 0x11, Panic = 0x12 };
void debug_exit(ExitCode code);
/// Turns the machine off: debug exit, then ACPI S5, then halts.
[[noreturn]] void power_off(ExitCode code);
[[noreturn]] void reboot();

}  // namespace paean::arch
