#include "arch/cpu.hpp"

#include "arch/acpi.hpp"
#include "arch/fixmap.hpp"
#include "arch/port.hpp"
#include "arch/user.hpp"
#include "arch/user_access.hpp"

namespace paean::arch {

namespace {

constinit CpuFeatures boot_features{};

void put_text(char* to, const CpuidResult& r) {
  const u32 words[4] = {r.eax, r.ebx, r.ecx, r.edx};
  __builtin_memcpy(to, words, sizeof words);
}

void read_extended(CpuFeatures& f) {
  const u32 max = cpuid(0x80000000).eax;
  if (max < 0x80000000 || max > 0x8000ffff) return;  // very old CPUs answer with leaf 0's or with noise
  if (max >= 0x80000001) f.nx = (cpuid(0x80000001).edx & (1u << 20)) != 0;
  if (max >= 0x80000004) {
    for (u32 i = 0; i < 3; ++i) put_text(f.brand + 16 * i, cpuid(0x80000002 + i));
  }
  if (max >= 0x80000008) f.physical_bits = static_cast<u8>(cpuid(0x80000008).eax);
}

}  // namespace

CpuFeatures read_cpu_features() {
  CpuFeatures f{};
  const CpuidResult zero = cpuid(0), one = cpuid(1);
  const u32 vendor[3] = {zero.ebx, zero.edx, zero.ecx};
  __builtin_memcpy(f.vendor, vendor, sizeof vendor);
  const u32 family = (one.eax >> 8) & 15;
  f.family = static_cast<u8>(family == 15 ? family + ((one.eax >> 20) & 255) : family);
  f.model = static_cast<u8>(((one.eax >> 4) & 15) | ((one.eax >> 12) & 0xf0));
  f.stepping = static_cast<u8>(one.eax & 15);
  f.pse = (one.edx & (1u << 3)) != 0;
  f.tsc = (one.edx & (1u << 4)) != 0;
  f.msr = (one.edx & (1u << 5)) != 0;
  f.pae = (one.edx & (1u << 6)) != 0;
  f.cx8 = (one.edx & (1u << 8)) != 0;
  f.apic = (one.edx & (1u << 9)) != 0;
  f.mtrr = (one.edx & (1u << 12)) != 0;
  f.pge = (one.edx & (1u << 13)) != 0;
  f.hypervisor = (one.ecx & (1u << 31)) != 0;
  if (zero.eax >= 7) {
    const u32 ebx = cpuid(7).ebx;
    f.smep = (ebx & (1u << 7)) != 0;
    f.smap = (ebx & (1u << 20)) != 0;
  }
  f.physical_bits = 36;  // what PAE meant before CPUID could say more
  read_extended(f);
  if (f.physical_bits < 32 || f.physical_bits > 52) f.physical_bits = 36;
  return f;
}

const CpuFeatures& cpu_features() { return boot_features; }

void init_cpu_features() {
  boot_features = read_cpu_features();
  if (boot_features.nx) leaf_flags_rw |= pte_bits::kNoExecute;
}

void verify_physical_bits() {
  constexpr u32 kWidthLeaf = 0x80000008;
  const u32 max = cpuid(0x80000000).eax;
  if (max >= kWidthLeaf && max <= 0x8000ffff) return;
  boot_features.physical_bits = probe_physical_bits(boot_features.physical_bits);
}

void enable_protection() {
  write_cr0(read_cr0() | kCr0Wp);
  u32 cr4 = read_cr4();
  if (boot_features.pge) cr4 |= kCr4Pge;
  if (boot_features.smep) cr4 |= kCr4Smep;
  if (boot_features.smap) cr4 |= kCr4Smap;
  user_access_guarded = boot_features.smap ? 1 : 0;
  write_cr4(cr4);
  enable_fpu();
}

void debug_exit(ExitCode code) { out8(0xf4, static_cast<u8>(code)); }

void power_off(ExitCode code) {
  debug_exit(code);
  acpi_power_off();
  halt_forever();
}

void reboot() {
  for (u32 tries = 0; tries < 100000 && (in8(0x64) & 2) != 0; ++tries) io_delay();
  out8(0x64, 0xfe);  // the keyboard controller pulls the reset line
  for (u32 tries = 0; tries < 100000; ++tries) io_delay();
  out8(0xcf9, 0x06);  // the chipset's reset register
  for (u32 tries = 0; tries < 100000; ++tries) io_delay();
  struct [[gnu::packed]] {
    u16 limit;
    u32 base;
  } none{0, 0};
  asm volatile("lidt %0; int3" ::"m"(none));  // no handler at all: the CPU resets itself
  halt_forever();
}

}  // namespace paean::arch
