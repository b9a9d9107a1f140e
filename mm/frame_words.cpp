// Step 5: page words and buddy bitmaps in their window, backed by highmem where there is some.
#include "arch/address_space.hpp"
#include "arch/fixmap.hpp"
#include "lib/log.hpp"
#include "mm/boot_memory.hpp"
#include "mm/page.hpp"

namespace paean {

namespace {

constexpr u32 kFramesPerWordPage = kPageSize / sizeof(Page);  // 1024: 4 MiB of RAM
constexpr u64 kSectionBytes = u64{kFramesPerWordPage} * kPageSize;
constexpr u32 kSectionsPerLargePage = kLargePageSize / kPageSize;

bool has_ram(PhysAddr section) {
  return memory_map().bytes(MemoryKind::Usable, {section, section + kSectionBytes}) != 0;
}

/// From highmem if possible, top down: lowmem is what everybody else needs.
Result<PhysAddr> allocate_backing(u32 bytes, u32 align, BootReason reason) {
  const PhysAddr low_end = to_phys(layout().low_end);
  RegionAllocator& regions = regions_for_boot();
  Result<PhysAddr> at = regions.allocate(bytes, align, {low_end, kPhysTop}, Direction::TopDown, reason);
  if (!at) at = regions.allocate(bytes, align, {PhysAddr{kMiB}, low_end}, Direction::TopDown, reason);
  return at;
}

[[noreturn]] void no_memory() { refuse_boot("no memory for the page words."); }

/// Backs a piece of the window with zeroed memory: one range if there is one so large, else its halves.
void map_new(VirtAddr va, u32 bytes, BootReason reason) {
  const u32 align = bytes % kLargePageSize == 0 ? kLargePageSize : kPageSize;
  const Result<PhysAddr> backing = allocate_backing(bytes, align, reason);
  if (!backing) {
    if (bytes == kPageSize) no_memory();
    const u32 half = ((bytes / 2) + kPageSize - 1) & ~(kPageSize - 1);
    map_new(va, half, reason);
    return map_new(va + half, bytes - half, reason);
  }
  if (!arch::map_range(va, *backing, bytes, arch::Protection::ReadWrite, allocate_boot_table)) no_memory();
  __builtin_memset(reinterpret_cast<void*>(va.raw()), 0, bytes);
}

/// All frames without RAM share one page of words, which nobody may write.
class HolePage {
 public:
  void map_at(VirtAddr va) {
    if (page_ == PhysAddr{}) make();
    if (!arch::map_range(va, page_, kPageSize, arch::Protection::ReadOnly, allocate_boot_table)) no_memory();
  }

 private:
  void make() {
    const Result<PhysAddr> page = allocate_backing(kPageSize, kPageSize, BootReason::FrameWords);
    if (!page) no_memory();
    page_ = *page;
    const arch::FixWindow window{page_};
    for (u32 i = 0; i < kFramesPerWordPage; ++i) window.as<Page>()[i].set_word(Page::make_simple(PageType::Hole));
  }
  PhysAddr page_{};
};

/// Backs 2 MiB of words (2 GiB of frames) at once if at least half of them describe RAM; else page by page.
void back_words(HolePage& holes) {
  const u32 pages = (layout().frame_words_bytes() + kPageSize - 1) / kPageSize;
  for (u32 first = 0; first < pages; first += kSectionsPerLargePage) {
    const u32 here = pages - first < kSectionsPerLargePage ? pages - first : kSectionsPerLargePage;
    const PhysAddr begin{u64{first} * kSectionBytes};
    const u64 ram = memory_map().bytes(MemoryKind::Usable, {begin, begin + here * kSectionBytes});
    const VirtAddr va = layout().frame_window + first * kPageSize;
    if (ram >= kSectionsPerLargePage / 2 * kSectionBytes) {
      map_new(va, kLargePageSize, BootReason::FrameWords);
      continue;
    }
    for (u32 i = 0; i < here;) {
      u32 run = 0;
      while (i + run < here && has_ram(begin + (i + run) * kSectionBytes)) ++run;
      if (run != 0)
        map_new(va + i * kPageSize, run * kPageSize, BootReason::FrameWords);
      else
        holes.map_at(va + i * kPageSize);
      i += run != 0 ? run : 1;
    }
  }
}

void back_bitmaps() {
  const VirtAddr words_end = (layout().frame_window + layout().frame_words_bytes()).align_up(kPageSize);
  const VirtAddr end = (words_end + frame_bitmap_bytes(frame_limit())).align_up(kPageSize);
  VirtAddr at = words_end;
  while (at < end && arch::walk_current(at).mapped) at += kPageSize;  // the last large page of words reaches in here
  const VirtAddr large = at.align_up(kLargePageSize), large_end = end.align_down(kLargePageSize);
  if (large < large_end) {
    if (at < large) map_new(at, large - at, BootReason::BuddyBitmaps);
    map_new(large, large_end - large, BootReason::BuddyBitmaps);
    at = large_end;
  }
  if (at < end) map_new(at, end - at, BootReason::BuddyBitmaps);
}

/// Marks frames [begin, end) as holes, except where the shared page says so already: that one is read-only.
void mark_holes(Pfn begin, Pfn end) {
  while (begin < end) {
    const Pfn section_end = Pfn{(begin.raw() | (kFramesPerWordPage - 1)) + 1};
    const Pfn stop = section_end < end ? section_end : end;
    const VirtAddr words{reinterpret_cast<u32>(pfn_to_page(begin))};
    if (arch::walk_current(words).leaf().has(arch::pte_bits::kWritable)) {
      for (Pfn pfn = begin; pfn < stop; ++pfn) pfn_to_page(pfn)->set_word(Page::make_simple(PageType::Hole));
    }
    begin = stop;
  }
}

void mark_all_holes() {
  Pfn at{0};
  for (const auto& entry : memory_map().ranges()) {
    if (entry.tag != MemoryKind::Usable) continue;
    mark_holes(at, to_pfn(entry.begin));
    at = to_pfn(entry.end);
  }
}

}  // namespace

void init_frame_words() {
  frame_words = reinterpret_cast<Page*>(layout().frame_window.raw());
  frame_words_limit = layout().frame_limit;
  HolePage holes;
  back_words(holes);
  back_bitmaps();
  mark_all_holes();
  log_info("page words: {} kB for {} frames, in {} kB of memory; bitmaps {} kB", layout().frame_words_bytes() / kKiB,
           frame_limit().raw(), reserved_bytes(BootReason::FrameWords) / kKiB,
           reserved_bytes(BootReason::BuddyBitmaps) / kKiB);
}

}  // namespace paean
