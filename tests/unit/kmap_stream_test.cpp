// Streams of misses on every CPU: how many interrupts the flushes cost.
#include "access.hpp"
#include "mm/highmem.hpp"
#include "mm/kmap.hpp"
#include "threads.hpp"

namespace paean {

namespace {

constexpr u32 kPages = 2048, kMaps = 50'000;

/// Maps pages of its own in turn, and looks at each.
struct Stream {
  HeldBlocks pages;
  u32 tag = 0, wrong = 0;

  bool prepare(u32 first_tag) {
    tag = first_tag;
    if (!pages.valid()) return false;
    for (u32 i = 0; i < kPages; ++i) {
      const Result<Page*> page = alloc_page(AllocFlags::HighUser, Owner::Test);
      if (!page) return false;
      pages.add(*page, Order{0});
      const KmapLocal map{*page};
      *map.as<u32>() = tag + i;
    }
    return true;
  }
  static void run(void* argument) {
    auto& me = *static_cast<Stream*>(argument);
    for (u32 i = 0; i < kMaps; ++i) {
      const Kmap map{me.pages[i % kPages].page};
      me.wrong += *map.as<volatile u32>() != me.tag + i % kPages ? 1 : 0;
    }
  }
};

struct Difference {
  u32 ipis, if_wrapped, flushes, own_flushes;
};
Difference since(const KmapStatistics& before) {
  const KmapStatistics after = kmap_statistics();
  return {after.ipis - before.ipis, after.ipis_if_wrapped - before.ipis_if_wrapped, after.flushes - before.flushes,
          after.own_flushes - before.own_flushes};
}

}  // namespace

KTEST(kmap, one_stream_of_misses_needs_few_interrupts, .flags = TestFlag::NeedsHighmem | TestFlag::NeedsSmp) {
  Stream stream;
  REQUIRE(stream.prepare(0x40000000));
  const KmapStatistics before = kmap_statistics();
  Stream::run(&stream);
  Stream::run(&stream);
  EXPECT_EQ(stream.wrong, 0);
  const Difference d = since(before);
  test.note("{} IPIs, {} if each time over had flushed all others; {} waits", d.ipis, d.if_wrapped, d.flushes);
  EXPECT(d.ipis * 8 <= d.if_wrapped);
}

/// Two CPUs that run at once pass through the slow path often enough to need hardly an interrupt. Where the host runs
/// them in turn, one uses up all clean slots while the other stands still, and each time over costs one: that says
/// nothing, and the best of some tries counts.
KTEST(stream, two_cpus_that_miss_need_few_interrupts, .flags = TestFlag::NeedsSmp | TestFlag::Slow) {
  if (high_totals().total.count() == 0 && direct_words != 0) SKIP("no page needs a map");
  Stream streams[2];
  REQUIRE(streams[0].prepare(0x10000000));
  REQUIRE(streams[1].prepare(0x20000000));
  constexpr u32 kTries = 5;
  bool few = false;
  for (u32 attempt = 0; attempt < kTries && !few; ++attempt) {
    const KmapStatistics before = kmap_statistics();
    {
      Crew<1> crew;
      REQUIRE(crew.add("stream", Stream::run, &streams[1], elsewhere()));
      Stream::run(&streams[0]);
    }
    EXPECT_EQ(streams[0].wrong + streams[1].wrong, 0);
    const Difference d = since(before);
    test.note("{} IPIs, {} if each time over had flushed all others; {} waits, {} CPUs flushed themselves", d.ipis,
              d.if_wrapped, d.flushes, d.own_flushes);
    few = d.ipis * 8 <= d.if_wrapped && d.flushes <= d.if_wrapped;
  }
  if (!few) SKIP("inconclusive: the CPUs have run in turn");
}

KTEST(kmap, a_stream_beside_a_busy_cpu, .flags = TestFlag::NeedsHighmem | TestFlag::NeedsSmp) {
  // The other CPU computes and never maps: it must be interrupted, or pass through the scheduler.
  Stream stream;
  REQUIRE(stream.prepare(0x30000000));
  u32 stop = 0;
  const KmapStatistics before = kmap_statistics();
  {
    Crew<1> crew;
    REQUIRE(crew.add(
        "busy",
        [](void* flag) {
          while (load(*static_cast<u32*>(flag)) == 0) asm volatile("");
        },
        &stop, elsewhere()));
    Stream::run(&stream);
    Stream::run(&stream);
    store(stop, 1);
  }
  EXPECT_EQ(stream.wrong, 0);
  const Difference d = since(before);
  test.note("{} IPIs, {} if each time over had flushed all others", d.ipis, d.if_wrapped);
  EXPECT(d.ipis <= d.if_wrapped + d.if_wrapped / 2);
}

}  // namespace paean
