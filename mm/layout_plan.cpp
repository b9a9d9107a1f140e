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

u32 clamp(std::string_view option, u64 asked, u32 most, Sink& complaints) {
  u64 given = asked;
  if (given < kMinimumVmalloc) given = kMinimumVmalloc;
  if (given > most) given = most;
  if (given != asked) {
    format_to(complaints, "{}={}K is not possible, using {}K\n", option, asked / kKiB, given / kKiB);
  }
  return round_to_large(given) <= most ? round_to_large(given) : most;
}

/// What vmalloc is promised, in whole 2 MiB: in all, and of that at the top.
struct Promise {
  u32 total, top;
};

Promise promise_vmalloc(const LayoutRequest& request, u32 most, Sink& complaints) {
  const u32 total = clamp("vmalloc", request.vmalloc_bytes, most, complaints);
  if (!request.vmalloc_upper) {
    constexpr u32 kUpper = LayoutRequest::kDefaultUpper;
    return {total, kUpper < total ? kUpper : total};
  }
  const u32 top = clamp("vmalloc_upper", *request.vmalloc_upper, most, complaints);
  return {top > total ? top : total, top};
}

/// The furthest offset that the direct map may reach in `space` bytes so that vmalloc has what it was promised.
u32 furthest_limit(const MemoryMap& map, u32 space, Promise promise) {
  u32 low = kMinimumDirectMap / kLargePageSize, high = space / kLargePageSize + 1;
  while (high - low > 1) {  // a longer direct map never leaves more for vmalloc
    const u32 middle = low + (high - low) / 2;
    const DirectMapHoles holes{map, middle * kLargePageSize};
    const u32 top = space - holes.border();
    if (top >= promise.top && top + holes.bytes() >= promise.total)
      low = middle;
    else
      high = middle;
  }
  return low * kLargePageSize;
}

/// Whether RAM lies behind the end of the direct map and a gap, which is then a hole across the limit.
enum class Beyond : u8 { Nothing, Ram };

/// Gives vmalloc the holes below `limit`, and the top. The limit leaves room for what is promised.
void share_out(LayoutPlan& plan, const MemoryMap& map, u32 limit, Promise promise, Beyond beyond) {
  const DirectMapHoles holes{map, limit};
  const u64 ram = map.usable_bytes_below(holes.ram_end());
  const u64 affordable = ram / kTableShare / kPageSize * kLargePageSize;  // a table maps 2 MiB
  const u32 space = plan.frame_window - plan.page_offset;
  const u32 cap = affordable < space ? round_to_large(affordable) : space;
  u32 budget = cap > promise.total ? cap : promise.total;

  u32 given = 0;
  plan.range_count = 0;
  plan.unused_hole_bytes = holes.left_out_bytes();
  for (const DirectMapHole& hole : holes.list()) {
    const u32 part = hole.bytes() < budget - given ? hole.bytes() : budget - given;
    plan.unused_hole_bytes += hole.bytes() - part;
    if (part == 0) continue;
    plan.ranges[plan.range_count++] = {plan.page_offset + hole.begin, plan.page_offset + (hole.begin + part)};
    given += part;
  }

  const u32 room = space - holes.border();
  u32 top = beyond == Beyond::Ram ? budget - given : promise.total;
  if (top < promise.top) top = promise.top;
  if (top > room) top = room;
  plan.low_end = to_pfn(holes.ram_end());
  plan.vmalloc_start = plan.frame_window - top;
  plan.ranges[plan.range_count++] = {plan.vmalloc_start, plan.frame_window};
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

u32 LayoutPlan::vmalloc_bytes() const {
  u32 sum = 0;
  for (const VaRange& range : vmalloc_ranges()) sum += range.bytes();
  return sum;
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
  const Promise promise = promise_vmalloc(request, most_vmalloc, complaints);

  const Pfn most_frames = largest_frame_limit(room - kMinimumDirectMap - promise.total);
  if (const u64 dropped = map.clip(to_phys(most_frames)); dropped != 0) {
    format_to(complaints, "{}M of memory above {:#x} is not used: no address space for its page words\n",
              dropped / kMiB, to_phys(most_frames));
  }
  plan.frame_limit = to_pfn(map.last_usable_end());
  plan.frame_window_bytes = frame_window_size(plan.frame_limit);
  plan.frame_window = arch::kRuntimeEnd - plan.frame_window_bytes;

  u32 limit = furthest_limit(map, plan.frame_window - plan.page_offset, promise);
  Beyond beyond = Beyond::Ram;
  if (request.highmem_bytes) {
    const PhysAddr wanted = apply_highmem(*request.highmem_bytes, PhysAddr{limit}, map, complaints);
    if (wanted != PhysAddr{limit}) beyond = Beyond::Nothing;  // it is not a gap that ends the direct map
    limit = static_cast<u32>(wanted.raw());
    // Less memory may be left: the window shrinks with it, and lowmem ends where highmem= said.
    plan.frame_limit = to_pfn(map.last_usable_end());
  }
  if (map.usable_bytes_from(PhysAddr{limit}) == 0) beyond = Beyond::Nothing;
  share_out(plan, map, limit, promise, beyond);
  return plan;
}

}  // namespace paean
