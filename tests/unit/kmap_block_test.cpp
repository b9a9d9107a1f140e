// 2 MiB of highmem by one directory entry.
#include "mm/kmap_block.hpp"
#include "access.hpp"
#include "arch/address_space.hpp"
#include "arch/layout.hpp"
#include "arch/traps.hpp"
#include "mm/kmap.hpp"
#include "threads.hpp"

namespace paean {

namespace {

constexpr u32 kPagesOfBlock = 512;

/// A block whose pages each hold a number of their own.
class TaggedBlock {
 public:
  explicit TaggedBlock(Order order = kBlockOrder) : order_(order) {
    block_ = alloc_pages(AllocFlags::HighUser, order, Owner::Test);
  }
  ~TaggedBlock() {
    if (block_) free_pages(*block_, order_);
  }
  TaggedBlock(const TaggedBlock&) = delete;
  TaggedBlock& operator=(const TaggedBlock&) = delete;

  bool valid() const { return block_.has_value(); }
  Page* page() const { return *block_; }
  void tag(u32 value) {
    for (u32 i = 0; i < order_.pages(); ++i) {
      const KmapLocal map{page() + i};
      map.as<volatile u32>()[i % kPagesOfBlock] = value + i;
    }
  }
  /// Pages that do not show their number, seen at `at`.
  static u32 wrong(const void* at, u32 value) {
    u32 count = 0;
    for (u32 i = 0; i < kPagesOfBlock; ++i) {
      const u32 word = static_cast<const volatile u32*>(at)[i * 1024 + i];
      count += word != value + i ? 1 : 0;
    }
    return count;
  }

