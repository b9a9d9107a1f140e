// Free pages that lie in the stacks of other CPUs: nobody may fail, or end, while they would do.
#include "access.hpp"
#include "mm/page_stacks.hpp"
#include "threads.hpp"

namespace paean {

namespace {

constexpr AllocFlags kQuietly = AllocFlags::Dma | AllocFlags::NoWarn | AllocFlags::NoIo;
constexpr u32 kBlock = 8;  // pages

bool begins_block(const Page* page, Order order) { return page_to_pfn(page).align_down(order) == page_to_pfn(page); }

/// All of the DMA zone as single pages, then some holes of one page each: enough for the watermarks, and no block.
class Crumbs {
 public:
  Crumbs() {
    while (count_ < kMost) {
      Page* page = take_block_quietly(kQuietly, Order{0}, Owner::Test);
      if (page == nullptr) break;
      all_pages[count_++] = page;
    }
    const u32 holes = 4 * zone(ZoneId::Dma).high.count() + 64;
    for (u32 i = 0, made = 0; i < count_ && made < holes; ++i) {
      if (begins_block(all_pages[i], Order{1})) continue;
      free_page(std::exchange(all_pages[i], nullptr));
      ++made;
    }
    (void)drain_all_pages();
    for (u32 order = kOrderCount; order-- != 1;) {
      while (held_.valid() && !held_.full()) {
        Page* page = take_block_quietly(kQuietly, Order{order}, Owner::Test);
        if (page == nullptr) break;
        held_.add(page, Order{order});
      }
    }
    (void)drain_all_pages();
  }
  ~Crumbs() {
    for (u32 i = 0; i < count_; ++i) {
      if (all_pages[i] != nullptr) free_page(all_pages[i]);
    }
  }
  Crumbs(const Crumbs&) = delete;
  Crumbs& operator=(const Crumbs&) = delete;

  /// The pages of a whole block, which are the caller's now; false if there is none.
  bool take_block(Page* (&block)[kBlock]) {
    for (u32 i = count_; i-- != 0;) {
      if (all_pages[i] == nullptr || !begins_block(all_pages[i], Order{3})) continue;
      u32 found = 0, at[kBlock]{};
      for (u32 j = 0; j < count_; ++j) {
        const u32 distance = all_pages[j] == nullptr ? kBlock : static_cast<u32>(all_pages[j] - all_pages[i]);
        if (distance >= kBlock) continue;
        at[distance] = j;
        ++found;
      }
      if (found != kBlock) continue;
      for (u32 n = 0; n < kBlock; ++n) block[n] = std::exchange(all_pages[at[n]], nullptr);
      return true;
    }
    return false;
  }

 private:
  static constexpr u32 kMost = 4096;
  static inline constinit Page* all_pages[kMost]{};
  u32 count_ = 0;
  HeldBlocks held_;
};

}  // namespace

KTEST(page_alloc, what_other_cpus_keep_completes_a_block, .flags = TestFlag::NeedsSmp) {
  static constinit Page* block[kBlock]{};
  Crumbs crumbs;
  REQUIRE(crumbs.take_block(block));
  const Pfn first = page_to_pfn(block[0]);
  EXPECT(take_block_quietly(kQuietly, Order{3}, Owner::Test) == nullptr);
  Crew<1> crew;
  const auto free_all = [](void*) {
    for (Page* page : block) free_page(page);
  };
  EXPECT(crew.add("frees-elsewhere", free_all, nullptr, elsewhere()));
  crew.join();
  EXPECT_EQ(stacked_pages(ZoneId::Dma, arch::online_cpus() - 1).count(), kBlock);
  EXPECT(take_block_quietly(kQuietly, Order{3}, Owner::Test) == nullptr);  // nobody is asked
  const Result<Page*> got = alloc_pages(kQuietly, Order{3}, Owner::Test);
  REQUIRE(got.has_value());
  EXPECT(page_to_pfn(*got) == first);
  EXPECT_EQ(stacked_pages(ZoneId::Dma, arch::online_cpus() - 1).count(), 0u);
  free_pages(*got, Order{3});
}

}  // namespace paean
