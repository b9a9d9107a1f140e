// Lowmem: the frames that have an address for ever.
//
// The direct map shows physical [0, low_end) at page_offset, all but its holes: 2 MiB granules without any RAM, whose
// addresses belong to vmalloc (mm/layout_plan.hpp).
//
//   page_offset                                       end
//   | lowmem  1 | lowmem  1 | hole   0 | lowmem  1 |      a bit a granule tells, with no walk through ranges
//
// A LowPfn is the proof that a frame is in it, and the only thing that turns into an address without a map guard. A
// frame of RAM is never in a hole, so code that has a Page* need not ask. Fixed at boot; any context; O(1).
#pragma once

#include <array>
#include <optional>

#include "lib/addr.hpp"
#include "lib/result.hpp"

namespace paean {

/// Set once by the boot code (mm/boot_memory.cpp).
struct DirectMap {
  static constexpr u32 kMostGranules = 3 * (kGiB / kLargePageSize);  // the largest split leaves less than 3 GiB

  VirtAddr page_offset{};
  Pfn end{};
  std::array<u32, kMostGranules / 32> holes{};

  void mark_hole(VirtAddr va) {
    const u32 granule = (va - page_offset) >> kLargePageShift;
    holes[granule / 32] |= 1u << (granule % 32);
  }
  /// Of a frame below `end`.
  bool in_hole(Pfn pfn) const {
    const u32 granule = pfn.raw() / kPagesPerLargePage;
    return (holes[granule / 32] >> (granule % 32) & 1) != 0;
  }
  bool shows(Pfn pfn) const { return pfn < end && !in_hole(pfn); }
  bool shows_at(VirtAddr va) const { return va >= page_offset && shows(Pfn{(va - page_offset) >> kPageShift}); }
};
extern DirectMap direct_map;

class LowPfn {
 public:
  Pfn pfn() const { return pfn_; }
  VirtAddr address() const { return VirtAddr{direct_map.page_offset.raw() + (pfn_.raw() << kPageShift)}; }
  void* pointer() const { return reinterpret_cast<void*>(address().raw()); }

 private:
  friend std::optional<LowPfn> to_low(Pfn pfn);
  friend Result<LowPfn> low_frame_at(VirtAddr va);
  constexpr explicit LowPfn(Pfn pfn) : pfn_(pfn) {}
  Pfn pfn_;
};

/// nullopt for highmem, and for a hole that vmalloc has.
inline std::optional<LowPfn> to_low(Pfn pfn) {
  if (direct_map.shows(pfn)) [[likely]]
    return LowPfn{pfn};
  return std::nullopt;
}

/// The frame behind a direct-map address; NotFound outside of it, and in a hole that vmalloc has.
inline Result<LowPfn> low_frame_at(VirtAddr va) {
  if (!direct_map.shows_at(va)) return std::unexpected(Error::NotFound);
  return LowPfn{Pfn{(va - direct_map.page_offset) >> kPageShift}};
}

}  // namespace paean
