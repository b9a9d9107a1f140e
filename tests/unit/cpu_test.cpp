// What the kernel believes about its CPU is what CPUID says.
#include "arch/cpu.hpp"

#include "access.hpp"
#include "arch/interrupts.hpp"

namespace paean {

namespace {

constexpr bool bit(u32 word, u32 index) { return ((word >> index) & 1) != 0; }

}  // namespace

KTEST(cpu, features_are_those_of_cpuid) {
  const arch::CpuFeatures& f = arch::cpu_features();
  const arch::CpuidResult basic = arch::cpuid(1);
  EXPECT_EQ(f.pse, bit(basic.edx, 3));
  EXPECT_EQ(f.tsc, bit(basic.edx, 4));
  EXPECT_EQ(f.msr, bit(basic.edx, 5));
  EXPECT_EQ(f.pae, bit(basic.edx, 6));
  EXPECT_EQ(f.cx8, bit(basic.edx, 8));
  EXPECT_EQ(f.apic, bit(basic.edx, 9));
  EXPECT_EQ(f.mtrr, bit(basic.edx, 12));
  EXPECT_EQ(f.pge, bit(basic.edx, 13));
  EXPECT_EQ(f.hypervisor, bit(basic.ecx, 31));
  EXPECT(f.pae && f.cx8);
}

KTEST(cpu, extended_features_are_those_of_cpuid) {
  const arch::CpuFeatures& f = arch::cpu_features();
  const u32 most = arch::cpuid(0x80000000).eax;
  const bool extended = most >= 0x80000001 && most < 0x80010000;
  EXPECT_EQ(f.nx, extended && bit(arch::cpuid(0x80000001).edx, 20));
  const u32 leaves = arch::cpuid(0).eax;
  EXPECT_EQ(f.smep, leaves >= 7 && bit(arch::cpuid(7).ebx, 7));
  EXPECT_EQ(f.smap, leaves >= 7 && bit(arch::cpuid(7).ebx, 20));
}

KTEST(cpu, physical_bits_are_sane) {
  const arch::CpuFeatures& f = arch::cpu_features();
  const u32 most = arch::cpuid(0x80000000).eax;
  if (most >= 0x80000008 && most < 0x80010000)
    EXPECT_EQ(f.physical_bits, arch::cpuid(0x80000008).eax & 0xff);
  else
    EXPECT_EQ(f.physical_bits, 36);
  EXPECT(f.physical_bits >= 32 && f.physical_bits <= 52);
  // No frame of ours lies beyond what the CPU can say.
  EXPECT(to_phys(frame_limit()) <= PhysAddr{u64{1} << f.physical_bits});
}

KTEST(cpu, vendor_is_text) {
  const std::string_view vendor{arch::cpu_features().vendor};
  EXPECT_EQ(vendor.size(), 12);
  for (const char c : vendor) EXPECT(c >= ' ' && c <= '~');
  EXPECT(arch::present_cpus() >= 1);
}

}  // namespace paean
