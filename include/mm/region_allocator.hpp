// Memory before there is an allocator: whole pages taken out of the memory map, each with a reason.
//
// The state is one table of reservations beside the MemoryMap. Free is what the map calls Usable and no reservation
// covers, so that free + reserved = usable holds by construction:
//
//   map            [ Usable                                   )    [ Usable        )
//   reservations      [ KernelImage )[ FrameWords )         [ Firmware )
//   for_each_free  [ )                             [        )           [          )
//
// Reservations stay for ever. At the hand-over the buddy allocator gets every range of for_each_free(), and the ledger
// reserved_bytes() of every reason.
//
// Owner: the boot CPU, until the hand-over. No locks. Memory: the table in the object, about 20 KB. Units: bytes,
// always multiples of 4096. Source of the idea: memblock.
#pragma once

#include "mm/memory_map.hpp"

namespace paean {

/// Who took boot memory. Printed by `iomem` and in the ledger of lowmem.
enum class BootReason : u8 {
  KernelImage,
  PageTables,
  FrameWords,
  BuddyBitmaps,
  PerCpu,
  BootInfo,
  Firmware,  // the BIOS area
  Modules,
  AcpiTables,
  Partial,  // usable bytes lost to page rounding; counted by the MemoryMap, never a reservation
};
inline constexpr u32 kBootReasonCount = 10;

std::string_view name(BootReason reason);

enum class Direction : u8 { BottomUp, TopDown };

class RegionAllocator {
 public:
  static constexpr usize kCapacity = 1024;
  using Table = RangeTable<BootReason, kCapacity>;
  using Reservation = Table::Entry;  // begin, end, tag (the reason)

  /// The map must outlive the allocator and be sealed. It may be clipped later, but not given more usable memory.
  constexpr explicit RegionAllocator(const MemoryMap& map) : map_(map) {}

  /// Takes a range, grown to whole pages, whether it is usable or not. What is reserved already keeps its reason.
  /// Error::InvalidArgument: it ends before it begins, or the reason is Partial. Error::TooLarge: the table is full.
  /// Nothing is changed then.
  [[nodiscard]] Result<> reserve(PhysRange range, BootReason reason);

  /// Finds room for `bytes` (rounded up to pages) inside [low, high), aligned to `align` (a power of two; less than a
  /// page counts as one), reserves it and returns where it begins.
  /// Error::InvalidArgument: no bytes, a bad alignment, or Partial. Error::OutOfMemory: no such room. Error::TooLarge:
  /// the table is full.
  [[nodiscard]] Result<PhysAddr> allocate(u64 bytes, u64 align, PhysRange window, Direction direction,
                                          BootReason reason);

  /// fn(PhysAddr begin, PhysAddr end) for each free range in address order. fn must not call the allocator.
  template <typename Fn>
  void for_each_free(Fn fn) const {
    for (std::optional<PhysRange> room = next_free(PhysAddr{0}); room; room = next_free(room->end)) {
      fn(room->begin, room->end);
    }
  }

  /// fn(PhysAddr begin, PhysAddr end, BootReason) for each reservation in address order, usable memory or not.
  template <typename Fn>
  void for_each_reserved(Fn fn) const {
    for (const Reservation& entry : table_.entries()) fn(entry.begin, entry.end, entry.tag);
  }

  /// Usable bytes that this reason holds. The sum over all reasons plus free_bytes() is what the firmware called
  /// usable, less what was clipped.
  u64 reserved_bytes(BootReason reason) const;
  u64 free_bytes() const;

  /// The first free range that ends above `from`, without what lies below `from`.
  std::optional<PhysRange> next_free(PhysAddr from) const;

 private:
  const MemoryMap& map_;
  Table table_{};
};

}  // namespace paean