 private:
  Order order_;
  Result<Page*> block_;
};

bool in_windows(const void* at) {
  return address_of(at) >= arch::kBlockWindowStart &&
         address_of(at) < arch::kBlockWindowStart + arch::kBlockWindows * kLargePageSize;
}

}  // namespace

KTEST(kmap_block, one_entry_shows_all_512_pages, .flags = TestFlag::NeedsHighmem) {
  TaggedBlock block;
  REQUIRE(block.valid());
  block.tag(0x5000);
  {
    const KmapBlock map{block.page()};
    EXPECT(in_windows(map.data()));
    EXPECT(address_of(map.data()).is_aligned(kLargePageSize));
    EXPECT_EQ(map.bytes().size(), kLargePageSize);
    EXPECT_EQ(TaggedBlock::wrong(map.data(), 0x5000), 0);
    const arch::Walk walk = arch::walk_current(address_of(map.data()) + kLargePageSize - 1);
    EXPECT(walk.large);
    EXPECT(walk.address == to_phys(page_to_pfn(block.page())) + (kLargePageSize - 1));
    EXPECT((bits(walk.leaf()) & arch::pte_bits::kWritable) != 0);
    EXPECT((bits(walk.leaf()) & arch::pte_bits::kUser) == 0);
    EXPECT((bits(walk.leaf()) & arch::pte_bits::kNoExecute) == (arch::leaf_flags_rw & arch::pte_bits::kNoExecute));
    map.as<volatile u32>()[kLargePageSize / 4 - 1] = 0xabcdef;
  }
  const KmapLocal last{block.page() + 511};
  EXPECT_EQ(last.as<u32>()[1023], 0xabcdef);
}

KTEST(kmap_block, a_block_keeps_its_window, .flags = TestFlag::NeedsHighmem) {
  TaggedBlock block;
  REQUIRE(block.valid());
  const Result<void*> first = kmap_block(block.page());
  REQUIRE(first);
  const Result<void*> second = kmap_block_nonblock(block.page());
  REQUIRE(second);
  EXPECT(*first == *second);
  kunmap_block(*first);
  kunmap_block(static_cast<u8*>(*second) + 12345);
  const BlockWindowStatistics before = block_window_statistics();
  EXPECT_EQ(before.live, 0);
  {
    const KmapBlock again{block.page()};
    EXPECT(again.data() == *first);
  }
  EXPECT_EQ(block_window_statistics().changes, before.changes);
  kmap_flush_unused();
  EXPECT_EQ(block_window_statistics().shown, 0);
  EXPECT(!arch::probe_read(address_of(*first)));
}

KTEST(kmap_block, both_halves_of_a_larger_block, .flags = TestFlag::NeedsHighmem) {
  TaggedBlock block{Order{10}};
  REQUIRE(block.valid());
  block.tag(0x7000);
  const KmapBlock low{block.page()};
  const KmapBlock high{block.page() + kPagesOfBlock};
  EXPECT_EQ(TaggedBlock::wrong(low.data(), 0x7000), 0);
  EXPECT_EQ(TaggedBlock::wrong(high.data(), 0x7000 + kPagesOfBlock), 0);
}

KTEST(kmap_block, only_whole_blocks) {
  const Result<Page*> small = alloc_pages(AllocFlags::HighUser, Order{8}, Owner::Test);
  const Result<Page*> block = alloc_pages(AllocFlags::HighUser, kBlockOrder, Owner::Test);
  REQUIRE(small);
  REQUIRE(block);
  EXPECT(kmap_block(*small).error() == Error::InvalidArgument);
  EXPECT(kmap_block(*block + 1).error() == Error::InvalidArgument);
  EXPECT(kmap_block_nonblock(*block + 256).error() == Error::InvalidArgument);
  Page* const gone = *block;
  free_pages(*block, kBlockOrder);
  EXPECT(kmap_block(gone).error() == Error::InvalidArgument);
  free_pages(*small, Order{8});
}

KTEST(kmap_block, lowmem_has_its_address) {
  const Result<Page*> block = alloc_pages(AllocFlags::Kernel, kBlockOrder, Owner::Test);
  REQUIRE(block);
  {
    const KmapBlock map{*block};
    const bool direct = number(address_of(map.data())) == number(*page_address(*block));
    EXPECT_EQ(direct, direct_words != 0);
    EXPECT_EQ(in_windows(map.data()), direct_words == 0);
  }
  free_pages(*block, kBlockOrder);
}

KTEST(kmap_block, three_blocks_in_two_windows, .flags = TestFlag::NeedsHighmem) {
  TaggedBlock blocks[3];
  for (u32 i = 0; i < 3; ++i) {
    REQUIRE(blocks[i].valid());
    blocks[i].tag(0x10000 * (i + 1));
  }
  u32 wrong = 0;
  for (u32 round = 0; round < 300; ++round) {
    const u32 i = test.random_below(3);
    const KmapBlock map{blocks[i].page()};
    wrong += TaggedBlock::wrong(map.data(), 0x10000 * (i + 1));
  }
  EXPECT_EQ(wrong, 0);
}

namespace {

struct BlockWanter {
  Page* block = nullptr;
  u32 mapped = 0, let_go = 0;
  static void run(void* argument) {
    auto& me = *static_cast<BlockWanter*>(argument);
    const KmapBlock map{me.block};
    store(me.mapped, 1);
    while (load(me.let_go) == 0) thread_sleep_ms(10);
  }
};

}  // namespace

KTEST(kmap_block, who_finds_no_window_sleeps, .flags = TestFlag::NeedsHighmem) {
  TaggedBlock blocks[4];
  for (const TaggedBlock& block : blocks) REQUIRE(block.valid());
  const Result<void*> first = kmap_block(blocks[0].page());
  const Result<void*> second = kmap_block(blocks[1].page());
  REQUIRE(first);
  REQUIRE(second);
  EXPECT(kmap_block_nonblock(blocks[2].page()).error() == Error::Busy);
  const u32 sleeps = block_window_statistics().sleeps;
  BlockWanter wanters[2] = {{blocks[2].page()}, {blocks[3].page()}};
  Crew<2> crew;
  for (u32 i = 0; i < 2; ++i) {
    REQUIRE(crew.add("block", BlockWanter::run, &wanters[i], elsewhere()));
    EXPECT(within_ms(10'000, [&] { return block_window_statistics().sleeps == sleeps + i + 1; }));
    thread_sleep_ms(50);
  }
  const u32 runs = thread_runs(crew[0]) + thread_runs(crew[1]);
  thread_sleep_ms(200);
  EXPECT_EQ(thread_runs(crew[0]) + thread_runs(crew[1]), runs);
  kunmap_block(*first);
  EXPECT(within_ms(10'000, [&] { return load(wanters[0].mapped) != 0; }));
  EXPECT_EQ(load(wanters[1].mapped), 0);
  store(wanters[0].let_go, 1);
  EXPECT(within_ms(10'000, [&] { return load(wanters[1].mapped) != 0; }));
  store(wanters[1].let_go, 1);
  crew.join();
  kunmap_block(*second);
}

KTEST(kmap_block, two_cpus_never_see_the_block_before, .flags = TestFlag::NeedsHighmem | TestFlag::NeedsSmp) {
  // Three blocks a CPU for two windows: each map takes a window away from what somebody has looked at.
  constexpr u32 kRounds = 400;
  TaggedBlock blocks[6];
  struct Side {
    TaggedBlock* blocks;
    u32 first, wrong = 0;
    static void run(void* argument) {
      auto& me = *static_cast<Side*>(argument);
      for (u32 i = 0; i < kRounds; ++i) {
        const u32 which = me.first + i % 3;
        const KmapBlock map{me.blocks[which].page()};
        me.wrong += TaggedBlock::wrong(map.data(), 0x10000 * (which + 1));
      }
    }
  };
  for (u32 i = 0; i < 6; ++i) {
    REQUIRE(blocks[i].valid());
    blocks[i].tag(0x10000 * (i + 1));
  }
  Side here_side{blocks, 0}, there{blocks, 3};
  const BlockWindowStatistics before = block_window_statistics();
  {
    Crew<1> crew;
    REQUIRE(crew.add("block", Side::run, &there, elsewhere()));
    Side::run(&here_side);
  }
  const BlockWindowStatistics after = block_window_statistics();
  EXPECT_EQ(here_side.wrong + there.wrong, 0);
  EXPECT(after.changes - before.changes >= kRounds);
  test.note("{} changes, {} waits for other CPUs, {} sleeps", after.changes - before.changes,
            after.flushes - before.flushes, after.sleeps - before.sleeps);
}

KTEST(kmap_block, a_freed_block_leaves_no_alias, .flags = TestFlag::NeedsHighmem) {
  const Result<Page*> block = alloc_pages(AllocFlags::HighUser, kBlockOrder, Owner::Test);
  REQUIRE(block);
  const Result<void*> at = kmap_block(*block);
  REQUIRE(at);
  kunmap_block(*at);
  EXPECT(arch::probe_read(address_of(*at)));
  EXPECT((*block)->may_be_mapped());
  free_pages(*block, kBlockOrder);
  EXPECT(!arch::probe_read(address_of(*at)));
}

KTEST(death, free_of_a_mapped_block, .flags = TestFlag::Death | TestFlag::NeedsHighmem) {
  const Result<Page*> block = alloc_pages(AllocFlags::HighUser, kBlockOrder, Owner::Test);
  REQUIRE(block);
  (void)kmap_block(*block);
  KTEST_EXPECT_PANIC("which is mapped by kmap_block");
  free_pages(*block, kBlockOrder);
}

KTEST(death, kunmap_block_twice, .flags = TestFlag::Death | TestFlag::NeedsHighmem) {
  const Result<Page*> block = alloc_pages(AllocFlags::HighUser, kBlockOrder, Owner::Test);
  REQUIRE(block);
  const Result<void*> at = kmap_block(*block);
  REQUIRE(at);
  kunmap_block(*at);
  KTEST_EXPECT_PANIC("no block is mapped there");
  kunmap_block(*at);
}

}  // namespace paean
