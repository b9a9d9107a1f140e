// Persistent maps: cached, shared by all CPUs, never stale; and the copies that use local ones.
#include "mm/kmap.hpp"
#include "access.hpp"
#include "arch/traps.hpp"
#include "kernel/thread.hpp"

namespace paean {

namespace {

class HighPage {
 public:
  HighPage() : page_(alloc_page(AllocFlags::HighUser, Owner::Test)) {}
  ~HighPage() {
    if (page_) free_page(*page_);
  }
  HighPage(const HighPage&) = delete;
  HighPage& operator=(const HighPage&) = delete;
  operator Page*() const { return *page_; }  // NOLINT(google-explicit-constructor)

 private:
  Result<Page*> page_;
};

void write(Page* page, u32 value) {
  const KmapLocal map{page};
  *map.as<u32>() = value;
}

}  // namespace

KTEST(kmap, a_cached_page_keeps_its_address, .flags = TestFlag::NeedsHighmem) {
  const HighPage page;
  write(page, 0x1234);
  void* first = kmap(page);
  EXPECT_EQ(*static_cast<u32*>(first), 0x1234);
  kunmap(page);
  const KmapStatistics before = kmap_statistics();
  void* second = kmap(page);
  const KmapStatistics after = kmap_statistics();
  EXPECT(second == first);
  EXPECT_EQ(after.misses, before.misses);
  EXPECT_EQ(after.hits, before.hits + 1);
  EXPECT_EQ(after.live, before.live + 1);
  kunmap_address(second);
}

KTEST(kmap, if_mapped_finds_only_what_has_a_slot, .flags = TestFlag::NeedsHighmem) {
  const HighPage page;
  EXPECT(!kmap_if_mapped(page));
  void* at = kmap(page);
  const Result<void*> again = kmap_if_mapped(page);
  REQUIRE(again);
  EXPECT(*again == at);
  kunmap(page);
  kunmap(page);
  kmap_flush_unused();
  EXPECT(!kmap_if_mapped(page));
  EXPECT_EQ(kmap_statistics().cached, 0);
}

KTEST(kmap, a_stream_of_misses_shows_every_page, .flags = TestFlag::NeedsHighmem) {
  constexpr u32 kPages = 2048, kMaps = 100'000;
  HeldBlocks pages;
  REQUIRE(pages.valid());
  for (u32 i = 0; i < kPages; ++i) {
    const Result<Page*> page = alloc_page(AllocFlags::HighUser, Owner::Test);
    REQUIRE(page);
    pages.add(*page, Order{0});
    write(*page, 0xabc00000 + i);
  }
  const KmapStatistics before = kmap_statistics();
  u32 wrong = 0;
  for (u32 i = 0; i < kMaps; ++i) {
    const Kmap map{pages[i % kPages].page};
    wrong += *map.as<volatile u32>() != 0xabc00000 + i % kPages ? 1 : 0;
  }
  const KmapStatistics after = kmap_statistics();
  EXPECT_EQ(wrong, 0);
  // A CPU uses its own share of the slots over and over; what lies in other shares may be found again.
  EXPECT(after.misses - before.misses > kMaps / 2);
  EXPECT(after.flushes - before.flushes <= kMaps / 512);
  test.note("{} flushes of others, {} of itself, {} IPIs; one flush each time over: {}", after.flushes - before.flushes,
            after.own_flushes - before.own_flushes, after.ipis - before.ipis,
            after.ipis_if_wrapped - before.ipis_if_wrapped);
}

KTEST(kmap, a_full_pool_says_busy, .flags = TestFlag::NeedsHighmem) {
  HeldBlocks pages;
  REQUIRE(pages.valid());
  const u32 slots = kmap_statistics().slots;
  u32 mapped = 0;
  for (u32 i = 0; i <= slots; ++i) {
    const Result<Page*> page = alloc_page(AllocFlags::HighUser, Owner::Test);
    REQUIRE(page);
    pages.add(*page, Order{0});
    const Result<void*> at = kmap_nonblock(*page);
    if (at)
      ++mapped;
    else
      EXPECT(at.error() == Error::Busy);
  }
  EXPECT_EQ(mapped, slots);
  EXPECT_EQ(kmap_statistics().live, slots);
  for (u32 i = 0; i < mapped; ++i) kunmap(pages[i].page);
  EXPECT_EQ(kmap_statistics().live, 0);
}

KTEST(kmap, many_are_mapped_at_once, .flags = TestFlag::NeedsHighmem) {
  const HighPage a, b, c;
  Page* pages[] = {a, b, c, a};
  for (u32 i = 0; i < 3; ++i) write(pages[i], i);
  void* at[4];
  REQUIRE(kmap_many(pages, at));
  for (u32 i = 0; i < 3; ++i) EXPECT_EQ(*static_cast<u32*>(at[i]), i);
  EXPECT(at[3] == at[0]);
  EXPECT_EQ(kmap_statistics().live, 3);
  kunmap_many(pages);
  EXPECT_EQ(kmap_statistics().live, 0);
}

KTEST(kmap, a_freed_page_leaves_no_alias, .flags = TestFlag::NeedsHighmem) {
  const Result<Page*> page = alloc_page(AllocFlags::HighUser, Owner::Test);
  REQUIRE(page);
  void* at = kmap(*page);
  kunmap(*page);
  EXPECT(arch::probe_read(address_of(at)));  // cached
  EXPECT((*page)->may_be_mapped());
  const KmapStatistics before = kmap_statistics();
  free_page(*page);
  const KmapStatistics after = kmap_statistics();
  EXPECT_EQ(after.dropped, before.dropped + 1);
  EXPECT_EQ(after.cached, before.cached - 1);
  EXPECT(!arch::probe_read(address_of(at)));
}

KTEST(kmap, a_freed_block_leaves_no_alias, .flags = TestFlag::NeedsHighmem) {
  const Result<Page*> block = alloc_pages(AllocFlags::HighUser, Order{3}, Owner::Test);
  REQUIRE(block);
  void* at = kmap(*block + 5);
  kunmap_address(at);
  free_pages(*block, Order{3});
  EXPECT(!arch::probe_read(address_of(at)));
}

KTEST(kmap, copies_within_pages, .flags = TestFlag::NeedsHighmem) {
  const HighPage a, b;
  clear_highpage(a);
  u8 text[100];
  for (u32 i = 0; i < sizeof text; ++i) text[i] = static_cast<u8>(i + 1);
  copy_to_page(a, kPageSize - 100, text);
  copy_highpage(b, a);
  zero_user(b, kPageSize - 50, 25);
  u8 back[100];
  copy_from_page(back, b, kPageSize - 100);
  for (u32 i = 0; i < sizeof back; ++i) EXPECT_EQ(back[i], i >= 50 && i < 75 ? 0 : text[i]);
}

KTEST(death, kmap_free_of_a_mapped_page, .flags = TestFlag::Death | TestFlag::NeedsHighmem) {
  const Result<Page*> page = alloc_page(AllocFlags::HighUser, Owner::Test);
  REQUIRE(page);
  (void)kmap(*page);
  KTEST_EXPECT_PANIC("which is mapped by kmap");
  free_page(*page);
}

KTEST(death, kunmap_twice, .flags = TestFlag::Death | TestFlag::NeedsHighmem) {
  const Result<Page*> page = alloc_page(AllocFlags::HighUser, Owner::Test);
  REQUIRE(page);
  void* at = kmap(*page);
  kunmap_address(at);
  KTEST_EXPECT_PANIC("it is not mapped");
  kunmap_address(at);
}

KTEST(death, zero_user_beyond_the_page, .flags = TestFlag::Death | TestFlag::NeedsHighmem) {
  const Result<Page*> page = alloc_page(AllocFlags::HighUser, Owner::Test);
  REQUIRE(page);
  KTEST_EXPECT_PANIC("assertion failed");
  zero_user(*page, kPageSize - 4, 5);
}

}  // namespace paean
