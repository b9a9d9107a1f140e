// Holes of the direct map: who has their addresses, and what lies beside them. On a machine without holes the same is
// asked of the top range alone; tests/boot/hole_placement.py runs these with holes.
#include "access.hpp"
#include "arch/address_space.hpp"
#include "arch/fixmap.hpp"
#include "arch/traps.hpp"
#include "mm/address_regions.hpp"
#include "mm/boot_memory.hpp"
#include "mm/kmap.hpp"
#include "mm/stack_pool.hpp"
#include "mm/vmalloc.hpp"

namespace paean {

namespace {

VirtAddr address_of_frame(Pfn pfn) { return direct_map.page_offset + (number(pfn) << kPageShift); }

bool is_vmalloc(VirtAddr va) {
  for (const VaRange& range : vmalloc_ranges()) {
    if (range.contains(va)) return true;
  }
  return false;
}

/// visit(Pfn) for the frames of the holes.
template <typename Visit>
void each_frame_in_holes(Visit visit) {
  for (const VaRange& hole : layout().holes()) {
    for (VirtAddr va = hole.begin; va < hole.end; va += kPageSize) {
      visit(Pfn{(va - direct_map.page_offset) >> kPageShift});
    }
  }
}

/// Compares a page as the direct map shows it with the frame in a window. Somebody may be writing to it just now.
bool shows_its_frame(Pfn pfn) {
  for (u32 attempt = 0; attempt < 4; ++attempt) {
    const arch::FixWindow window{to_phys(pfn)};
    if (__builtin_memcmp(window.bytes(), pointer_to<u8>(address_of_frame(pfn)), kPageSize) == 0) return true;
  }
  return false;
}

}  // namespace

KTEST(holes, ranges_are_the_plan) {
  VirtAddr at = layout().page_offset;
  u32 sum = 0;
  for (const VaRange& range : vmalloc_ranges()) {
    test.note("vmalloc {:08x}-{:08x}, {} MiB", range.begin, range.end - 1, range.bytes() / kMiB);
    EXPECT(range.begin < range.end);
    EXPECT(range.begin.is_aligned(kLargePageSize) && range.end.is_aligned(kLargePageSize));
    EXPECT(range.begin == layout().page_offset || range.begin > at);
    at = range.end;
    sum += range.bytes();
  }
  EXPECT_EQ(sum, layout().vmalloc_bytes());
  EXPECT(at == layout().vmalloc_end());
  EXPECT(vmalloc_ranges().back().begin == layout().vmalloc_start);
  EXPECT(layout().low_end_address() <= layout().vmalloc_start);
  EXPECT(stack_window_end() > layout().vmalloc_start && stack_window_end() < layout().vmalloc_end());
}

KTEST(holes, have_no_memory) {
  u32 frames = 0, memory = 0, low = 0;
  each_frame_in_holes([&](Pfn pfn) {
    ++frames;
    memory += pfn_valid(pfn) ? 1 : 0;
    low += to_low(pfn) || low_frame_at(address_of_frame(pfn)) ? 1 : 0;
  });
  test.note("{} frames in {} holes", frames, layout().holes().size());
  EXPECT_EQ(memory, 0u);
  EXPECT_EQ(low, 0u);
}

KTEST(holes, classification_is_right_on_every_large_page_edge) {
  const auto look = [&](VirtAddr va) {
    const bool low = va >= direct_map.page_offset && va < layout().low_end_address() && !is_vmalloc(va);
    const Result<LowPfn> frame = low_frame_at(va);
    REQUIRE_EQ(frame.has_value(), low);
    const AddressRegion region = address_region(layout(), va);
    REQUIRE_EQ(region.kind == RegionKind::Lowmem, low);
    REQUIRE_EQ(region.kind == RegionKind::Vmalloc, is_vmalloc(va));
    if (!low) return;
    REQUIRE(frame->address() == va.align_down(kPageSize));
    REQUIRE(to_low(frame->pfn()).has_value());
    REQUIRE(to_low(frame->pfn())->address() == frame->address());
  };
  const VirtAddr end = layout().frame_window + 2 * kLargePageSize;
  for (VirtAddr edge = direct_map.page_offset; edge < end; edge += kLargePageSize) {
    for (const VirtAddr va : {edge - kPageSize, edge - 1, edge, edge + 1, edge + kPageSize}) look(va);
  }
  for (const VirtAddr va : {VirtAddr{0}, VirtAddr{0xffffffff}, layout().low_end_address(), arch::kImageStart}) look(va);
}

KTEST(holes, every_granule_has_its_table) {
  Pfn previous{0};
  for (const VaRange& range : vmalloc_ranges()) {
    for (VirtAddr va = range.begin; va < range.end; va += kLargePageSize) {
      const arch::Walk walk = arch::walk_current(va);
      REQUIRE(walk.pde.present() && !walk.large);
      REQUIRE(to_pfn(walk.pt_page) != previous);
      REQUIRE(pfn_valid(to_pfn(walk.pt_page)));
      previous = to_pfn(walk.pt_page);
    }
  }
}

KTEST(holes, are_not_shown) {
  // What vmalloc maps there is its own; the frame that the address would have as lowmem must not be there.
  u32 shown = 0;
  for (const VaRange& hole : layout().holes()) {
    for (VirtAddr va = hole.begin; va < hole.end; va += kPageSize) {
      const arch::Walk walk = arch::walk_current(va);
      shown += walk.mapped && number(walk.address) == u64{va - direct_map.page_offset} ? 1 : 0;
    }
  }
  EXPECT_EQ(shown, 0u);
}

KTEST(holes, neighbours_are_shown_to_the_last_byte) {
  u32 edges = 0;
  const auto look = [&](Pfn pfn) {
    if (pfn >= direct_map.end || !pfn_valid(pfn)) return;
    const arch::Walk walk = arch::walk_current(address_of_frame(pfn) + (kPageSize - 1));
    REQUIRE(walk.mapped);
    REQUIRE_EQ(number(walk.address), number(to_phys(pfn)) + kPageSize - 1);
    REQUIRE(shows_its_frame(pfn));
    ++edges;
  };
  for (const auto& entry : memory_map().ranges()) {
    if (entry.tag != MemoryKind::Usable || entry.begin >= to_phys(direct_map.end)) continue;
    look(to_pfn(entry.begin));
    look(to_pfn(entry.end) - PageCount{1});
  }
  look(direct_map.end - PageCount{1});
  test.note("{} edges of RAM in lowmem", edges);
  EXPECT(edges >= 2);
}

KTEST(holes, large_pages_reach_up_to_holes) {
  // A hole takes no large page away from the RAM beside it.
  for (const VaRange& hole : layout().holes()) {
    for (const VirtAddr beside : {hole.begin - kLargePageSize, hole.end}) {
      const PhysAddr begin{u64{beside - direct_map.page_offset}};
      if (hole.begin == direct_map.page_offset && beside < hole.begin) continue;
      if (memory_map().bytes(MemoryKind::Usable, {begin, begin + kLargePageSize}) != kLargePageSize) continue;
      if (beside + kLargePageSize > layout().low_end_address()) continue;
      const arch::Walk walk = arch::walk_current(beside);
      EXPECT(walk.mapped && walk.large);
    }
  }
}

KTEST(holes, both_ends_of_every_range_can_be_used) {
  const Result<Page*> page = alloc_page(AllocFlags::HighUser, Owner::Test);
  REQUIRE(page);
  const PhysAddr frame = to_phys(page_to_pfn(*page));
  constexpr u32 kLast = kPageSize - sizeof(u32);
  for (const VaRange& range : vmalloc_ranges()) {
    for (const VirtAddr va : {range.begin, range.end - kPageSize}) {
      if (arch::walk_current(va).mapped) continue;  // somebody's area
      const Pfn below{(range.begin - 1 - direct_map.page_offset) >> kPageShift};
      REQUIRE(arch::map_range(va, frame, kPageSize, arch::Protection::ReadWrite, nullptr));
      EXPECT(arch::probe_write(va, 0x5a));
      EXPECT(arch::probe_write(va + kLast, 0xa5));
      {
        const KmapLocal map{*page};
        EXPECT_EQ(*map.as<u32>(), 0x5au);
        EXPECT_EQ(*pointer_to<u32>(address_of(map.data()) + kLast), 0xa5u);
      }
      if (range.begin > direct_map.page_offset && to_low(below) && pfn_valid(below)) EXPECT(shows_its_frame(below));
      REQUIRE(arch::unmap_range(va, kPageSize));
      EXPECT(!arch::probe_read(va));
    }
  }
  free_page(*page);
}

KTEST(holes, areas_fill_them_and_neighbours_stay_what_they_are) {
  vmalloc_purge();
  u32 filled = 0;
  vmalloc_purge();
  for (const VaRange& hole : layout().holes()) {
    // With a guard page at either end this fills it, and it is the smallest range with so much room. Where something of
    // the boot lies in the hole, half of it does as well, or half of that.
    u32 pages = hole.bytes() / kPageSize - 2;
    if (low_totals().free.count() + high_totals().free.count() < 2 * pages) continue;
    Result<void*> area = vmalloc(pages * kPageSize);
    for (u32 halved = 0; halved < 4 && (!area || !hole.contains(address_of(*area))); ++halved) {
      if (area) vfree(*area);
      vmalloc_purge();
      pages /= 2;
      area = vmalloc(pages * kPageSize);
    }
    REQUIRE(area);
    const VirtAddr start = address_of(*area), last = start + (pages - 1) * kPageSize;
    const bool inside = hole.contains(start) && hole.contains(last);
    filled += inside ? 1 : 0;
    __builtin_memset(*area, 0x5a, kPageSize);
    __builtin_memset(pointer_to<u8>(last), 0xa5, kPageSize);
    for (const VirtAddr va : {start, start + 1, last, last + (kPageSize - 1)}) {
      EXPECT(is_vmalloc_addr(pointer_to<void>(va)) && !low_frame_at(va));
      EXPECT(address_region(layout(), va).kind == RegionKind::Vmalloc);
      EXPECT(vmalloc_to_page(pointer_to<void>(va)) != nullptr);
    }
    for (const VirtAddr beside : {hole.begin - kPageSize, hole.end}) {
      if (beside < direct_map.page_offset || beside >= layout().low_end_address() || is_vmalloc(beside)) continue;
      EXPECT(!is_vmalloc_addr(pointer_to<void>(beside)) && low_frame_at(beside));
      EXPECT(vmalloc_to_page(pointer_to<void>(beside)) == nullptr);
      const Pfn pfn{(beside - direct_map.page_offset) >> kPageShift};
      if (pfn_valid(pfn)) EXPECT(shows_its_frame(pfn));
    }
    EXPECT_EQ(*pointer_to<u8>(start), 0x5a);
    EXPECT_EQ(*pointer_to<u8>(last + (kPageSize - 1)), 0xa5);
    vfree(*area);
    vmalloc_purge();
  }
  test.note("{} of {} holes filled", filled, layout().holes().size());
  EXPECT(filled != 0 || layout().holes().empty());
}

// In a hole if there is one: an address that the arithmetic of the direct map would take.
KTEST(death, kunmap_of_a_vmalloc_address, .flags = TestFlag::Death) {
  KTEST_EXPECT_PANIC("not a mapped page");
  kunmap_address(pointer_to<void>(vmalloc_ranges().front().begin));
}

KTEST(death, free_of_a_vmalloc_address, .flags = TestFlag::Death) {
  KTEST_EXPECT_PANIC("no page has it");
  free_pages_at(vmalloc_ranges().front().begin, Order{0});
}

KTEST(death, kunmap_local_of_a_vmalloc_address, .flags = TestFlag::Death) {
  KTEST_EXPECT_PANIC("not a local map");
  kunmap_local(pointer_to<void>(vmalloc_ranges().front().begin));
}

}  // namespace paean
