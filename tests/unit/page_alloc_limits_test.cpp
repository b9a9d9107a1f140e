// The frame allocator at its limits: zones run empty in the right order, reserves hold, nothing is lost.
// Pages are taken in the largest blocks and never touched, so that 64 GB cost nothing on the host.
#include "access.hpp"
#include "mm/ledger.hpp"
#include "mm/page_alloc.hpp"
#include "mm/page_stacks.hpp"

namespace paean {

namespace {

/// Takes blocks until the allocator says no, first large ones. False if `held` could not hold them all.
bool take_everything(AllocFlags flags, HeldBlocks& held) {
  for (u32 order = kOrderCount; order-- != 0;) {
    for (;;) {
      if (held.full()) return false;
      const Result<Page*> page = alloc_pages(flags | AllocFlags::NoWarn, Order{order}, Owner::Test);
      if (!page) break;
      held.add(*page, Order{order});
    }
  }
  return true;
}

u32 index_of(ZoneId id) { return std::to_underlying(id); }

bool ledger_is_exact() {
  for (const ZoneId id : kAllZones) {
    if (ledger_total(id).count() + free_pages_in(id).count() != zone(id).managed.count()) return false;
  }
  return true;
}

/// Could a zone still have served a block without going below its low watermark?
bool could_serve(ZoneId id, ZoneId highest, Order order) {
  const Zone& z = zone(id);
  const std::array<u32, kOrderCount> blocks = free_blocks_in(id);
  bool has_block = false;
  for (u32 i = order.value(); i < kOrderCount; ++i) has_block |= blocks[i] != 0;
  return has_block && free_pages_in(id) >= z.low + z.reserve[index_of(highest)] + PageCount{order};
}

}  // namespace

KTEST(limits, high_requests_fall_back_downwards) {
  HeldBlocks held;
  REQUIRE(held.valid());
  constexpr Order kBlock{kMaxOrder};
  u32 served[kZoneCount]{};
  for (;;) {
    if (held.full()) SKIP("more memory than this test can hold");
    const Result<Page*> page = alloc_pages(AllocFlags::HighUser | AllocFlags::NoWarn, kBlock, Owner::Test);
    if (!page) break;
    held.add(*page, kBlock);
    const ZoneId from = zone_of(page_to_pfn(*page));
    if (served[index_of(from)]++ == 0) {
      for (u32 above = index_of(from) + 1; above < kZoneCount; ++above) {
        EXPECT(zone(static_cast<ZoneId>(above)).empty() ||
               !could_serve(static_cast<ZoneId>(above), ZoneId::HighMem, kBlock));
      }
    }
  }
  test.note("blocks of 4 MiB: {} DMA, {} Normal, {} DMA32, {} HighMem", served[0], served[1], served[2], served[3]);
  for (const ZoneId id : kAllZones) EXPECT(!could_serve(id, ZoneId::HighMem, kBlock));
  EXPECT(ledger_is_exact());
}

KTEST(limits, limited_requests_never_leave_their_zones) {
  for (const AllocFlags flags : {AllocFlags::Dma, AllocFlags::Kernel, AllocFlags::Dma32}) {
    HeldBlocks held;
    REQUIRE(held.valid());
    u32 above[kZoneCount]{};
    for (u32 i = index_of(flags.zone()) + 1; i < kZoneCount; ++i)
      above[i] = free_pages_in(static_cast<ZoneId>(i)).count();
    if (!take_everything(flags, held)) SKIP("more memory than this test can hold");
    u32 strays = 0;
    for (u32 i = 0; i < held.count(); ++i) strays += zone_of(page_to_pfn(held[i].page)) <= flags.zone() ? 0 : 1;
    EXPECT_EQ(strays, 0);
    for (u32 i = index_of(flags.zone()) + 1; i < kZoneCount; ++i) {
      EXPECT_EQ(free_pages_in(static_cast<ZoneId>(i)).count(), above[i]);
    }
    EXPECT(ledger_is_exact());
  }
}

KTEST(limits, user_fill_leaves_the_kernels_reserve) {
  HeldBlocks held;
  REQUIRE(held.valid());
  if (!take_everything(AllocFlags::HighUser, held)) SKIP("more memory than this test can hold");
  for (const ZoneId id : kAllZones) {
    const Zone& z = zone(id);
    const u32 free = free_pages_in(id).count();
    test.note("{}: {} free, reserve {}, min {}", name(id), free, z.reserve[3], z.min);
    EXPECT(free >= z.reserve[index_of(ZoneId::HighMem)].count());
  }
  EXPECT(ledger_is_exact());
  if (zone(ZoneId::Normal).reserve[index_of(ZoneId::HighMem)].count() == 0) return;
  for (u32 i = 0; i < 64; ++i) {  // the kernel goes on
    const Result<Page*> page = alloc_page(AllocFlags::Kernel | AllocFlags::NoWarn, Owner::Test);
    REQUIRE(page);
    held.add(*page, Order{0});
  }
}

KTEST(limits, kernel_stops_at_min_and_atomic_digs_deeper) {
  HeldBlocks held;
  REQUIRE(held.valid());
  const ZoneId id = zone(ZoneId::Normal).managed.count() >= 4096 ? ZoneId::Normal : ZoneId::Dma;
  const Zone& z = zone(id);
  const u32 reserve = z.reserve[index_of(ZoneId::Normal)].count();
  if (!take_everything(AllocFlags::Kernel, held)) SKIP("more memory than this test can hold");
  const u32 after_kernel = free_pages_in(id).count();
  EXPECT(after_kernel >= z.min.count() + reserve);
  EXPECT(after_kernel < z.high.count() + reserve + ZoneStacks::Singles::kCapacity);
  EXPECT(!alloc_page(AllocFlags::Kernel | AllocFlags::NoWarn, Owner::Test));
  const u32 kernel_blocks = held.count();
  if (!take_everything(AllocFlags::Atomic, held)) SKIP("more memory than this test can hold");
  const u32 after_atomic = free_pages_in(id).count();
  test.note("{}: min {}, kernel left {}, atomic left {}", name(id), z.min, after_kernel, after_atomic);
  EXPECT(held.count() > kernel_blocks);
  EXPECT(after_atomic < after_kernel);
  EXPECT(after_atomic >= z.min.count() / 2 + reserve);
  EXPECT(ledger_is_exact());
}

KTEST(limits, out_of_memory_is_a_result_for_every_order) {
  HeldBlocks held;
  REQUIRE(held.valid());
  if (!take_everything(AllocFlags::HighUser, held)) SKIP("more memory than this test can hold");
  if (!take_everything(AllocFlags::Atomic, held)) SKIP("more memory than this test can hold");
  const u32 failures = allocation_failures();
  u32 tries = 0;
  for (const AllocFlags flags :
       {AllocFlags::Kernel, AllocFlags::HighUser, AllocFlags::Dma, AllocFlags::HighUser | AllocFlags::Zero}) {
    for (u32 order = 0; order < kOrderCount; ++order) {
      const Result<Page*> page = alloc_pages(flags | AllocFlags::NoWarn, Order{order}, Owner::Test);
      if (page && flags.zone() == ZoneId::Dma) {
        free_pages(*page, Order{order});
        continue;
      }
      ++tries;
      REQUIRE(!page);
      EXPECT_EQ(page.error(), Error::OutOfMemory);
    }
  }
  EXPECT(!__get_free_pages(AllocFlags::Kernel | AllocFlags::NoWarn, Order{0}, Owner::Test));
  EXPECT(!get_zeroed_page(AllocFlags::Kernel | AllocFlags::NoWarn, Owner::Test));
  EXPECT(allocation_failures() >= failures + tries);
  EXPECT(ledger_is_exact());
}

KTEST(limits, memory_comes_back_in_the_largest_blocks) {
  drain_local_pages();
  const std::array<u32, kOrderCount> before = free_blocks_in(ZoneId::Normal);
  {
    HeldBlocks held;
    REQUIRE(held.valid());
    for (u32 i = 0; i < 10'000; ++i) {
      const Result<Page*> page = alloc_page(AllocFlags::Kernel | AllocFlags::NoWarn, Owner::Test);
      if (!page) break;
      held.add(*page, Order{0});
    }
    while (held.count() != 0) held.free_at(test.random_below(held.count()));
  }
  drain_local_pages();
  EXPECT(free_blocks_in(ZoneId::Normal) == before);
}

KTEST(limits, random_requests_keep_the_ledger_exact, .flags = TestFlag::Slow) {
  constexpr AllocFlags kFlags[] = {AllocFlags::Kernel,   AllocFlags::Atomic, AllocFlags::User,
                                   AllocFlags::HighUser, AllocFlags::Dma,    AllocFlags::Dma32};
  constexpr u32 kMostHeld = 2000;
  HeldBlocks held;
  REQUIRE(held.valid());
  u32 pauses = 0;
  for (u32 step = 0; step < 100'000; ++step) {
    if (held.count() != 0 && (held.count() == kMostHeld || test.random_below(100) < 48)) {
      held.free_at(test.random_below(held.count()));
    } else {
      const Order order{test.random_below(test.random_below(7) + 1)};
      const auto owner = static_cast<Owner>(test.random_below(kOwnerCount));
      const Result<Page*> page =
          alloc_pages(kFlags[test.random_below(std::size(kFlags))] | AllocFlags::NoWarn, order, owner);
      if (page) held.add(*page, order);
    }
    if (test.random_below(100) != 0) continue;
    ++pauses;
    if (!ledger_is_exact()) test.note("at step {}", step);
    REQUIRE(ledger_is_exact());
    if (pauses % 8 == 0) drain_local_pages();
  }
  test.note("{} pauses", pauses);
  for (u32 i = 0; i < held.count(); ++i) {
    for (u32 page = 0; page < held[i].order.pages(); ++page) REQUIRE(block_head(held[i].page + page) == held[i].page);
  }
}

KTEST(limits, dma_blocks_never_cross_their_borders) {
  constexpr u32 kMostHeld = 64;
  HeldBlocks held;
  REQUIRE(held.valid());
  for (u32 i = 0; i < 100'000; ++i) {
    if (held.count() == kMostHeld) held.free_at(test.random_below(kMostHeld));
    const Order order{test.random_below(7)};
    const Result<Page*> page = alloc_pages(AllocFlags::Dma | AllocFlags::NoWarn, order, Owner::Test);
    if (!page) {
      held.free_all();
      continue;
    }
    held.add(*page, order);
    const u32 first = number(page_to_pfn(*page)), last = first + order.pages() - 1;
    REQUIRE(last < 4096);
    if (order.value() <= 4) REQUIRE_EQ(first / 16, last / 16);  // ISA DMA counts inside 64 KiB
  }
}

}  // namespace paean
