// What it costs to reach a high page. A pair is map, touch one word, unmap.
//
// kmap may sleep, so its loops run with interrupts on and measure themselves: a tick comes once in ten million
// instructions and does not show.
#include "mm/kmap.hpp"
#include "arch/tsc.hpp"
#include "kernel/bench/kbench.hpp"
#include "mm/highmem.hpp"
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

/// Like BenchContext::run() with interrupts on: the same loop, minus an empty one. One call of the body is `pairs`.
template <typename Body>
[[gnu::noinline]] u64 clock_of(u32 iterations, Body body) {
  const u64 begin = arch::read_tsc();
  u32 left = iterations;
  bool again = true;
  do {
    body();
    asm volatile("decl %0" : "+m"(left), "=@ccnz"(again) : : "memory");
  } while (again);
  return arch::read_tsc() - begin;
}
template <typename Body>
void run_with_interrupts(BenchContext& bench, u32 pairs, Body body) {
  (void)clock_of(16, body);
  const u64 loop = clock_of(bench.iterations(), [] {});
  const u64 total = clock_of(bench.iterations(), body);
  bench.report(BenchValue::ratio(total > loop ? total - loop : 0, bench.iterations() * pairs), bench.unit());
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
  run_with_interrupts(bench, 1, [&] {
    const Kmap map{*page};
    keep(*map.as<volatile u32>());
  });
  free_page(*page);
}

KBENCH(kmap_miss, "kmap one of 2048 high pages in turn, touch it, kunmap", .iterations = 100) {
  if (!has_highmem(bench)) return;
  for (Page*& page : cycle) page = *alloc_page(AllocFlags::HighUser, Owner::Test);
  run_with_interrupts(bench, kCyclePages, [] {
    for (Page* page : cycle) {
      const Kmap map{page};
      keep(*map.as<volatile u32>());
    }
  });
  for (Page* page : cycle) free_page(page);
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
