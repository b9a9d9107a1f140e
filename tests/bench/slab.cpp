// The object allocator's costs. A pair is allocate and free.
#include <utility>

#include "kernel/bench/smp_bench.hpp"
#include "mm/kmalloc.hpp"

namespace paean {

namespace {

struct Thing {
  Thing* next;
  u32 words[31];
};
static_assert(sizeof(Thing) == 128);

template <u32 kSize>
void pair(BenchContext& bench) {
  bench.run([] {
    const Result<void*> object = kmalloc(kSize, AllocFlags::Kernel);
    keep(*object);
    kfree(*object);
  });
}

struct Kmalloc {
  static bool prepare() { return true; }
  static void finish() {}
  void operator()(u32) const {
    const Result<void*> object = kmalloc(64, AllocFlags::Kernel);
    if (object) kfree(*object);
  }
};

}  // namespace

KBENCH(smp_slab, "64 bytes on each CPU", .iterations = 20'000) { run_on_all_cpus<Kmalloc>(bench); }
KBENCH(kmalloc_64, "64 bytes, allocate and free") { pair<64>(bench); }
KBENCH(kmalloc_1024, "1 KiB, allocate and free") { pair<1024>(bench); }

KBENCH(slab_overhead_128, "what 1,000,000 objects of 128 bytes take beyond their size") {
  constexpr u32 kObjects = 1'000'000;
  constexpr u64 kNet = u64{kObjects} * sizeof(Thing);
  if (low_totals().free.bytes() < kNet * 5 / 4) return bench.skip("too little lowmem");
  (void)shrink_caches();
  const u32 before = slab_pages().count();
  Result<SlabCache<Thing>> cache = SlabCache<Thing>::create("bench_million");
  if (!cache) return bench.skip("no memory");
  Thing* chain = nullptr;
  u32 taken = 0;
  for (; taken < kObjects; ++taken) {
    const Result<Thing*> object = cache->allocate(AllocFlags::Kernel);
    if (!object) break;
    (*object)->next = chain;
    chain = *object;
  }
  const u64 bytes = PageCount{slab_pages().count() - before}.bytes();
  while (chain != nullptr) cache->free(std::exchange(chain, chain->next));
  ASSERT(cache->destroy().has_value());
  if (taken == kObjects) bench.report(BenchValue::ratio((bytes - kNet) * 100, static_cast<u32>(kNet)), "%");
}

KBENCH(slab_128, "an object of 128 bytes from a cache of its own, allocate and free") {
  Result<SlabCache<Thing>> cache = SlabCache<Thing>::create("bench_128");
  if (!cache) return bench.skip("no memory");
  bench.run([&]() __attribute__((always_inline)) {
    const Result<Thing*> object = cache->allocate(AllocFlags::Kernel);
    keep(*object);
    cache->free(*object);
  });
  ASSERT(cache->destroy().has_value());
}

}  // namespace paean
