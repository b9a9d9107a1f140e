// Who gets how much of the kernel's address space: the runtime half of the map in arch/layout.hpp.
//
//   page_offset                             low_end    vmalloc_start          frame_window        kRuntimeEnd
//   | lowmem | vmalloc | lowmem ... | vmalloc | lowmem |  vmalloc, the top    | frame words + bitmaps |
//            '-- a hole: no RAM ----'                  '-- gives way to lowmem       '-- 4 bytes a frame
//
// virtual = physical + offset all over the direct map, [page_offset, low_end). Where physical memory has a hole of
// 2 MiB or more in there (mm/direct_map_holes.hpp), the addresses are vmalloc's. vmalloc= is what vmalloc has in all:
// what holes give, the top needs not have, down to vmalloc_upper=, and the direct map grows upward by it. So a hole
// costs address space of neither kind. If RAM ends below what the direct map could hold, the top keeps its size, and
// holes come on top of it. A hole that no RAM follows inside the direct map belongs to the top.
//
// The plan is the longest direct map with which vmalloc still has what it was promised. As the direct map grows, what
// is left for vmalloc never grows, so one search finds it. Everything else is given away first: the plan is arithmetic
// on the split, the two options, the memory map and the fixed part. Pure; the memory map may be clipped.
//
// Reference points for 3G/1G: 64 GB of RAM leaves 794 MiB of lowmem, 4 GB 858 MiB, 256 GB 586 MiB.
// Source of the idea: Laura Abbott, "Intermix lowmem and vmalloc" (2013).
#pragma once

#include <array>
#include <optional>
#include <span>

#include "arch/layout.hpp"
#include "lib/format.hpp"
#include "mm/direct_map_holes.hpp"
#include "mm/memory_map.hpp"

namespace paean {

/// Where user space ends.
enum class VmSplit : u8 { User3G, User3_5G, User2G, User1G };

/// Addresses begin <= va < end.
struct VaRange {
  VirtAddr begin{}, end{};

  constexpr u32 bytes() const { return end - begin; }
  constexpr bool contains(VirtAddr va) const { return begin <= va && va < end; }
  constexpr bool operator==(const VaRange&) const = default;
};

struct LayoutRequest {
  VmSplit split = VmSplit::User3G;
  u64 vmalloc_bytes = kDefaultVmalloc;
  std::optional<u64> vmalloc_upper{};  // vmalloc_upper=: at least so much of it at the top
  std::optional<u64> highmem_bytes{};  // highmem=: exactly so much RAM above lowmem

  // What Linux leaves for vmalloc on the same machines; enough for 60 areas of 2 MiB.
  static constexpr u32 kDefaultVmalloc = 120 * kMiB;
  // Half of it holds the stacks of threads (mm/stack_pool.hpp).
  static constexpr u32 kDefaultUpper = 24 * kMiB;
};

struct LayoutPlan {
  static constexpr u32 kMostVmallocRanges = DirectMapHoles::kMost + 1;

  VirtAddr page_offset{};    // where the direct map, and so the kernel half, begins
  Pfn low_end{};             // first frame that the direct map does not reach
  VirtAddr vmalloc_start{};  // of the top range, which ends at frame_window
  VirtAddr frame_window{};   // page words of frame 0; the buddy's bitmaps follow
  u32 frame_window_bytes = 0;
  Pfn frame_limit{};  // frames below this have page words

  std::array<VaRange, kMostVmallocRanges> ranges{};
  u32 range_count = 0;
  u32 unused_hole_bytes = 0;  // of the direct map, in holes that vmalloc does not get

  VirtAddr vmalloc_end() const { return frame_window; }
  VirtAddr low_end_address() const { return page_offset + (low_end.raw() << kPageShift); }
  u32 frame_words_bytes() const { return frame_limit.raw() * 4; }

  /// Everything that is vmalloc's, in address order: holes, then the top. Multiples of 2 MiB, never adjacent to each
  /// other, so what lies in one range never reaches into another.
  std::span<const VaRange> vmalloc_ranges() const { return {ranges.data(), range_count}; }
  /// The same without the top.
  std::span<const VaRange> holes() const { return {ranges.data(), range_count - 1}; }
  u32 vmalloc_bytes() const;
};

/// The least lowmem that Paean boots with, and the least room for vmalloc.
inline constexpr u32 kMinimumDirectMap = 64 * kMiB;
inline constexpr u32 kMinimumVmalloc = 8 * kMiB;
/// Page tables for address space that vmalloc did not ask for may take this part of lowmem: holes can be larger than
/// all RAM beside them.
inline constexpr u32 kTableShare = 32;
/// Usable bytes below the direct map's limit without which the boot is refused.
inline constexpr u32 kMinimumUsable = 8 * kMiB;
/// highmem= may not leave less than this much usable lowmem.
inline constexpr u32 kMinimumLowmem = 12 * kMiB;

VirtAddr page_offset_for(VmSplit split);

/// Plans for what `map` holds, and clips from it what cannot be used (RAM beyond the frame window, or beyond
/// highmem=). What was asked for but could not be given is named in `complaints`, a line each.
LayoutPlan plan_layout(const LayoutRequest& request, MemoryMap& map, Sink& complaints);

/// Bytes of frame words and buddy bitmaps for frames below `limit`, in whole 2 MiB granules.
u32 frame_window_size(Pfn limit);
/// Bytes of bitmaps that all zones together may need.
u32 frame_bitmap_bytes(Pfn limit);

}  // namespace paean
