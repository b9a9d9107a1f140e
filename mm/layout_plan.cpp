#include "mm/layout_plan.hpp"

#include "mm/buddy.hpp"

namespace paean {

namespace {

constexpr u32 kBytesPerFrame = 4;
constexpr u32 kBitmapSlack = 64 * kKiB;  // four zones round their bitmaps up, each by less than 16 KiB

u32 round_to_large(u64 bytes) { return static_cast<u32>((bytes + kLargePageSize - 1) & ~u64{kLargePageSize - 1}); }

/// The highest frame limit whose window leaves room for the smallest direct map.
Pfn largest_frame_limit(u32 room) {
  u32 low = 0, high = 1u << 30;
  while (high - low > 1) {  // frame_window_size() rises with its argument
    const u32 middle = low + (high - low) / 2;
    if (frame_window_size(Pfn{middle}) <= room)
      low = middle;
    else
      high = middle;
  }
  return Pfn{low};
}

/// One past the last usable frame, within what a frame number and the search below can hold.
Pfn largest_useful_limit(const MemoryMap& map) {
  constexpr PhysAddr kSearchLimit{1ull << (30 + kPageShift)};
  return to_pfn(map.last_usable_end() < kSearchLimit ? map.last_usable_end() : kSearchLimit);
}

/// The address below which all but `high_bytes` of the usable memory lies; nullopt if there is not so much.
std::optional<PhysAddr> address_below_top(const MemoryMap& map, u64 high_bytes) {
  const auto ranges = map.ranges();
  for (usize i = ranges.size(); i-- != 0;) {
    if (ranges[i].tag != MemoryKind::Usable) continue;
    const u64 here = ranges[i].end - ranges[i].begin;
    if (here >= high_bytes) return ranges[i].end - high_bytes;
    high_bytes -= here;
  }
  return std::nullopt;
}

/// Makes the amount above `limit` exactly what highmem= asks, by lowering the limit or by dropping the top.
PhysAddr apply_highmem(u64 wanted, PhysAddr limit, MemoryMap& map, Sink& complaints) {
  wanted &= ~u64{kPageSize - 1};
  const u64 available = map.usable_bytes_from(limit);
  if (wanted <= available) {
    if (const auto cut = address_below_top(map, available - wanted)) (void)map.clip(*cut);
    return limit;
  }
  if (wanted > map.usable_bytes() || map.usable_bytes() - wanted < kMinimumLowmem) {
    format_to(complaints, "highmem={}K leaves less than {}M of lowmem, ignored\n", wanted / kKiB,
              kMinimumLowmem / kMiB);
    return limit;
  }
  return address_below_top(map, wanted).value_or(limit);
}

}  // namespace

VirtAddr page_offset_for(VmSplit split) {
  switch (split) {
    case VmSplit::User3G: return VirtAddr{0xc0000000};
    case VmSplit::User3_5G: return VirtAddr{0xe0000000};
    case VmSplit::User2G: return VirtAddr{0x80000000};
    case VmSplit::User1G: return VirtAddr{0x40000000};
  }
  return VirtAddr{0xc0000000};
}

u32 frame_window_size(Pfn limit) {
  const u64 words = u64{limit.raw()} * kBytesPerFrame;
  return round_to_large(words + frame_bitmap_bytes(limit) + kPageSize);  // + a page: bitmaps begin on one
}

u32 frame_bitmap_bytes(Pfn limit) {
  return static_cast<u32>(Buddy::words_needed(limit.raw()) * sizeof(u32)) + kBitmapSlack;
}

LayoutPlan plan_layout(const LayoutRequest& request, MemoryMap& map, Sink& complaints) {
  LayoutPlan plan;
  plan.page_offset = page_offset_for(request.split);
  const u32 room = arch::kRuntimeEnd - plan.page_offset;

  // Page words for all memory come first: a vmalloc= that is too large must not cost RAM. On a machine so large that
  // nothing would be left, vmalloc keeps its minimum and the top of memory goes.
  const u32 wanted_words = frame_window_size(largest_useful_limit(map));
  const u32 least = kMinimumDirectMap + kMinimumVmalloc;
  const u32 most_vmalloc = wanted_words + least <= room ? room - kMinimumDirectMap - wanted_words : kMinimumVmalloc;
  u64 vmalloc = request.vmalloc_bytes;
  if (vmalloc < kMinimumVmalloc) vmalloc = kMinimumVmalloc;
  if (vmalloc > most_vmalloc) vmalloc = most_vmalloc;
  if (vmalloc != request.vmalloc_bytes) {
    format_to(complaints, "vmalloc={}K is not possible, using {}K\n", request.vmalloc_bytes / kKiB, vmalloc / kKiB);
  }
  const u32 vmalloc_bytes = round_to_large(vmalloc) <= most_vmalloc ? round_to_large(vmalloc) : most_vmalloc;

  const Pfn most_frames = largest_frame_limit(room - kMinimumDirectMap - vmalloc_bytes);
  if (const u64 dropped = map.clip(to_phys(most_frames)); dropped != 0) {
    format_to(complaints, "{}M of memory above {:#x} is not used: no address space for its page words\n",
              dropped / kMiB, to_phys(most_frames));
  }
  plan.frame_limit = to_pfn(map.last_usable_end());
  plan.frame_window_bytes = frame_window_size(plan.frame_limit);
  plan.frame_window = arch::kRuntimeEnd - plan.frame_window_bytes;
  plan.vmalloc_start = plan.frame_window - vmalloc_bytes;

  PhysAddr limit{u64{plan.vmalloc_start - plan.page_offset}};
  if (request.highmem_bytes) {
    limit = apply_highmem(*request.highmem_bytes, limit, map, complaints);
    // Less memory may be left: the window shrinks with it, and lowmem ends where highmem= said.
    plan.frame_limit = to_pfn(map.last_usable_end());
  }
  if (map.last_usable_end() < limit) limit = map.last_usable_end();
  plan.low_end = to_pfn(limit);
  return plan;
}

}  // namespace paean
