// The plan of the address space against a map of granules.
//
// The model knows of each 2 MiB of physical memory whether there is RAM in it, and finds the longest direct map by
// trying every length from the longest down. What each part is made of is then checked byte for byte: every granule of
// the direct map is lowmem, a hole that is vmalloc's, or a hole that is left out for a reason that the header names.
#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

#include "entry.hpp"
#include "mm/address_regions.hpp"

namespace paean::fuzz {

namespace {

struct Run {
  u32 begin, end;  // granules
  u32 size() const { return end - begin; }
};

class Model {
 public:
  explicit Model(const MemoryMap& map) {
    u32 begin = 0;
    for (u32 granule = 0; granule < ram_.size(); ++granule) {
      const PhysAddr at{u64{granule} * kLargePageSize};
      ram_[granule] = map.bytes(MemoryKind::Usable, {at, at + kLargePageSize}) != 0;
      if (!ram_[granule]) continue;
      if (begin < granule) gaps_.push_back({begin, granule});
      begin = granule + 1;
    }
  }
  /// Runs of granules without RAM that have RAM behind them below `limit`.
  std::vector<Run> holes(u32 limit) const {
    std::vector<Run> found;
    for (const Run gap : gaps_) {
      if (gap.end < limit) found.push_back(gap);
    }
    return found;
  }
  /// One past the last granule with RAM below `limit`.
  u32 border(u32 limit) const {
    while (limit != 0 && !ram_[limit - 1]) --limit;
    return limit;
  }

