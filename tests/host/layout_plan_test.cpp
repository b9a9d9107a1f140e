#include "mm/layout_plan.hpp"

#include <memory>
#include <random>
#include <vector>

#include "support.hpp"

namespace paean::host {

namespace {

/// A machine of `bytes`, with the PCI hole of 1 GiB below 4 GiB.
std::unique_ptr<MemoryMap> machine(u64 bytes) {
  auto map = std::make_unique<MemoryMap>();
  const u64 low = bytes < 3 * kGiB ? bytes : 3 * kGiB;
  const E820Entry entries[] = {{0, 0x9f000, 1}, {0x100000, low - 0x100000, 1}, {4 * kGiB, bytes - low, 1}};
  map->load(entries);
  return map;
}

LayoutPlan plan_for(MemoryMap& map, const LayoutRequest& request, Sink& complaints) {
  const LayoutPlan plan = plan_layout(request, map, complaints);
  const u32 end = arch::kRuntimeEnd.raw();
  CHECK(plan.page_offset == page_offset_for(request.split));
  CHECK(u64{plan.page_offset.raw()} + PageCount{plan.low_end.raw()}.bytes() <= plan.vmalloc_start.raw());
  CHECK(plan.vmalloc_start < plan.frame_window);
  CHECK(u64{plan.frame_window.raw()} + plan.frame_window_bytes == end);
  CHECK(plan.frame_window.is_aligned(kLargePageSize));
  CHECK(plan.vmalloc_start.is_aligned(kLargePageSize));
  CHECK(to_phys(plan.frame_limit) >= map.last_usable_end());
  CHECK(plan.frame_window_bytes >= u64{plan.frame_limit.raw()} * 4 + frame_bitmap_bytes(plan.frame_limit));
  CHECK(to_phys(plan.low_end) <= map.last_usable_end());
  CHECK(plan.vmalloc_ranges().back() == VaRange{plan.vmalloc_start, plan.frame_window});
  return plan;
}

u32 lowmem_mib(u64 bytes, const LayoutRequest& request = {}) {
  const auto map = machine(bytes);
  StringSink complaints;
  const LayoutPlan plan = plan_for(*map, request, complaints);
  CHECK(complaints.text() == "");
  return static_cast<u32>(to_phys(plan.low_end).raw() / kMiB);
}

}  // namespace

TEST_SUITE("layout_plan") {
  TEST_CASE("64 GB leave at least 780 MiB of lowmem") {
    CHECK(lowmem_mib(64 * kGiB) >= 780);
    CHECK(lowmem_mib(4 * kGiB) >= 850);
    CHECK(lowmem_mib(256 * kGiB) >= 500);
    CHECK(lowmem_mib(16 * kMiB) == 16);
  }

  TEST_CASE("all splits fit a machine of 64 GB") {
    u32 last = 0;
    for (const VmSplit split : {VmSplit::User3_5G, VmSplit::User3G, VmSplit::User2G, VmSplit::User1G}) {
      LayoutRequest request;
      request.split = split;
      const u32 lowmem = lowmem_mib(64 * kGiB, request);
      CHECK(lowmem > last);
      last = lowmem;
    }
  }

  TEST_CASE("absurd requests are named and replaced") {
    for (const u64 vmalloc : {u64{0}, u64{1}, 4 * kGiB, ~u64{0}}) {
      CAPTURE(vmalloc);
      const auto map = machine(2 * kGiB);
      StringSink complaints;
      LayoutRequest request;
      request.vmalloc_bytes = vmalloc;
      plan_for(*map, request, complaints);
      CHECK(complaints.text() != "");
    }
    const auto map = machine(2 * kGiB);
    StringSink complaints;
    LayoutRequest request;
    request.highmem_bytes = ~u64{0};
    plan_for(*map, request, complaints);
    CHECK(complaints.text() != "");
  }

  TEST_CASE("highmem= is met to the page") {
    for (const u64 wanted : {u64{0}, 100 * u64{kMiB}, kGiB, kGiB + kPageSize}) {
      CAPTURE(wanted);
      const auto map = machine(6 * kGiB);
      StringSink complaints;
      LayoutRequest request;
      request.highmem_bytes = wanted;
      const LayoutPlan plan = plan_for(*map, request, complaints);
      CHECK(map->usable_bytes_from(to_phys(plan.low_end)) == wanted);
    }
  }

  TEST_CASE("more memory than page words can describe is dropped, not misplaced") {
    auto map = std::make_unique<MemoryMap>();
    const E820Entry entry{0, 8 * kTiB, 1};
    map->load({&entry, 1});
    StringSink complaints;
    plan_for(*map, {}, complaints);
    CHECK(complaints.text().find("not used") != std::string::npos);
  }

  TEST_CASE("random machines and requests keep the order of the regions") {
    std::mt19937_64 random{11};
    for (int i = 0; i < 400; ++i) {
      auto map = std::make_unique<MemoryMap>();
      std::vector<E820Entry> entries{{0, 16 * kMiB, 1}};
      for (u64 n = random() % 8; n > 0; --n) {
        entries.push_back({random() >> (24 + random() % 12), random() >> (24 + random() % 16), 1 + u32(random() % 2)});
      }
      map->load(entries);
      map->clip(kPfnLimit);
      LayoutRequest request;
      request.split = static_cast<VmSplit>(random() % 4);
      if (random() % 2 == 0) request.vmalloc_bytes = random() >> (30 + random() % 20);
      if (random() % 2 == 0) request.highmem_bytes = random() >> (24 + random() % 30);
      StringSink complaints;
      plan_for(*map, request, complaints);
    }
  }
}

}  // namespace paean::host
