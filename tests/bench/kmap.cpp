// What it costs to reach a high page. A pair is map, touch one word, unmap.
#include "mm/kmap.hpp"
#include "kernel/bench/kbench.hpp"
#include "mm/highmem.hpp"
#include "mm/kmap_block.hpp"
#include "mm/page_alloc.hpp"

namespace paean {

namespace {

constexpr u32 kCyclePages = 2048;  // twice as many as there are slots: every map is a miss
constinit Page* cycle[kCyclePages];

bool has_highmem(BenchContext& bench) {
  if (high_totals().total.count() >= 2 * kCyclePages) return true;
  bench.skip("no highmem");
  return false;
}

}  // namespace

KBENCH(kmap_local, "map a high page for this thread, touch it, unmap") {
  if (!has_highmem(bench)) return;
  const Result<Page*> page = alloc_page(AllocFlags::HighUser, Owner::Test);
  bench.run([&] {
    const KmapLocal map{*page};
    keep(*map.as<volatile u32>());
  });
  free_page(*page);
}

KBENCH(kmap_hit, "kmap a high page that has a slot, touch it, kunmap") {
  if (!has_highmem(bench)) return;
  const Result<Page*> page = alloc_page(AllocFlags::HighUser, Owner::Test);
  bench.run_with_interrupts(1, [&] {
    const Kmap map{*page};
    keep(*map.as<volatile u32>());
  });
  free_page(*page);
}

KBENCH(kmap_miss, "kmap one of 2048 high pages in turn, touch it, kunmap", .iterations = 100) {
  if (!has_highmem(bench)) return;
  for (Page*& page : cycle) page = *alloc_page(AllocFlags::HighUser, Owner::Test);
  bench.run_with_interrupts(kCyclePages, [] {
    for (Page* page : cycle) {
      const Kmap map{page};
      keep(*map.as<volatile u32>());
    }
  });
  for (Page* page : cycle) free_page(page);
}

KBENCH(kmap_block, "map 2 MiB of highmem, touch them, unmap") {
  if (!has_highmem(bench)) return;
  const Result<Page*> block = alloc_pages(AllocFlags::HighUser, kBlockOrder, Owner::Test);
  bench.run_with_interrupts(1, [&] {
    const KmapBlock map{*block};
    keep(*map.as<volatile u32>());
  });
  free_pages(*block, kBlockOrder);
}

KBENCH(kmap_block_change, "the same with three blocks in turn: the window's entry changes each time",
       .iterations = 10000) {
  if (!has_highmem(bench)) return;
  Page* blocks[3];
  for (Page*& block : blocks) block = *alloc_pages(AllocFlags::HighUser, kBlockOrder, Owner::Test);
  bench.run_with_interrupts(3, [&] {
    for (Page* block : blocks) {
      const KmapBlock map{block};
      keep(*map.as<volatile u32>());
    }
  });
  for (Page* block : blocks) free_pages(block, kBlockOrder);
}

KBENCH(copy_highpage, "copy a high page to another; 1024 of it are the moves", .iterations = 2000) {
  if (!has_highmem(bench)) return;
  const Result<Page*> from = alloc_page(AllocFlags::HighUser, Owner::Test);
  const Result<Page*> to = alloc_page(AllocFlags::HighUser, Owner::Test);
  bench.run([&] { copy_highpage(*to, *from); });
  free_page(*to);
  free_page(*from);
}

}  // namespace paean
