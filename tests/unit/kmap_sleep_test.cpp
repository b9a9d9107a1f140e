// When every slot has a user: who wants one more sleeps, once, and wakes when there is one.
#include "access.hpp"
#include "mm/kmap.hpp"
#include "threads.hpp"

namespace paean {

namespace {

/// All slots but none left, each held by a page of its own.
class FullPool {
 public:
  bool fill() {
    if (!pages_.valid()) return false;
    for (u32 left = kmap_statistics().slots; left != 0; --left) {
      const Result<Page*> page = alloc_page(AllocFlags::HighUser, Owner::Test);
      if (!page) return false;
      if (!kmap_nonblock(*page)) {
        free_page(*page);
        return false;
      }
      pages_.add(*page, Order{0});
    }
    return true;
  }
  void release_one() {
    const HeldBlocks::Entry entry = pages_.take(pages_.count() - 1);
    kunmap(entry.page);
    free_page(entry.page);
  }
  ~FullPool() {
    while (pages_.count() != 0) release_one();
  }
  FullPool() = default;
  FullPool(const FullPool&) = delete;
  FullPool& operator=(const FullPool&) = delete;

 private:
  HeldBlocks pages_;
};

/// A thread that wants one page, and keeps it until told.
struct Wanter {
  Page* page = nullptr;
  void* at = nullptr;
  u32 mapped = 0, let_go = 0;
  static void run(void* argument) {
    auto& me = *static_cast<Wanter*>(argument);
    me.at = kmap(me.page);
    store(me.mapped, 1);
    while (load(me.let_go) == 0) thread_sleep_ms(10);
    kunmap_address(me.at);
  }
};

bool sleeping(u32 threads) {
  return within_ms(10'000, [=] { return kmap_statistics().sleeping == threads; });
}

}  // namespace

KTEST(kmap, who_finds_no_slot_sleeps_until_there_is_one, .flags = TestFlag::NeedsHighmem) {
  const Result<Page*> page = alloc_page(AllocFlags::HighUser, Owner::Test);
  REQUIRE(page);
  {
    FullPool pool;
    REQUIRE(pool.fill());
    const KmapStatistics before = kmap_statistics();
    EXPECT_EQ(before.live, before.slots);
    Wanter wanter{*page};
    Crew<1> crew;
    REQUIRE(crew.add("wanter", Wanter::run, &wanter, elsewhere()));
    EXPECT(sleeping(1));
    thread_sleep_ms(50);  // let it fall asleep
    const u32 runs = thread_runs(crew[0]), slices = thread_slices(crew[0]);
    thread_sleep_ms(300);
    EXPECT_EQ(thread_runs(crew[0]), runs);  // it does not look again and again
    EXPECT_EQ(thread_slices(crew[0]), slices);
    EXPECT_EQ(load(wanter.mapped), 0);
    pool.release_one();
    EXPECT(within_ms(5000, [&] { return load(wanter.mapped) != 0; }));
    const KmapStatistics after = kmap_statistics();
    EXPECT_EQ(after.sleeps, before.sleeps + 1);
    EXPECT_EQ(after.wakes, before.wakes + 1);
    EXPECT_EQ(after.sleeping, 0);
    EXPECT_EQ(after.live, after.slots);
    store(wanter.let_go, 1);
  }
  free_page(*page);
}

KTEST(kmap, two_who_wait_for_one_page_share_it, .flags = TestFlag::NeedsHighmem) {
  const Result<Page*> page = alloc_page(AllocFlags::HighUser, Owner::Test);
  const Result<Page*> other = alloc_page(AllocFlags::HighUser, Owner::Test);
  REQUIRE(page);
  REQUIRE(other);
  {
    FullPool pool;
    REQUIRE(pool.fill());
    const KmapStatistics before = kmap_statistics();
    // One in between who wants another page: he must go on sleeping.
    Wanter wanters[3] = {{*page}, {*other}, {*page}};
    Crew<3> crew;
    for (u32 i = 0; i < 3; ++i) {
      REQUIRE(crew.add("wanter", Wanter::run, &wanters[i], i == 1 ? here() : elsewhere()));
      EXPECT(sleeping(i + 1));
    }
    thread_sleep_ms(50);
    pool.release_one();
    EXPECT(within_ms(5000, [&] { return load(wanters[0].mapped) != 0 && load(wanters[2].mapped) != 0; }));
    EXPECT(wanters[0].at == wanters[2].at);
    EXPECT(sleeping(1));
    EXPECT_EQ(load(wanters[1].mapped), 0);
    const KmapStatistics after = kmap_statistics();
    EXPECT_EQ(after.misses, before.misses + 1);  // one mapping
    EXPECT_EQ(after.hits, before.hits + 1);      // two users
    EXPECT_EQ(after.live, after.slots);
    store(wanters[0].let_go, 1);
    thread_sleep_ms(50);
    EXPECT_EQ(load(wanters[1].mapped), 0);  // the slot still has a user
    store(wanters[2].let_go, 1);
    EXPECT(within_ms(5000, [&] { return load(wanters[1].mapped) != 0; }));
    store(wanters[1].let_go, 1);
  }
  free_page(*other);
  free_page(*page);
}

KTEST(kmap, a_slot_given_back_wakes_one_of_many, .flags = TestFlag::NeedsHighmem) {
  constexpr u32 kThreads = 8;
  HeldBlocks pages;
  REQUIRE(pages.valid());
  FullPool pool;
  REQUIRE(pool.fill());
  const KmapStatistics before = kmap_statistics();
  Wanter wanters[kThreads];
  Crew<kThreads> crew;
  for (u32 i = 0; i < kThreads; ++i) {
    const Result<Page*> page = alloc_page(AllocFlags::HighUser, Owner::Test);
    REQUIRE(page);
    pages.add(*page, Order{0});
    wanters[i].page = *page;
    REQUIRE(crew.add("wanter", Wanter::run, &wanters[i]));
  }
  EXPECT(sleeping(kThreads));
  thread_sleep_ms(50);
  for (u32 left = kThreads; left-- != 0;) {
    pool.release_one();
    EXPECT(sleeping(left));
  }
  const KmapStatistics after = kmap_statistics();
  EXPECT_EQ(after.sleeps, before.sleeps + kThreads);
  EXPECT(after.wakes - before.wakes <= 2 * kThreads);
  for (Wanter& wanter : wanters) {
    EXPECT(within_ms(5000, [&] { return load(wanter.mapped) != 0; }));
    store(wanter.let_go, 1);
  }
  crew.join();
}

}  // namespace paean
