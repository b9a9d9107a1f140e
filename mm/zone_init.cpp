// Step 6: zones get their ranges, their bitmaps and every free page.
#include "lib/log.hpp"
#include "mm/boot_memory.hpp"
#include "mm/page.hpp"

namespace paean {

namespace {

constexpr Pfn kDmaEnd{16 * kMiB / kPageSize};
constexpr Pfn kDma32End{0x100000};

Pfn lower(Pfn a, Pfn b) { return a < b ? a : b; }

PageCount usable_pages(Pfn from, Pfn to) {
  return pages_for(memory_map().bytes(MemoryKind::Usable, {to_phys(from), to_phys(to)}));
}

/// The end of the last usable range below `limit`, or `start`.
Pfn last_ram(Pfn start, Pfn limit) {
  Pfn end = start;
  for (const auto& entry : memory_map().ranges()) {
    if (entry.tag != MemoryKind::Usable || entry.begin >= to_phys(limit)) continue;
    const Pfn here = lower(to_pfn(entry.end), limit);
    if (here > end) end = here;
  }
  return end;
}

/// Bitmaps lie behind the page words, one zone after the other.
class BitmapSpace {
 public:
  BitmapSpace()
      : next_(
            reinterpret_cast<u32*>((layout().frame_window + layout().frame_words_bytes()).align_up(kPageSize).raw())) {}
  std::span<u32> take(usize words) {
    const std::span<u32> space{next_, words};
    next_ += words;
    return space;
  }

 private:
  u32* next_;
};

void define_zone(ZoneId id, Pfn start, Pfn limit, BitmapSpace& bitmaps) NO_THREAD_SAFETY_ANALYSIS {
  Zone& z = zone(id);
  z.id = id;
  z.start = start;
  z.base = start.align_down(Order{kMaxOrder});
  z.end = start < limit ? last_ram(start, limit) : start;
  z.present = usable_pages(z.start, z.end);
  if (z.empty()) return;
  const u32 pages = (z.end - z.base).count();
  z.buddy.init(bitmaps.take(Buddy::words_needed(pages)), pages);
}

void release(Pfn begin, Pfn end) NO_THREAD_SAFETY_ANALYSIS {
  while (begin < end) {  // a free range may cross zones
    Zone& z = zone(zone_of(begin));
    const Pfn here = lower(end, z.end);
    z.buddy.free_range(z.index_of(begin), (here - begin).count());
    z.managed += here - begin;
    begin = here;
  }
}

void mark_reserved() {
  boot_regions().for_each_reserved([](PhysAddr begin, PhysAddr end, BootReason reason) {
    const u32 word = Page::make_simple(PageType::Reserved, std::to_underlying(reason));
    for (const auto& entry : memory_map().ranges()) {
      if (entry.tag != MemoryKind::Usable) continue;
      const PhysRange ram = entry.range().intersect({begin, end});
      if (ram.empty()) continue;
      for (Pfn pfn = to_pfn(ram.begin); pfn < to_pfn(ram.end); ++pfn) pfn_to_page(pfn)->set_word(word);
    }
  });
}

}  // namespace

void init_zones() {
  const Pfn low_end = layout().low_end;
  const Pfn dma_end = lower(kDmaEnd, low_end);
  const Pfn high_start = lower(frame_limit(), kDma32End);
  BitmapSpace bitmaps;
  define_zone(ZoneId::Dma, Pfn{0}, dma_end, bitmaps);
  define_zone(ZoneId::Normal, dma_end, low_end, bitmaps);
  define_zone(ZoneId::Dma32, low_end, high_start, bitmaps);
  define_zone(ZoneId::HighMem, kDma32End, frame_limit(), bitmaps);
  mark_reserved();
  boot_regions().for_each_free([](PhysAddr begin, PhysAddr end) { release(to_pfn(begin), to_pfn(end)); });
  set_watermarks();

  log_info("Zone ranges:");
  for (const ZoneId id : kAllZones) {
    const Zone& z = zone(id);
    if (z.empty())
      log_info("  {:<8} empty", name(id));
    else
      log_info("  {:<8} [mem {:#018x}-{:#018x}]", name(id), to_phys(z.start).raw(), to_phys(z.end).raw() - 1);
  }
  const MemoryTotals low = low_totals(), high = high_totals();
  PageCount present{0};
  for (const ZoneId id : kAllZones) present += zone(id).present;
  log_info("Memory: {}K/{}K available ({}K reserved, {}K highmem)", (low.free + high.free).kib(), present.kib(),
           (present - low.total - high.total).kib(), high.total.kib());
}

}  // namespace paean
