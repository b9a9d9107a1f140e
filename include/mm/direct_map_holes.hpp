// The gaps between RAM inside the direct map, whose addresses show nothing: what vmalloc may have of them.
//
//   physical    | RAM      |  gap            | RAM           |  gap ...
//   2 MiB grid  |     |     |     |     |     |     |     |     |
//                           '-- a hole ------'             '-- border
//
// A hole is a gap without the large pages that it shares with RAM, so the RAM beside it keeps its large pages and one
// page table never serves both. What is not RAM but something else (reserved memory, tables of the firmware, device
// registers) counts as a gap: the kernel reaches those through fixmap windows, never by their direct address. The gap
// of 384 KiB below 1 MiB is too small for a hole.
//
// Pure, fixed size, any context. Source of the idea: Laura Abbott's patches that intermix lowmem and vmalloc (2013).
#pragma once

#include <array>
#include <span>

#include "mm/memory_map.hpp"

namespace paean {

/// Offsets into the direct map, which are physical addresses; multiples of 2 MiB.
struct DirectMapHole {
  u32 begin = 0, end = 0;
  u32 bytes() const { return end - begin; }
  constexpr bool operator==(const DirectMapHole&) const = default;
};

class DirectMapHoles {
 public:
  /// More holes than this are left unused, the smallest first: sensible machines have less than ten.
  static constexpr u32 kMost = 32;

  /// Of a direct map of physical [0, limit).
  DirectMapHoles(const MemoryMap& map, u32 limit);

  /// The largest ones, in address order. The gap that reaches the limit is none of them: see border().
  std::span<const DirectMapHole> list() const { return {holes_.data(), count_}; }
  /// Their sum.
  u32 bytes() const { return bytes_; }
  /// Where the last RAM below the limit ends; 0 if there is none.
  PhysAddr ram_end() const { return ram_end_; }
  /// The same, rounded up to 2 MiB: the lowest address that may follow the direct map.
  u32 border() const { return static_cast<u32>((ram_end_.align_up(kLargePageSize) - PhysAddr{0})); }
  /// Holes that are not in the list because others are larger.
  u32 left_out() const { return left_out_; }
  u32 left_out_bytes() const { return left_out_bytes_; }

 private:
  void add(DirectMapHole hole);

  std::array<DirectMapHole, kMost> holes_{};
  u32 count_ = 0;
  u32 bytes_ = 0;
  PhysAddr ram_end_{};
  u32 left_out_ = 0;
  u32 left_out_bytes_ = 0;
};

}  // namespace paean
