#include "mm/zone.hpp"

#include <algorithm>

#include "mm/page_stacks.hpp"

namespace paean {

namespace {

constinit Zone zones[kZoneCount];

/// 4 * sqrt(lowmem in kB): little machines keep a larger share than big ones. As Linux's min_free_kbytes.
u32 minimum_free_kib(u64 low_kib) {
  u32 root = 0;
  while (u64{root + 1} * (root + 1) <= low_kib * 16) ++root;
  return root < 128 ? 128 : root > 65536 ? 65536 : root;
}

MemoryTotals totals(ZoneId first, ZoneId second) {
  return MemoryTotals{zone(first).managed + zone(second).managed, free_pages_in(first) + free_pages_in(second)};
}

}  // namespace

std::string_view name(ZoneId id) {
  switch (id) {
    case ZoneId::Dma: return "DMA";
    case ZoneId::Normal: return "Normal";
    case ZoneId::Dma32: return "DMA32";
    case ZoneId::HighMem: return "HighMem";
  }
  return "?";
}

Zone& zone(ZoneId id) { return zones[std::to_underlying(id)]; }

ZoneId zone_of(Pfn pfn) {
  if (pfn >= zones[3].start) return ZoneId::HighMem;
  if (pfn >= zones[2].start) return ZoneId::Dma32;
  return pfn >= zones[1].start ? ZoneId::Normal : ZoneId::Dma;
}

PageCount stacked_pages(ZoneId id, u32 cpu) {
  const ZoneStacks& stacks = page_stacks.on(cpu).zone[std::to_underlying(id)];
  u32 pages = stacks.singles.count;
  for (u32 i = 0; i < kSmallStacks; ++i) pages += stacks.small[i].count << kSmallStackOrder[i];
  return PageCount{pages};
}

PageCount free_pages_in(ZoneId id) {
  Zone& z = zone(id);
  const SpinGuard<IrqSave> guard{z.lock};
  PageCount total{z.buddy.free_pages()};
  for (u32 cpu = 0; cpu < arch::online_cpus(); ++cpu) total += stacked_pages(id, cpu);
  return total;
}

std::array<u32, kOrderCount> free_blocks_in(ZoneId id) {
  Zone& z = zone(id);
  std::array<u32, kOrderCount> blocks{};
  const SpinGuard<IrqSave> guard{z.lock};
  for (u32 order = 0; order < kOrderCount; ++order) blocks[order] = z.buddy.free_blocks(Order{order});
  return blocks;
}

MemoryTotals low_totals() { return totals(ZoneId::Dma, ZoneId::Normal); }
MemoryTotals high_totals() { return totals(ZoneId::Dma32, ZoneId::HighMem); }

void set_watermarks() {
  constexpr u32 kNormalShare = 32, kDmaShare = 256, kMostOfZone = 4;
  constexpr u32 kLendShare = 64;     // of NORMAL: what interrupts may take before the lent pages come back
  constexpr u32 kStepShare = 1000;   // between the marks: what is allocated while kswapd wakes up
  constexpr u32 kHighMinimum = 128;  // highmem needs no reserve of its own: nothing urgent must come from there
  const PageCount low_pages = zone(ZoneId::Dma).managed + zone(ZoneId::Normal).managed;
  const u32 min_pages = minimum_free_kib(low_pages.kib()) / 4;
  for (u32 i = kZoneCount; i-- != 0;) {
    Zone& z = zones[i];
    const u32 managed = z.managed.count();
    u32 min = is_low(z.id) && low_pages.count() != 0 ? static_cast<u32>(u64{min_pages} * managed / low_pages.count())
                                                     : (managed / 1024 < kHighMinimum ? managed / 1024 : kHighMinimum);
    if (min > managed / 8) min = managed / 8;
    z.min = PageCount{min};
    const u32 step = std::max(min / 4, managed / kStepShare);
    z.low = PageCount{min + step};
    z.high = PageCount{min + 2 * step};
    // What a request for zone j may not take here: a share of everything between this zone and j.
    PageCount between{0};
    for (u32 j = i + 1; j < kZoneCount; ++j) {
      between += zones[j].managed;
      u32 share = between.count() / (z.id == ZoneId::Dma ? kDmaShare : kNormalShare);
      if (!is_low(z.id)) share = 0;  // DMA32 is as good as HIGHMEM for those who can use either
      z.reserve[j] = PageCount{share < managed / kMostOfZone ? share : managed / kMostOfZone};
    }
    z.lend_reserve = z.reserve[std::to_underlying(ZoneId::HighMem)];
    if (z.id == ZoneId::Normal) z.lend_reserve = std::min(z.lend_reserve, PageCount{managed / kLendShare});
  }
}

}  // namespace paean
