// Zones and page words of the machine that this is: every frame is accounted for, once.
#include "mm/zone.hpp"

#include "access.hpp"
#include "mm/boot_memory.hpp"
#include "mm/ledger.hpp"

namespace paean {

namespace {

constexpr u32 kDmaFrames = 4096;
constexpr Pfn kFourGib{0x100000};

/// Calls fn(Pfn) for the frames near each end of each usable or unusable range.
template <typename Fn>
void each_edge(Fn fn) {
  for (const auto& entry : memory_map().ranges()) {
    for (const PhysAddr edge : {entry.begin, entry.end}) {
      if (edge > to_phys(frame_limit())) continue;
      const u32 frame = number(to_pfn(edge));
      for (u32 pfn = frame < 2 ? 0 : frame - 2; pfn < frame + 2; ++pfn) {
        if (Pfn{pfn} < frame_limit()) fn(Pfn{pfn});
      }
    }
  }
}

bool usable(Pfn pfn) {
  return memory_map().bytes(MemoryKind::Usable, {to_phys(pfn), to_phys(pfn) + kPageSize}) == kPageSize;
}

}  // namespace

KTEST(zone, ranges_follow_each_other) {
  EXPECT_EQ(number(zone(ZoneId::Dma).start), 0);
  EXPECT(zone(ZoneId::Dma).end <= Pfn{kDmaFrames});
  EXPECT(zone(ZoneId::Normal).end <= direct_map.end);
  for (u32 i = 0; i < kZoneCount; ++i) {
    const Zone& z = zone(static_cast<ZoneId>(i));
    EXPECT_EQ(z.id, static_cast<ZoneId>(i));
    EXPECT(z.start <= z.end);
    EXPECT(z.base <= z.start && z.base.is_aligned(Order{kMaxOrder}));
    EXPECT(z.managed <= z.present);
    EXPECT(z.present <= z.spanned());
    if (i != 0) EXPECT(zone(static_cast<ZoneId>(i - 1)).end <= z.start);
  }
  if (!zone(ZoneId::Dma32).empty()) {
    EXPECT(zone(ZoneId::Dma32).start >= direct_map.end && zone(ZoneId::Dma32).end <= kFourGib);
  }
  if (!zone(ZoneId::HighMem).empty()) EXPECT(zone(ZoneId::HighMem).start >= kFourGib);
}

KTEST(zone, present_is_what_the_map_calls_usable) {
  u64 present = 0;
  for (const ZoneId id : kAllZones) {
    const Zone& z = zone(id);
    present += z.present.bytes();
    EXPECT_EQ(z.present.bytes(), memory_map().bytes(MemoryKind::Usable, {to_phys(z.start), to_phys(z.end)}));
  }
  EXPECT_EQ(present, memory_map().usable_bytes());
}

KTEST(zone, present_is_managed_plus_reserved) {
  u64 reserved[kZoneCount]{};
  boot_regions().for_each_reserved([&](PhysAddr begin, PhysAddr end, BootReason) {
    for (u32 i = 0; i < kZoneCount; ++i) {
      const Zone& z = zone(static_cast<ZoneId>(i));
      const PhysRange part = PhysRange{begin, end}.intersect({to_phys(z.start), to_phys(z.end)});
      if (!part.empty()) reserved[i] += memory_map().bytes(MemoryKind::Usable, part);
    }
  });
  for (u32 i = 0; i < kZoneCount; ++i) {
    const Zone& z = zone(static_cast<ZoneId>(i));
    EXPECT_EQ(z.present.bytes(), z.managed.bytes() + reserved[i]);
  }
}

KTEST(zone, ledger_is_exact) {
  for (const ZoneId id : kAllZones) {
    EXPECT_EQ(ledger_total(id).count() + free_pages_in(id).count(), zone(id).managed.count());
  }
}

KTEST(zone, block_counts_add_up_to_free_pages) {
  drain_local_pages();
  for (const ZoneId id : kAllZones) {
    const std::array<u32, kOrderCount> blocks = free_blocks_in(id);
    u32 pages = 0;
    for (u32 order = 0; order < kOrderCount; ++order) pages += blocks[order] << order;
    EXPECT_EQ(pages + stacked_pages(id, 0).count(), free_pages_in(id).count());
    EXPECT_EQ(stacked_pages(id, 0).count(), 0);
  }
}

KTEST(zone, live_bitmaps_are_sound, .flags = TestFlag::Slow) {
  for (const ZoneId id : kAllZones) {
    Zone& z = zone(id);
    if (z.empty()) continue;
    const SpinGuard<IrqSave> guard{z.lock};
    EXPECT(z.buddy.check());
  }
}

KTEST(zone, zone_of_every_edge) {
  each_edge([&](Pfn pfn) {
    if (!usable(pfn)) return;
    const Zone& z = zone(zone_of(pfn));
    EXPECT(pfn >= z.start && pfn < z.end);
  });
  EXPECT_EQ(zone_of(Pfn{1}), ZoneId::Dma);
  if (!zone(ZoneId::Normal).empty()) {
    EXPECT_EQ(zone_of(Pfn{kDmaFrames - 1}), ZoneId::Dma);
    EXPECT_EQ(zone_of(Pfn{kDmaFrames}), ZoneId::Normal);
  }
  if (!zone(ZoneId::Dma32).empty()) {
    EXPECT_EQ(zone_of(direct_map.end), ZoneId::Dma32);
    EXPECT_EQ(zone_of(direct_map.end - PageCount{1}), zone(ZoneId::Normal).empty() ? ZoneId::Dma : ZoneId::Normal);
  }
  if (!zone(ZoneId::HighMem).empty()) EXPECT_EQ(zone_of(kFourGib), ZoneId::HighMem);
}

KTEST(zone, the_dma_zone_is_spared_at_boot) {
  // ISA devices can use nothing else, so what boot may place anywhere is placed elsewhere.
  if (zone(ZoneId::Normal).managed.count() < 4096) return;
  constexpr PhysRange kDma{PhysAddr{0}, PhysAddr{u64{16} * kMiB}};
  u64 taken = 0;
  boot_regions().for_each_reserved([&](PhysAddr begin, PhysAddr end, BootReason reason) {
    if (reason != BootReason::PageTables && reason != BootReason::FrameWords && reason != BootReason::BuddyBitmaps)
      return;
    const PhysRange part = PhysRange{begin, end}.intersect(kDma);
    if (!part.empty()) taken += part.bytes();
  });
  test.note("DMA: {} of {} pages managed", zone(ZoneId::Dma).managed, zone(ZoneId::Dma).present);
  EXPECT_EQ(taken, u64{0});
}

KTEST(zone, high_memory_pays_for_the_page_words, .flags = TestFlag::NeedsHighmem) {
  if (high_totals().total.mib() < 512) return;  // too little of it to ask for whole 2 MiB pages
  EXPECT_EQ(low_reserved_bytes(BootReason::FrameWords), u64{0});
  EXPECT_EQ(low_reserved_bytes(BootReason::BuddyBitmaps), u64{0});
}

KTEST(zone, watermarks_rise) {
  for (const ZoneId id : kAllZones) {
    const Zone& z = zone(id);
    if (z.managed.count() < 1024) continue;
    test.note("{}: min {} low {} high {} of {}", name(id), z.min, z.low, z.high, z.managed);
    EXPECT(z.min.count() > 0);
    EXPECT(z.min < z.low && z.low < z.high && z.high < z.managed);
    EXPECT_EQ(z.reserve[std::to_underlying(id)].count(), 0);
    for (u32 i = 1; i < kZoneCount; ++i) {
      EXPECT(z.reserve[i].count() <= z.managed.count() / 4);
      if (i > std::to_underlying(id)) EXPECT(z.reserve[i] >= z.reserve[i - 1]);
    }
  }
}

KTEST(frame_words, holes_say_hole_and_memory_does_not) {
  each_edge([&](Pfn pfn) {
    if (pfn_valid(pfn) != usable(pfn)) test.note("frame {:#x}", pfn);
    EXPECT_EQ(pfn_valid(pfn), usable(pfn));
  });
  EXPECT(!pfn_valid(Pfn{0}));
  EXPECT(!pfn_valid(frame_limit()));
  EXPECT(!pfn_valid(Pfn{0xffffffff}));
}

KTEST(frame_words, every_hole_says_hole, .flags = TestFlag::Slow) {
  u32 wrong = 0, looked = 0;
  u64 at = 0;
  const auto look = [&](u64 from, u64 to) {
    // Whole sections are alike, so a prime stride meets each of them; small holes are looked at in full.
    const u32 stride = to - from > 4096 ? 61 : 1;
    for (u64 frame = from; frame < to; frame += stride, ++looked) {
      if (!pfn_valid(Pfn{static_cast<u32>(frame)})) continue;
      if (wrong++ == 0)
        test.note("first: frame {:#x} has word {:08x}", frame, pfn_to_page(Pfn{static_cast<u32>(frame)})->word());
    }
  };
  for (const auto& entry : memory_map().ranges()) {
    if (entry.tag != MemoryKind::Usable) continue;
    look(at, number(to_pfn(entry.begin)));
    at = number(to_pfn(entry.end));
  }
  look(at, number(frame_limit()));
  test.note("{} frames of holes looked at", looked);
  EXPECT_EQ(wrong, 0);
}

KTEST(frame_words, reserved_frames_say_so) {
  u32 wrong = 0, reserved = 0;
  boot_regions().for_each_reserved([&](PhysAddr begin, PhysAddr end, BootReason reason) {
    for (Pfn pfn = to_pfn(begin); pfn < to_pfn(end) && pfn < frame_limit(); ++pfn) {
      if (!usable(pfn)) continue;
      ++reserved;
      const Page* page = pfn_to_page(pfn);
      if (page->type() == PageType::Reserved && page->detail() == std::to_underlying(reason)) continue;
      if (wrong++ == 0) test.note("first: frame {:#x} ({}) has word {:08x}", pfn, name(reason), page->word());
    }
  });
  test.note("{} reserved frames", reserved);
  EXPECT_EQ(wrong, 0);
}

KTEST(frame_words, free_words_and_free_bits_agree) {
  drain_local_pages();
  for (const ZoneId id : kAllZones) {
    Zone& z = zone(id);
    if (z.empty()) continue;
    for (u32 i = 0; i < 20'000; ++i) {
      const Pfn pfn = z.start + PageCount{test.random_below(z.spanned().count())};
      const SpinGuard<IrqSave> guard{z.lock};
      Page* page = pfn_to_page(pfn);
      const bool owned = block_head(page) != nullptr || page->type() == PageType::Slab;
      const bool free = z.buddy.is_free(z.index_of(pfn));
      if (free) REQUIRE_EQ(page->type(), PageType::Free);
      if (free) REQUIRE(!owned);
      if (!free && !owned) REQUIRE(page->type() == PageType::Reserved || page->type() == PageType::Hole);
    }
  }
}

KTEST(frame_words, image_is_reserved) {
  for (VirtAddr va = address_of(__image_start); va < address_of(__image_end); va += kPageSize) {
    const Page* page = pfn_to_page(Pfn{(number(va) - arch::kImageOffset) >> kPageShift});
    REQUIRE_EQ(page->type(), PageType::Reserved);
  }
}

KTEST(memory_map, ranges_are_sorted_and_whole_pages) {
  PhysAddr at{0};
  u64 total = 0;
  for (const auto& entry : memory_map().ranges()) {
    EXPECT(entry.begin >= at && entry.begin < entry.end);
    if (entry.tag == MemoryKind::Usable) {
      EXPECT(entry.begin.is_aligned(kPageSize) && entry.end.is_aligned(kPageSize));
      total += entry.end - entry.begin;
    }
    at = entry.end;
  }
  EXPECT_EQ(total, memory_map().usable_bytes());
  EXPECT(memory_map().last_usable_end() <= to_phys(frame_limit()));
}

KTEST(memory_map, boot_took_nothing_twice) {
  PhysAddr at{0};
  boot_regions().for_each_reserved([&](PhysAddr begin, PhysAddr end, BootReason) {
    EXPECT(begin >= at && begin < end);
    at = end;
  });
  u64 sum = boot_regions().free_bytes();
  for (u32 i = 0; i < kBootReasonCount; ++i) sum += reserved_bytes(static_cast<BootReason>(i));
  EXPECT_EQ(sum, memory_map().usable_bytes() + memory_map().partial_bytes());
}

KTEST(layout, regions_follow_each_other) {
  const LayoutPlan& plan = layout();
  EXPECT_EQ(number(plan.page_offset), number(direct_map.page_offset));
  EXPECT(plan.low_end == direct_map.end);
  EXPECT(plan.page_offset + (number(plan.low_end) << kPageShift) <= plan.vmalloc_start);
  EXPECT(plan.vmalloc_start <= plan.vmalloc_end());
  EXPECT(plan.vmalloc_end() - plan.vmalloc_start >= kMinimumVmalloc);
  EXPECT(plan.frame_window + plan.frame_window_bytes <= arch::kRuntimeEnd);
  EXPECT(plan.frame_words_bytes() <= plan.frame_window_bytes);
  EXPECT(plan.frame_limit == frame_limit());
  EXPECT_EQ(number(address_of(pfn_to_page(Pfn{0}))), number(plan.frame_window));
  EXPECT(plan.page_offset.is_aligned(512 * kMiB));
}

}  // namespace paean
