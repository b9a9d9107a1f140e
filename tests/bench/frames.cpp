// The frame allocator's costs. A pair is allocate and free.
#include "kernel/bench/kbench.hpp"
#include "kernel/session.hpp"
#include "mm/highmem.hpp"
#include "mm/page_alloc.hpp"

namespace paean {

namespace {

constexpr u32 kBatchPages = 2048;
constinit Page* batch[kBatchPages];

/// False, and the benchmark skipped, on machines without highmem.
bool needs_highmem(BenchContext& bench) {
  if (high_totals().total.count() >= 2 * kBatchPages) return true;
  bench.skip("no highmem");
  return false;
}

/// Flags and order are template arguments, as they are constants wherever pages are allocated.
template <u32 kOrder, typename Flags>
void pair(BenchContext& bench, Flags flags) {
  bench.run([=]() __attribute__((always_inline)) {
    const Result<Page*> page = alloc_pages(flags(), Order{kOrder}, Owner::Test);
    keep(*page);
    free_pages(*page, Order{kOrder});
  });
}

template <typename Flags>
void single(BenchContext& bench, Flags flags) {
  bench.run([=]() __attribute__((always_inline)) {
    const Result<Page*> page = alloc_page(flags(), Owner::Test);
    keep(*page);
    free_page(*page);
  });
}

constexpr auto kHigh = [] { return AllocFlags::HighUser; };
constexpr auto kLow = [] { return AllocFlags::Kernel; };

}  // namespace

KBENCH(alloc_free_high, "one high page, allocate and free") {
  if (needs_highmem(bench)) single(bench, kHigh);
}
KBENCH(alloc_free_low, "one low page, allocate and free") { single(bench, kLow); }
KBENCH(alloc_free_order3, "8 low pages, allocate and free") { pair<3>(bench, kLow); }
KBENCH(alloc_free_order9, "2 MiB of high pages, allocate and free") {
  if (needs_highmem(bench)) pair<9>(bench, kHigh);
}

KBENCH(alloc_batch_2048, "2048 high pages one by one, then free them all", .iterations = 20) {
  if (!needs_highmem(bench)) return;
  bench.run([]() __attribute__((always_inline)) {
    for (Page*& page : batch) page = *alloc_page(AllocFlags::HighUser, Owner::Test);
    for (Page* page : batch) free_page(page);
  });
}

KBENCH(clear_highpage, "fill a high page with zeros; 1024 of it are the stores", .iterations = 2000) {
  if (!needs_highmem(bench)) return;
  const Result<Page*> page = alloc_page(AllocFlags::HighUser, Owner::Test);
  bench.run([&] { clear_highpage(*page); });
  free_page(*page);
}

KBENCH(kmap_atomic, "map a high page, touch it, unmap") {
  if (!needs_highmem(bench)) return;
  const Result<Page*> page = alloc_page(AllocFlags::HighUser, Owner::Test);
  bench.run([&] {
    const KmapAtomic map{*page};
    keep(*map.as<volatile u32>());
  });
  free_page(*page);
}

KBENCH(boot, "entry to prompt") { bench.report(BenchValue::whole(boot_cost()), bench.unit()); }

}  // namespace paean
