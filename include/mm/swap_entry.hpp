// What a page-table entry holds while its page is in the swap.
//
//   63    52 51                      12 11 10   9    5   1   0
//   |   0   | all bits of ~slot        | 0 | 1 | 0 | 0 | area | 0 |
//
// Not present, so the CPU ignores the rest, or should: one that guesses ahead reads the address bits of entries that
// are not present as well (L1TF, CVE-2018-3620). So they are inverted. A slot number has few of its 40 bits set, and
// what stands there is an address at the end of what 52 bits can say: no memory, and none in the 44 bits either that
// some CPUs look at. Bit 10 tells the entry from one that is hidden (mm/user_gather.hpp) and keeps its low half, which
// is what says "in use", from being zero. All 64 bits belong to it: no other code may read an address out of it.
// Pure. Source: Linux's inverted swap entries; two of its bugs on PAE were halves of this.
#pragma once

#include "arch/pte.hpp"
#include "lib/assert.hpp"

namespace paean {

class SwapEntry {
 public:
  static constexpr u32 kMostAreas = 16;
  /// 1 TiB of swap in one area.
  static constexpr u32 kMostSlots = 1u << 28;

  /// Both in range (asserted in DEBUG builds).
  constexpr SwapEntry(u32 area, u32 slot) : area_(area), slot_(slot) {
    DASSERT(area < kMostAreas && slot < kMostSlots);
  }
  /// Precondition: is_swap_entry(value).
  constexpr explicit SwapEntry(arch::PteValue value)
      : area_(static_cast<u32>(value.raw() >> kAreaShift) % kMostAreas),
        slot_(static_cast<u32>((~value.raw() & kSlotMask) >> kPageShift)) {}

  constexpr u32 area() const { return area_; }
  constexpr u32 slot() const { return slot_; }
  constexpr arch::PteValue value() const {
    const u64 inverted = ~(u64{slot_} << kPageShift) & kSlotMask;
    return arch::PteValue{inverted | kMark | u64{area_} << kAreaShift};
  }

  static constexpr u64 kMark = 1ull << 10;

 private:
  static constexpr u64 kSlotMask = 0x000f'ffff'ffff'f000;
  static constexpr u32 kAreaShift = 1;
  u32 area_, slot_;
};

constexpr bool is_swap_entry(arch::PteValue value) { return !value.present() && value.has(SwapEntry::kMark); }

}  // namespace paean
