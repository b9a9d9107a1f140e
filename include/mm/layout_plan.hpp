// Who gets how much of the kernel's address space: the runtime half of the map in arch/layout.hpp.
//
//   page_offset                                          kRuntimeEnd
//   | direct map of lowmem ........ | vmalloc | frame words + bitmaps |
//   '-- grows until it meets vmalloc          '-- 4 bytes a frame, 2 MiB granules
//
// Lowmem is what the direct map can hold: everything else is given away first, so the plan is arithmetic on four
// numbers: the split, vmalloc=, the highest frame, and the fixed part. Pure; the memory map may be clipped.
//
// Reference points for 3G/1G: 64 GB of RAM leaves 794 MiB of lowmem, 4 GB 858 MiB, 256 GB 586 MiB.
#pragma once

#include <optional>
#include "arch/layout.hpp"
#include "lib/format.hpp"

#include "mm/memory_map.hpp"

namespace paean {

/// Where user space ends.
enum class VmSplit : u8 { User3G, User3_5G, User2G, User1G };

struct LayoutRequest {
  VmSplit split = VmSplit::User3G;
  u64 vmalloc_bytes = kDefaultVmalloc;
  std::optional<u64> highmem_bytes{};  // highmem=: exactly so much RAM above lowmem

  // What Linux leaves for vmalloc on the same machines; enough for 60 areas of 2 MiB.
  static constexpr u32 kDefaultVmalloc = 120 * kMiB;
};

struct LayoutPlan {
  VirtAddr page_offset{};    // where the direct map, and so the kernel half, begins
  Pfn low_end{};             // first frame that the direct map does not reach
  VirtAddr vmalloc_start{};  // vmalloc_end = frame_window
  VirtAddr frame_window{};   // page words of frame 0; the buddy's bitmaps follow
  u32 frame_window_bytes = 0;
  Pfn frame_limit{};  // frames below this have page words

  VirtAddr vmalloc_end() const { return frame_window; }
  u32 frame_words_bytes() const { return frame_limit.raw() * 4; }
};

/// The least lowmem that Paean boots with, and the least room for vmalloc.
inline constexpr u32 kMinimumDirectMap = 64 * kMiB;
inline constexpr u32 kMinimumVmalloc = 8 * kMiB;
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
