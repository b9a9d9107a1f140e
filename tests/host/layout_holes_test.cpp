// The plan for memory with holes: who gets their addresses, and what lowmem gets back for it.
#include <memory>
#include <vector>

#include "mm/address_regions.hpp"
#include "support.hpp"

namespace paean::host {

namespace {

/// MiB, half-open.
struct Gap {
  u32 begin, end;
};

/// A machine of `bytes` with the PCI hole of 1 GiB below 4 GiB, without the gaps.
std::unique_ptr<MemoryMap> machine(u64 bytes, std::initializer_list<Gap> gaps) {
  auto map = std::make_unique<MemoryMap>();
  const u64 low = bytes < 3 * kGiB ? bytes : 3 * kGiB;
  std::vector<E820Entry> entries{{0, 0x9f000, 1}, {0x100000, low - 0x100000, 1}, {4 * kGiB, bytes - low, 1}};
  for (const Gap gap : gaps) entries.push_back({gap.begin * u64{kMiB}, (gap.end - gap.begin) * u64{kMiB}, 2});
  map->load(entries);
  return map;
}

struct Figures {
  u64 low_mib, vmalloc_mib, top_mib;
  LayoutPlan plan;
  std::string complaints;
};

Figures figures(MemoryMap& map, const LayoutRequest& request = {}) {
  StringSink complaints;
  const LayoutPlan plan = plan_layout(request, map, complaints);
  return {map.usable_bytes_below(to_phys(plan.low_end)) / kMiB, plan.vmalloc_bytes() / kMiB,
          (plan.vmalloc_end() - plan.vmalloc_start) / kMiB, plan, complaints.text()};
}

Figures figures(u64 bytes, std::initializer_list<Gap> gaps, const LayoutRequest& request = {}) {
  const auto map = machine(bytes, gaps);
  return figures(*map, request);
}

/// The n-th vmalloc range as MiB of the direct map.
Gap range_at(const LayoutPlan& plan, u32 index) {
  const VaRange range = plan.vmalloc_ranges()[index];
  return {u32((range.begin - plan.page_offset) / kMiB), u32((range.end - plan.page_offset) / kMiB)};
}

void check_range(const LayoutPlan& plan, u32 index, Gap wanted) {
  REQUIRE(index < plan.vmalloc_ranges().size());
  CHECK(range_at(plan, index).begin == wanted.begin);
  CHECK(range_at(plan, index).end == wanted.end);
}

LayoutRequest vmalloc_of(u64 total, std::optional<u64> upper = std::nullopt) {
  LayoutRequest request;
  request.vmalloc_bytes = total * kMiB;
  if (upper) request.vmalloc_upper = *upper * kMiB;
  return request;
}

}  // namespace

TEST_SUITE("layout_holes") {
  TEST_CASE("a hole of 64 MiB costs neither lowmem nor vmalloc anything") {
    for (const u64 size : {4 * kGiB, 16 * kGiB, 64 * kGiB}) {
      const Figures whole = figures(size, {}), cut = figures(size, {{256, 320}});
      CHECK(cut.low_mib == whole.low_mib);
      CHECK(cut.vmalloc_mib == 120);
      CHECK(cut.top_mib == 56);
      CHECK(cut.complaints == "");
      REQUIRE(cut.plan.range_count == 2);
      check_range(cut.plan, 0, {256, 320});
    }
  }

  TEST_CASE("holes of 192 MiB cost lowmem what the top cannot give") {
    for (const u64 size : {4 * kGiB, 64 * kGiB}) {
      const Figures whole = figures(size, {}), cut = figures(size, {{256, 352}, {400, 464}, {512, 544}});
      CHECK(whole.low_mib - cut.low_mib == 192 - (120 - 24));
      CHECK(cut.low_mib + cut.vmalloc_mib == whole.low_mib + whole.vmalloc_mib);
      CHECK(cut.vmalloc_mib == 192 + 24);
      CHECK(cut.top_mib == 24);
      CHECK(cut.plan.range_count == 4);
    }
  }

  TEST_CASE("more of the top can be given away, or less") {
    const Figures least = figures(4 * kGiB, {{256, 384}}, vmalloc_of(120, 8));
    CHECK(least.top_mib == 8);
    const Figures most = figures(4 * kGiB, {{256, 384}}, vmalloc_of(120, 120));
    CHECK(most.top_mib == 120);
    CHECK(most.vmalloc_mib == 248);
    CHECK(most.low_mib + 112 == least.low_mib);
    const Figures above_total = figures(4 * kGiB, {}, vmalloc_of(64, 96));
    CHECK(above_total.top_mib == 96);
    CHECK(above_total.vmalloc_mib == 96);
    CHECK(above_total.complaints == "");
  }

  TEST_CASE("vmalloc= counts holes, and smaller ones need no top of 24 MiB") {
    const Figures small = figures(4 * kGiB, {}, vmalloc_of(16));
    CHECK(small.top_mib == 16);
    const Figures large = figures(4 * kGiB, {{256, 320}}, vmalloc_of(400));
    CHECK(large.vmalloc_mib == 400);
    CHECK(large.top_mib == 336);
  }

  TEST_CASE("sizes that cannot be are named and replaced") {
    const Figures large = figures(4 * kGiB, {{256, 320}}, vmalloc_of(4096));
    CHECK(large.complaints.find("vmalloc=4194304K is not possible") == 0);
    CHECK(large.low_mib == 63);  // the least, without the part below 1 MiB that is no RAM
    CHECK(large.plan.vmalloc_bytes() / kMiB == large.vmalloc_mib);
    const Figures upper = figures(4 * kGiB, {}, vmalloc_of(120, 4096));
    CHECK(upper.complaints.find("vmalloc_upper=4194304K is not possible") == 0);
    const Figures none = figures(4 * kGiB, {{256, 512}}, vmalloc_of(120, 0));
    CHECK(none.complaints.find("vmalloc_upper=0K is not possible, using 8192K") == 0);
    CHECK(none.top_mib == 8);
  }

  TEST_CASE("a hole is made smaller to whole large pages") {
    auto map = std::make_unique<MemoryMap>();
    const E820Entry entries[] = {{kMiB, 255 * kMiB + kPageSize, 1},  // to 256 MiB + 4 KiB
                                 {320 * kMiB - kPageSize, kGiB, 1},  // from 320 MiB - 4 KiB
                                 {5 * kGiB, kGiB, 1}};
    map->load(entries);
    const Figures cut = figures(*map);
    REQUIRE(cut.plan.range_count == 2);
    check_range(cut.plan, 0, {258, 318});
  }

  TEST_CASE("gaps without a whole large page are not used") {
    // 640 KiB to 1 MiB, 201 MiB to 204 MiB - 4 KiB, and 304 MiB to 306 MiB - 4 KiB.
    auto map = std::make_unique<MemoryMap>();
    const E820Entry entries[] = {{0, 0x9f000, 1},
                                 {kMiB, 200 * kMiB, 1},
                                 {204 * kMiB - kPageSize, 100 * kMiB + kPageSize, 1},
                                 {306 * kMiB - kPageSize, 5 * kGiB, 1}};
    map->load(entries);
    const Figures cut = figures(*map);
    CHECK(cut.vmalloc_mib == 120);
    CHECK(cut.plan.range_count == 1);
  }

  TEST_CASE("the smallest hole there is") {
    const Figures cut = figures(4 * kGiB, {{300, 302}});
    REQUIRE(cut.plan.range_count == 2);
    check_range(cut.plan, 0, {300, 302});
    CHECK(cut.top_mib == 118);
  }

  TEST_CASE("holes at both ends of the direct map") {
    auto map = std::make_unique<MemoryMap>();
    const E820Entry entries[] = {{16 * kMiB, 780 * kMiB, 1}, {5 * kGiB, kGiB, 1}};
    map->load(entries);
    const Figures cut = figures(*map);
    REQUIRE(cut.plan.range_count == 2);
    check_range(cut.plan, 0, {0, 16});
    CHECK(cut.low_mib == 780);
    CHECK(to_phys(cut.plan.low_end) == PhysAddr{796 * kMiB});
    CHECK(cut.plan.vmalloc_start == cut.plan.page_offset + 796 * kMiB);  // all that is left
  }

  TEST_CASE("a hole across the limit is the top's") {
    const Figures whole = figures(4 * kGiB, {});
    const u32 border = u32(whole.low_mib) + 2;  // the hole below 1 MiB is RAM's that is missing
    const Figures cut = figures(4 * kGiB, {{border - 50, border + 300}});
    REQUIRE(cut.plan.range_count == 1);
    CHECK(cut.top_mib >= 168);
    CHECK(cut.low_mib + cut.vmalloc_mib + 2 >= whole.low_mib + whole.vmalloc_mib);
    CHECK(to_phys(cut.plan.low_end) == PhysAddr{(border - 50) * u64{kMiB}});
  }

  TEST_CASE("growing reveals the next hole, and takes that too") {
    // Without holes the direct map ends at 858 MiB. The first hole lets it grow by 60 MiB, over the second one.
    const Figures whole = figures(4 * kGiB, {}), cut = figures(4 * kGiB, {{300, 360}, {870, 880}});
    REQUIRE(cut.plan.range_count == 3);
    check_range(cut.plan, 1, {870, 880});
    CHECK(cut.top_mib == 50);
    CHECK(cut.low_mib == whole.low_mib);
  }

  TEST_CASE("where RAM ends early, holes come on top") {
    const Figures whole = figures(512 * kMiB, {}), cut = figures(512 * kMiB, {{128, 192}});
    CHECK(whole.vmalloc_mib == 120);
    CHECK(cut.vmalloc_mib == 184);
    CHECK(cut.low_mib + 64 == whole.low_mib);
  }

  TEST_CASE("of very many holes the 32 largest are used") {
    auto map = std::make_unique<MemoryMap>();
    std::vector<E820Entry> entries{{0, 4 * kGiB, 1}};
    for (u32 i = 0; i < 60; ++i) entries.push_back({(16 + 8 * i) * u64{kMiB}, (i % 2 == 0 ? 2 : 4) * u64{kMiB}, 2});
    map->load(entries);
    const Figures cut = figures(*map);
    CHECK(cut.plan.range_count == 33);
    u32 large = 0;
    for (const VaRange& hole : cut.plan.holes()) large += hole.bytes() == 4 * kMiB ? 1 : 0;
    CHECK(large == 30);
    check_range(cut.plan, 0, {16, 18});  // of equal ones the lowest
    CHECK(cut.plan.unused_hole_bytes == 28 * 2 * kMiB);
  }

  TEST_CASE("holes larger than all memory beside them do not eat it with their tables") {
    auto map = std::make_unique<MemoryMap>();
    const E820Entry entries[] = {{0, 24 * kMiB, 1}, {2 * kGiB, 8 * kMiB, 1}, {5 * kGiB, kGiB, 1}};
    map->load(entries);
    LayoutRequest request;
    request.split = VmSplit::User1G;
    const Figures cut = figures(*map, request);
    CHECK(cut.low_mib == 31);
    CHECK(cut.vmalloc_mib / 2 * 4 <= cut.low_mib * 1024 / 32 + 128);  // KiB of tables
    CHECK(cut.plan.unused_hole_bytes > kGiB);
    CHECK(cut.top_mib >= 24);
  }

  TEST_CASE("highmem= moves the limit, and the holes below it stay vmalloc's") {
    LayoutRequest request;
    request.highmem_bytes = 512 * kMiB;
    const Figures cut = figures(kGiB, {{64, 128}, {300, 310}}, request);
    CHECK(cut.plan.range_count == 3);
    CHECK(cut.vmalloc_mib == 120 + 74);
    CHECK(cut.low_mib == 1024 - 74 - 512 - 1);
  }

  TEST_CASE("all splits") {
    for (const VmSplit split : {VmSplit::User3_5G, VmSplit::User3G, VmSplit::User2G, VmSplit::User1G}) {
      LayoutRequest request;
      request.split = split;
      const Figures whole = figures(64 * kGiB, {}, request), cut = figures(64 * kGiB, {{96, 192}}, request);
      CHECK(cut.low_mib == whole.low_mib);
      CHECK(cut.vmalloc_mib == whole.vmalloc_mib);
    }
  }

  TEST_CASE("the regions are all of the address space, in order, and agree with the plan") {
    const Figures cut = figures(4 * kGiB, {{256, 320}, {400, 402}});
    u64 at = 0;
    u32 low = 0, vmalloc = 0;
    for_each_address_region(cut.plan, [&](const AddressRegion& region) {
      CHECK(u64{region.first.raw()} == at);
      at = u64{region.last.raw()} + 1;
      if (region.kind == RegionKind::Lowmem) ++low;
      if (region.kind == RegionKind::Vmalloc) {
        const VaRange range = cut.plan.vmalloc_ranges()[vmalloc++];
        CHECK(range.begin == region.first);
        CHECK(range.end == region.last + 1);
      }
    });
    CHECK(at == 4 * kGiB);
    CHECK(low == 3);
    CHECK(vmalloc == 3);
    CHECK(address_region(cut.plan, VirtAddr{0xcfffffff}).kind == RegionKind::Lowmem);
    CHECK(address_region(cut.plan, VirtAddr{0xd0000000}).kind == RegionKind::Vmalloc);
    CHECK(address_region(cut.plan, VirtAddr{0xd3ffffff}).kind == RegionKind::Vmalloc);
    CHECK(address_region(cut.plan, VirtAddr{0xd4000000}).kind == RegionKind::Lowmem);
    CHECK(address_region(cut.plan, VirtAddr{0xffffffff}).name == "never mapped");
  }
}

}  // namespace paean::host
