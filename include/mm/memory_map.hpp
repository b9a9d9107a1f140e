// What the firmware and the user say physical memory is, made sane.
//
//   firmware entries --add_firmware_entry()--> bytes, any order --seal()--> whole pages --apply_*(), clip()--> final
//
// Rules:
//   - Entries of no length are dropped; entries that pass 2^64 are cut off at kPhysTop. Unknown types are Reserved.
//   - Where entries overlap, the more restrictive kind wins: MemoryKind is in that order.
//   - A page is Usable when every one of its bytes is Usable, and otherwise has the most restrictive kind among its
//     bytes; usable bytes that share a page with a hole or another kind are lost and counted (partial_bytes()).
//   - Page 0 is never Usable: it belongs to the BIOS, and a null pointer is not a page.
//   - At most kMaxFirmwareEntries entries are looked at; the others are counted (ignored_entries()).
//
// Owner: one instance for the kernel, filled on the boot CPU; any number in tests. No locks, no allocation, no logging:
// complaints go to the caller's Sink, one line each, ending in a newline. About 20 KB: keep it off the boot stack.
#pragma once

#include <string_view>

#include "lib/format.hpp"
#include "mm/range_table.hpp"

namespace paean {

/// From the most useful to the most restrictive.
enum class MemoryKind : u8 {
  Usable,       // E820 type 1
  AcpiReclaim,  // 3: tables that could be copied out; we leave them where they are
  AcpiNvs,      // 4: belongs to the firmware for ever
  Persistent,   // 7 and 12: survives a reboot, so it is not ours to scribble on
  Reserved,     // 2, and every type that we do not know
  Bad,          // 5: known to be broken
};

/// As /proc/iomem calls it.
std::string_view name(MemoryKind kind);

/// One entry as the firmware gives it; nothing is promised about the numbers.
struct E820Entry {
  u64 base = 0;
  u64 length = 0;
  u32 type = 0;

  constexpr bool operator==(const E820Entry&) const = default;
};

MemoryKind kind_from_e820(u32 type);

class MemoryMap {
 public:
  static constexpr usize kCapacity = 1024;
  static constexpr usize kMaxFirmwareEntries = 256;  // they make at most 511 ranges, so the table cannot overflow
  using Table = RangeTable<MemoryKind, kCapacity>;
  using Entry = Table::Entry;  // begin, end, tag (the kind)

  constexpr MemoryMap() = default;

  /// Adds what one entry says. Only before seal().
  void add_firmware_entry(const E820Entry& entry);
  /// Rounds everything to pages. Exactly once, after the last firmware entry; all that follows works in pages.
  void seal();
  /// The three steps in one: forgets everything, adds the entries, seals.
  void load(std::span<const E820Entry> entries);

  // Edits, after seal().

  /// Usable memory at and above the page of `limit` is forgotten. Returns how many bytes went.
  u64 clip(PhysAddr limit);
  /// Says that a range is of this kind; the more restrictive kind wins as in the firmware's own entries. Usable ranges
  /// shrink to whole pages, others grow. Error::TooLarge: the table is full, nothing was changed.
  [[nodiscard]] Result<> add(PhysRange range, MemoryKind kind);
  /// The same, but the new kind wins. Page 0 still does not become Usable.
  [[nodiscard]] Result<> replace(PhysRange range, MemoryKind kind);
  /// Forgets every range (memmap=exactmap).
  void forget() { table_.clear(); }

  // Queries.

  /// Sorted, disjoint, merged.
  std::span<const Entry> ranges() const { return table_.entries(); }
  /// nullopt in a hole.
  std::optional<MemoryKind> kind_at(PhysAddr addr) const { return table_.at(addr); }
  /// Bytes of this kind inside `window`.
  u64 bytes(MemoryKind kind, PhysRange window = {PhysAddr{0}, kPhysTop}) const;
  u64 usable_bytes() const { return bytes(MemoryKind::Usable); }
  u64 usable_bytes_below(PhysAddr limit) const { return bytes(MemoryKind::Usable, {PhysAddr{0}, limit}); }
  u64 usable_bytes_from(PhysAddr limit) const { return bytes(MemoryKind::Usable, {limit, kPhysTop}); }
  /// Where the highest usable range ends; 0 if there is none.
  PhysAddr last_usable_end() const;
  /// Usable bytes lost to page rounding at seal().
  u64 partial_bytes() const { return partial_bytes_; }
  /// Firmware entries beyond kMaxFirmwareEntries.
  u32 ignored_entries() const { return ignored_entries_; }

 private:
  enum class Stage : u8 { Open, Sealed };

  void protect_page_zero();

  Table table_{};
  u64 partial_bytes_ = 0;
  u32 firmware_entries_ = 0;
  u32 ignored_entries_ = 0;
  Stage stage_ = Stage::Open;
};

/// One value of `memmap=`, a comma list of: nn@ss usable, nn#ss ACPI data, nn$ss reserved, nn (as mem=nn), exactmap.
/// As on Linux, nn@ss fills holes but does not override what is reserved; only exactmap makes room for that. Elements
/// that make no sense are named in `complaints` and skipped.
void apply_memmap_option(MemoryMap& map, std::string_view value, Sink& complaints);

/// The value of `mem=`: usable memory from that address on is not used. Returns the bytes that went.
u64 apply_mem_option(MemoryMap& map, std::string_view value, Sink& complaints);

}  // namespace paean
