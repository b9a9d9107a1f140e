// Purges of vmalloc as another CPU sees them, which keeps what it has translated until somebody tells it otherwise.
#include "arch/tlb.hpp"
#include "kernel/test/selftest.hpp"
#include "mm/vmalloc.hpp"
#include "remote_reader.hpp"

namespace paean {

namespace {

struct Flushes {
  u32 of_ranges, of_all;
};

/// Frees one area and purges it; what that cost.
Flushes purge_pages(u32 pages) {
  const Result<void*> area = vmalloc(pages * kPageSize);
  if (!area) return {};
  vfree(*area);
  const arch::TlbEvents before = arch::tlb_events();
  vmalloc_purge();
  const arch::TlbEvents after = arch::tlb_events();
  return {after.range_shootdowns - before.range_shootdowns, after.full_flushes - before.full_flushes};
}

}  // namespace

KTEST(vmalloc_purge, nobody_reads_what_was_purged, .flags = TestFlag::NeedsSmp) {
  RemoteReader reader;
  REQUIRE(reader.ready());
  // Each waits for the other CPU twice: fewer in runs that share the host, which have every length once all the same.
  const u32 rounds = race_iterations() < kRaceIterations ? 3 * arch::kTlbRangeLimit : 300;
  u32 seen = 0, stale = 0;
  for (u32 i = 0; i < rounds; ++i) {
    // Some are flushed as a range, every third, which is too long for that, with everything.
    const u32 pages = i % 3 == 2 ? arch::kTlbRangeLimit + 1 + i % 40 : 1 + i % arch::kTlbRangeLimit;
    const Result<void*> area = vmalloc(pages * kPageSize);
    REQUIRE(area);
    const VirtAddr last = address_of(*area) + (pages - 1) * kPageSize;
    *pointer_to<u32>(last) = i;
    seen += reader.read(last) == i ? 1 : 0;
    vfree(*area);
    vmalloc_purge();
    stale += reader.read(last) == RemoteReader::kFault ? 0 : 1;
  }
  EXPECT_EQ(seen, rounds);
  EXPECT_EQ(stale, 0u);
}

KTEST(vmalloc_purge, a_small_purge_flushes_its_range_alone, .flags = TestFlag::NeedsSmp) {
  if (arch::online_cpus() != 2) SKIP("CPUs that idle make up for all flushes when they wake");
  const RemoteReader reader;
  REQUIRE(reader.ready());
  vmalloc_purge();
  u32 flushed_all = 0;
  for (u32 i = 0; i < 20; ++i) {
    const Flushes flushes = purge_pages(1 + i);
    EXPECT_EQ(flushes.of_ranges, 1u);
    flushed_all += flushes.of_all;
  }
  test.note("{} flushes of everything", flushed_all);
  EXPECT(flushed_all < 10);  // others of the kernel may have had a reason for some
}

KTEST(vmalloc_purge, a_large_purge_flushes_everything, .flags = TestFlag::NeedsSmp) {
  vmalloc_purge();
  for (u32 i = 0; i < 20; ++i) {
    const Flushes flushes = purge_pages(arch::kTlbRangeLimit + 1 + i);
    EXPECT_EQ(flushes.of_ranges, 0u);
    EXPECT(flushes.of_all >= 1);
  }
}

}  // namespace paean
