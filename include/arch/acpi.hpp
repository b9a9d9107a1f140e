// The few facts that this kernel takes from ACPI: interrupt controllers and CPUs (MADT), the power switch (FADT, _S5_).
//
// Tables come from firmware and may be garbage: every length is bounded, every checksum verified; a bad table counts
// as absent and is named in the log. Nothing is interpreted beyond fixed fields; there is no AML interpreter.
// Source: ACPI specification 6.5, chapters 5 and 7.
#pragma once

#include "lib/addr.hpp"

namespace paean::arch {

inline constexpr u32 kMaxIoApics = 8, kMaxListedCpus = 64;

struct IoApicFact {
  u32 address;
  u32 first_gsi;
};
struct CpuFact {
  u8 apic_id;
  bool usable;
};
struct InterruptOverride {
  u32 gsi = 0;
  u16 flags = 0;  // MPS: bits 0-1 polarity (3 = active low), bits 2-3 trigger (3 = level)
  bool given = false;
};

struct MadtFacts {
  bool found = false;
  u32 lapic_address = 0;
  u32 ioapic_count = 0;
  IoApicFact ioapics[kMaxIoApics]{};
  u32 cpu_count = 0;
  CpuFact cpus[kMaxListedCpus]{};
  InterruptOverride overrides[16]{};
};

/// Finds and reads the tables; boot CPU, once.
void init_acpi();
const MadtFacts& madt();

/// Parses a MADT that lies in memory. Pure. False if it is malformed; facts read until then stay.
bool parse_madt(const u8* table, u32 length, MadtFacts& facts);

/// Sleep state S5. Returns if ACPI does not say how.
void acpi_power_off();

}  // namespace paean::arch
