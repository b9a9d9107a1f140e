#include "arch/acpi.hpp"

#include "arch/fixmap.hpp"
#include "arch/port.hpp"
#include "lib/log.hpp"

namespace paean::arch {

namespace {

constexpr u32 kHeaderSize = 36;
constexpr u32 kMaxTable = 8192;  // a MADT of 255 CPUs is 2 KiB
constexpr u32 kMaxTables = 64;
constexpr u32 kMaxDsdtScan = 256 * 1024;

constinit u8 table_buffer[kMaxTable];
constinit MadtFacts madt_facts{};

struct PowerFacts {
  bool known = false;
  u16 control_port = 0;
  u16 sleep_type = 0;
};
constinit PowerFacts power{};

u32 read32(const u8* at) {
  u32 value;
  __builtin_memcpy(&value, at, sizeof value);
  return value;
}

bool sums_to_zero(const u8* bytes, u32 length) {
  u8 sum = 0;
  for (u32 i = 0; i < length; ++i) sum = static_cast<u8>(sum + bytes[i]);
  return sum == 0;
}

bool signature_is(const u8* at, const char* signature, u32 length) {
  return __builtin_memcmp(at, signature, length) == 0;
}

/// The root pointer lies on a 16-byte boundary in the first KiB of the EBDA or in the BIOS area.
bool find_root_in(PhysAddr from, u32 bytes, u8 (&root)[36]) {
  for (u32 offset = 0; offset + 36 <= bytes; offset += 16) {
    const FixWindow window{from + offset};
    const u8* at = window.bytes() + (from + offset).page_offset();
    if (!signature_is(at, "RSD PTR ", 8)) continue;
    copy_from_physical(root, from + offset, sizeof root);
    if (sums_to_zero(root, 20)) return true;
  }
  return false;
}

bool find_root(u8 (&root)[36]) {
  u16 ebda_segment = 0;
  copy_from_physical(&ebda_segment, PhysAddr{0x40e}, sizeof ebda_segment);
  const PhysAddr ebda{u64{ebda_segment} << 4};
  if (ebda >= PhysAddr{0x80000} && ebda < PhysAddr{0xa0000} && find_root_in(ebda, 1024, root)) return true;
  return find_root_in(PhysAddr{0xe0000}, 0x20000, root);
}

/// Copies a table into table_buffer if its length and checksum are right.
u32 load_table(PhysAddr at) {
  u8 header[kHeaderSize];
  copy_from_physical(header, at, sizeof header);
  const u32 length = read32(header + 4);
  if (length < kHeaderSize || length > kMaxTable) return 0;
  copy_from_physical(table_buffer, at, length);
  return sums_to_zero(table_buffer, length) ? length : 0;
}

/// Looks in the DSDT for `_S5_`, a package whose first element is the sleep type. AML: NameOp, name, PackageOp,
/// package length (1-4 bytes), element count, then an integer constant.
void find_sleep_type(PhysAddr dsdt) {
  u8 header[kHeaderSize];
  copy_from_physical(header, dsdt, sizeof header);
  const u32 length = read32(header + 4);
  if (!signature_is(header, "DSDT", 4) || length <= kHeaderSize || length > kMaxDsdtScan) return;
  constexpr u32 kStep = 512, kOverlap = 16;
  for (u32 offset = kHeaderSize; offset < length; offset += kStep) {
    u8 piece[kStep + kOverlap]{};
    const u32 here = length - offset < sizeof piece ? length - offset : sizeof piece;
    copy_from_physical(piece, dsdt + offset, here);
    for (u32 i = 0; i < kStep && i + 12 <= here; ++i) {
      if (!signature_is(piece + i, "_S5_", 4) || piece[i + 4] != 0x12) continue;
      const u8* p = piece + i + 5;
      p += 1 + (p[0] >> 6);  // package length
      ++p;                   // element count
      if (*p == 0x0a) ++p;   // byte constant; 0 and 1 stand for themselves
      power.sleep_type = static_cast<u16>((*p & 7) << 10);
      power.known = power.control_port != 0;
      return;
    }
  }
}

void use_fadt(const u8* table, u32 length) {
  if (length < 68) return;
  power.control_port = static_cast<u16>(read32(table + 64));
  find_sleep_type(PhysAddr{read32(table + 40)});
}

void use_table(PhysAddr at) {
  u8 signature[4];
  copy_from_physical(signature, at, sizeof signature);
  const bool is_madt = signature_is(signature, "APIC", 4), is_fadt = signature_is(signature, "FACP", 4);
  if (!is_madt && !is_fadt) return;
  const u32 length = load_table(at);
  if (length == 0) {
    log_warning("ACPI: table {} at {:#x} has a bad length or checksum, ignored", is_madt ? "MADT" : "FADT", at);
    return;
  }
  if (is_fadt) return use_fadt(table_buffer, length);
  if (!parse_madt(table_buffer, length, madt_facts))
    log_warning("ACPI: the MADT is malformed, using its readable part");
}

}  // namespace

void init_acpi() {
  u8 root[36];
  if (!find_root(root)) {
    log_info("ACPI: no root pointer, using the PIC and one CPU");
    return;
  }
  const u64 xsdt = u64{read32(root + 24)} | (u64{read32(root + 28)} << 32);
  const bool extended = root[15] >= 2 && xsdt != 0 && xsdt < (1ull << 32) && sums_to_zero(root, 36);
  const PhysAddr list{extended ? xsdt : read32(root + 16)};
  const u32 length = load_table(list), width = extended ? 8 : 4;
  if (length == 0) {
    log_warning("ACPI: the root table at {:#x} has a bad length or checksum, ignored", list);
    return;
  }
  PhysAddr tables[kMaxTables];
  u32 count = 0;
  for (u32 at = kHeaderSize; at + width <= length && count < kMaxTables; at += width) {
    const u64 high = extended ? read32(table_buffer + at + 4) : 0;
    if (high == 0) tables[count++] = PhysAddr{read32(table_buffer + at)};
  }
  for (u32 i = 0; i < count; ++i) use_table(tables[i]);
}

const MadtFacts& madt() { return madt_facts; }

void acpi_power_off() {
  constexpr u16 kSleepEnable = 1u << 13;
  if (power.known) out16(power.control_port, power.sleep_type | kSleepEnable);
}

}  // namespace paean::arch