 private:
  std::vector<bool> ram_ = std::vector<bool>(3 * (kGiB / kLargePageSize));
  std::vector<Run> gaps_;
};

u32 sum(const std::vector<Run>& runs) {
  u32 total = 0;
  for (const Run run : runs) total += run.size();
  return total;
}

std::vector<Run> largest(std::vector<Run> runs) {
  std::sort(runs.begin(), runs.end(),
            [](Run a, Run b) { return a.size() != b.size() ? a.size() > b.size() : a.begin < b.begin; });
  if (runs.size() > DirectMapHoles::kMost) runs.resize(DirectMapHoles::kMost);
  std::sort(runs.begin(), runs.end(), [](Run a, Run b) { return a.begin < b.begin; });
  return runs;
}

u32 granules(u64 bytes) { return static_cast<u32>((bytes + kLargePageSize - 1) / kLargePageSize); }

struct Promise {
  u32 total, top;
};

/// In granules. Only for requests that can be met.
std::optional<Promise> promise_of(const LayoutRequest& request, u32 room, u32 words) {
  if (room < words + granules(kMinimumDirectMap + kMinimumVmalloc)) return std::nullopt;
  const u32 most = room - words - granules(kMinimumDirectMap);
  const u64 upper = request.vmalloc_upper.value_or(std::min<u64>(request.vmalloc_bytes, LayoutRequest::kDefaultUpper));
  for (const u64 bytes : {request.vmalloc_bytes, upper}) {
    if (bytes < kMinimumVmalloc || bytes > u64{most} * kLargePageSize) return std::nullopt;
  }
  return Promise{std::max(granules(request.vmalloc_bytes), granules(upper)), granules(upper)};
}

u32 longest(const Model& model, u32 space, Promise promise) {
  for (u32 limit = space;; --limit) {
    if (limit == granules(kMinimumDirectMap)) return limit;
    const u32 top = space - model.border(limit);
    if (top >= promise.top && top + sum(largest(model.holes(limit))) >= promise.total) return limit;
  }
}

void check_shape(const LayoutPlan& plan, const MemoryMap& map) {
  const auto ranges = plan.vmalloc_ranges();
  CHECK(ranges.size() >= 1 && ranges.size() <= LayoutPlan::kMostVmallocRanges);
  CHECK(ranges.back().begin == plan.vmalloc_start && ranges.back().end == plan.frame_window);
  CHECK(plan.low_end_address() <= plan.vmalloc_start);
  CHECK(plan.frame_window + plan.frame_window_bytes == arch::kRuntimeEnd);
  CHECK(plan.frame_window_bytes >= u64{plan.frame_words_bytes()} + frame_bitmap_bytes(plan.frame_limit));
  CHECK(to_phys(plan.frame_limit) == map.last_usable_end());
  VirtAddr at = plan.page_offset;
  u32 bytes = 0;
  for (const VaRange& range : ranges) {
    CHECK(range.begin < range.end && range.begin >= at);
    CHECK(range.begin == plan.page_offset || range.begin > at);  // never adjacent
    CHECK(range.begin.is_aligned(kLargePageSize) && range.end.is_aligned(kLargePageSize));
    at = range.end;
    bytes += range.bytes();
  }
  CHECK(bytes == plan.vmalloc_bytes());
  // A hole has no RAM, and the direct map ends where RAM does.
  for (const VaRange& hole : plan.holes()) {
    CHECK(hole.end < plan.low_end_address());
    const PhysRange shown{PhysAddr{hole.begin - plan.page_offset}, PhysAddr{hole.end - plan.page_offset}};
    CHECK(map.bytes(MemoryKind::Usable, shown) == 0);
  }
  const PhysAddr low_end = to_phys(plan.low_end);
  if (low_end != PhysAddr{0}) CHECK(map.kind_at(low_end - 1) == MemoryKind::Usable);
}

void check_against_model(const LayoutPlan& plan, const MemoryMap& map, Promise promise) {
  const Model model{map};
  const u32 space = (plan.frame_window - plan.page_offset) / kLargePageSize;
  const u32 limit = longest(model, space, promise), border = model.border(limit);
  CHECK((plan.vmalloc_start - plan.page_offset) / kLargePageSize >= border);
  CHECK(granules(u64{plan.low_end_address() - plan.page_offset}) == border);

  const std::vector<Run> all = model.holes(limit), chosen = largest(all);
  const u64 ram = map.usable_bytes_below(to_phys(plan.low_end));
  const u32 affordable = granules(ram / kTableShare / kPageSize * kLargePageSize);
  u32 budget = std::min(std::max(affordable, promise.total), std::max(space, promise.total));
  std::vector<Run> given;
  for (const Run run : chosen) {
    const u32 part = std::min(run.size(), budget);
    budget -= part;
    if (part != 0) given.push_back({run.begin, run.begin + part});
  }
  CHECK(given.size() == plan.holes().size());
  for (usize i = 0; i < given.size(); ++i) {
    const VaRange hole = plan.holes()[i];
    CHECK((hole.begin - plan.page_offset) / kLargePageSize == given[i].begin);
    CHECK((hole.end - plan.page_offset) / kLargePageSize == given[i].end);
  }
  CHECK(plan.unused_hole_bytes == (sum(all) - sum(given)) * kLargePageSize);
  const u32 top = (plan.vmalloc_end() - plan.vmalloc_start) / kLargePageSize;
  CHECK(top >= promise.top && top + sum(given) >= promise.total);
  const bool ram_beyond = map.usable_bytes_from(PhysAddr{u64{limit} * kLargePageSize}) != 0;
  CHECK(top == std::min(space - border, std::max(promise.top, ram_beyond ? budget : promise.total)));
}

void check_regions(const LayoutPlan& plan) {
  u64 at = 0;
  u32 vmalloc = 0;
  for_each_address_region(plan, [&](const AddressRegion& region) {
    CHECK(u64{region.first.raw()} == at);
    CHECK(region.last >= region.first);
    at += region.bytes();
    if (region.kind == RegionKind::Vmalloc) vmalloc += region.last - region.first + 1;
  });
  CHECK(at == 4 * kGiB);
  CHECK(vmalloc == plan.vmalloc_bytes());
}

/// Pages or whole large pages, so that edges meet and miss the grid.
u64 take_length(Input& input) {
  return input.below(2) == 0 ? u64{input.below(600)} * kPageSize : u64{input.below(200)} * kLargePageSize;
}

void fill(Input& input, MemoryMap& map) {
  u64 at = input.below(4) == 0 ? take_length(input) : 0;
  const u32 pieces = 1 + input.below(60);
  for (u32 i = 0; i < pieces; ++i) {
    const u64 length = take_length(input);
    map.add_firmware_entry({at, length, input.below(8) == 0 ? 2u : 1u});
    at += length + take_length(input);
  }
  if (input.below(2) == 0) map.add_firmware_entry({4 * kGiB, u64{input.below(300)} * kGiB, 1});
  map.seal();
}

LayoutRequest take_request(Input& input) {
  LayoutRequest request;
  request.split = static_cast<VmSplit>(input.below(4));
  if (input.below(2) == 0) request.vmalloc_bytes = u64{input.below(600)} * kMiB + input.below(3) * kPageSize;
  if (input.below(2) == 0) request.vmalloc_upper = u64{input.below(300)} * kMiB + input.below(3) * kPageSize;
  if (input.below(4) == 0) request.highmem_bytes = u64{input.below(6000)} * kMiB;
  return request;
}

}  // namespace

void fuzz_one(Input& input) {
  const LayoutRequest request = take_request(input);
  const auto map = std::make_unique<MemoryMap>();
  fill(input, *map);
  const u32 room = granules(arch::kRuntimeEnd - page_offset_for(request.split));
  const std::optional<Promise> promise =
      promise_of(request, room, granules(frame_window_size(to_pfn(map->last_usable_end()))));
  StringSink complaints;
  const LayoutPlan plan = plan_layout(request, *map, complaints);
  check_shape(plan, *map);
  check_regions(plan);
  if (promise && !request.highmem_bytes) {
    CHECK(complaints.text().empty());
    check_against_model(plan, *map, *promise);
  }
}

}  // namespace paean::fuzz
