// The entries of a MADT. Pure: tests/host/madt_test.cpp and tests/fuzz/madt_fuzz.cpp have it on the host.
#include "arch/acpi.hpp"

namespace paean::arch {

namespace {

u32 read32(const u8* at) {
  u32 value;
  __builtin_memcpy(&value, at, sizeof value);
  return value;
}
u16 read16(const u8* at) { return static_cast<u16>(at[0] | (at[1] << 8)); }

}  // namespace

bool parse_madt(const u8* table, u32 length, MadtFacts& facts) {
  constexpr u32 kFirstEntry = 44;
  if (length < kFirstEntry) return false;
  facts.found = true;
  facts.lapic_address = read32(table + 36);
  for (u32 offset = kFirstEntry; offset < length;) {
    if (length - offset < 2) return false;
    const u8* entry = table + offset;
    const u32 size = entry[1];
    if (size < 2 || size > length - offset) return false;
    if (entry[0] == 0 && size >= 8) {
      const bool usable = (entry[4] & 1) != 0;
      if (facts.cpu_count < kMaxListedCpus) facts.cpus[facts.cpu_count++] = CpuFact{entry[3], usable};
    } else if (entry[0] == 1 && size >= 12) {
      if (facts.ioapic_count < kMaxIoApics) {
        facts.ioapics[facts.ioapic_count++] = IoApicFact{read32(entry + 4), read32(entry + 8)};
      }
    } else if (entry[0] == 2 && size >= 10 && entry[3] < 16) {
      facts.overrides[entry[3]] = InterruptOverride{read32(entry + 4), read16(entry + 8), true};
    }
    offset += size;
  }
  return true;
}

}  // namespace paean::arch
