// More threads than slots, two maps each. The machine needs `pkmap=512` or less, and pages that need maps.
#include "kernel/sync.hpp"
#include "mm/kmap.hpp"
#include "threads.hpp"

namespace paean {

namespace {

constexpr u32 kThreads = 600, kMaxSlots = 512;

/// What the threads of one test share.
struct Contest {
  HeldBlocks pages;  // two for each thread, each with its frame's number in word 0
  u32 next = 0;      // threads take numbers as they start
  u32 first_maps = 0, finished = 0, wrong = 0;
  bool first_undone[kThreads]{};
  u32 may_go_on = 0;

  Page* page(u32 thread, u32 which) { return pages[2 * thread + which].page; }
  /// The thread undoes its first map itself, or somebody else does: whoever comes first.
  void undo_first(u32 thread) {
    if (!__atomic_exchange_n(&first_undone[thread], true, __ATOMIC_SEQ_CST)) kunmap(page(thread, 0));
  }
  void check(const void* at, const Page* page) {
    if (*static_cast<const volatile u32*>(at) != number(page_to_pfn(page))) add(wrong, 1);
  }
};

bool fill(Contest& contest) {
  for (u32 i = 0; contest.pages.valid() && i < 2 * kThreads; ++i) {
    const Result<Page*> page = alloc_page(AllocFlags::HighUser, Owner::Test);
    if (!page) return false;
    contest.pages.add(*page, Order{0});
    const KmapLocal map{*page};
    *map.as<u32>() = number(page_to_pfn(*page));
  }
  return contest.pages.valid();
}

const char* why_not(Contest& contest) {
  if (kmap_statistics().slots > kMaxSlots) return "the pool has more than 512 slots: boot with pkmap=512";
  if (!fill(contest)) return "no memory for 1200 pages";
  if (has_address(contest.page(0, 0))) return "pages have addresses here: no highmem, and no kmap=force";
  return nullptr;
}

/// Both at once, or none while it waits.
void map_together(void* argument) {
  auto& contest = *static_cast<Contest*>(argument);
  const u32 me = add(contest.next, 1);
  Page* pages[2] = {contest.page(me, 0), contest.page(me, 1)};
  void* at[2];
  if (!kmap_many(pages, at)) {
    add(contest.wrong, 1);
    return;
  }
  thread_sleep_ms(1);
  for (u32 i = 0; i < 2; ++i) contest.check(at[i], pages[i]);
  kunmap_many(pages);
  add(contest.finished, 1);
}

/// One from the pool; the other is local and can always be had.
void map_one_and_local(void* argument) {
  auto& contest = *static_cast<Contest*>(argument);
  const u32 me = add(contest.next, 1);
  const Kmap map{contest.page(me, 0)};
  const KmapLocal local{contest.page(me, 1)};
  thread_sleep_ms(1);
  contest.check(map.data(), contest.page(me, 0));
  contest.check(local.data(), contest.page(me, 1));
  add(contest.finished, 1);
}

void all_must_finish(TestContext& test, ThreadEntry entry) {
  Contest contest;
  if (const char* reason = why_not(contest)) SKIP(reason);
  const KmapStatistics before = kmap_statistics();
  {
    Crew<kThreads> crew;
    for (u32 i = 0; i < kThreads; ++i) REQUIRE(crew.add("contest", entry, &contest));
  }
  const KmapStatistics after = kmap_statistics();
  test.note("{} threads on {} slots, {} sleeps for a single slot, {} wakes", kThreads, after.slots,
            after.sleeps - before.sleeps, after.wakes - before.wakes);
  EXPECT_EQ(contest.finished, kThreads);
  EXPECT_EQ(contest.wrong, 0);
  EXPECT_EQ(after.live, 0);
}

#ifndef PAEAN_DEBUG

/// The rule that kmap_many() replaced: takes one, and holds it while it waits for the other.
void hold_and_wait(void* argument) {
  auto& contest = *static_cast<Contest*>(argument);
  const u32 me = add(contest.next, 1);
  (void)kmap(contest.page(me, 0));
  add(contest.first_maps, 1);
  while (load(contest.may_go_on) == 0) thread_sleep_ms(10);
  void* second = kmap(contest.page(me, 1));
  contest.check(second, contest.page(me, 1));
  kunmap_address(second);
  contest.undo_first(me);
  add(contest.finished, 1);
}

#endif

}  // namespace

KTEST(contention, six_hundred_threads_map_two_pages_at_once, .flags = TestFlag::Slow) {
  all_must_finish(test, map_together);
}

KTEST(contention, six_hundred_threads_map_one_page_and_a_local_one, .flags = TestFlag::Slow) {
  all_must_finish(test, map_one_and_local);
}

#ifndef PAEAN_DEBUG

/// The negative control. Debug builds panic at the first thread that does this: see death.kmap_hold_and_wait.
KTEST(contention, the_old_rule_hangs, .flags = TestFlag::Slow) {
  constexpr u32 kPatienceMs = 500;
  Contest contest;
  if (const char* reason = why_not(contest)) SKIP(reason);
  const u32 slots = kmap_statistics().slots;
  Crew<kThreads> crew;
  // Exactly as many as there are slots take their first one before the others come.
  for (u32 i = 0; i < slots; ++i) REQUIRE(crew.add("hold-and-wait", hold_and_wait, &contest));
  EXPECT(within_ms(30'000, [&] { return load(contest.first_maps) == slots; }));
  store(contest.may_go_on, 1);
  for (u32 i = slots; i < kThreads; ++i) REQUIRE(crew.add("hold-and-wait", hold_and_wait, &contest));
  thread_sleep_ms(kPatienceMs);
  EXPECT_EQ(load(contest.finished), 0);
  test.note("{} threads hold all {} slots and wait for each other: {} have finished after {} ms", kThreads, slots,
            load(contest.finished), kPatienceMs);
  // Whenever no slot is free, one thread loses its first map. Once does not do: threads that were late take the slots
  // of those that finish for first maps, and all wait again.
  u32 victims = 0;
  EXPECT(within_ms(30'000, [&] {
    thread_sleep_ms(10);
    if (victims < slots && kmap_statistics().live == slots) contest.undo_first(victims++);
    return load(contest.finished) == kThreads;
  }));
  test.note("{} lost their first map until all had finished", victims);
  crew.join();
  EXPECT_EQ(contest.finished, kThreads);
  EXPECT_EQ(contest.wrong, 0);
  EXPECT_EQ(kmap_statistics().live, 0);
}

#else

KTEST(death, kmap_hold_and_wait, .flags = TestFlag::Death | TestFlag::NeedsHighmem) {
  HeldBlocks pages;
  REQUIRE(pages.valid());
  const u32 slots = kmap_statistics().slots;
  for (u32 i = 0; i <= slots; ++i) {
    const Result<Page*> page = alloc_page(AllocFlags::HighUser, Owner::Test);
    REQUIRE(page);
    pages.add(*page, Order{0});
  }
  for (u32 i = 0; i < slots; ++i) (void)kmap(pages[i].page);
  KTEST_EXPECT_PANIC("sleeps for another one");
  (void)kmap(pages[slots].page);
}

KTEST(death, kmap_in_an_interrupt, .flags = TestFlag::Death | TestFlag::NeedsHighmem) {
  const Result<Page*> page = alloc_page(AllocFlags::HighUser, Owner::Test);
  REQUIRE(page);
  KTEST_EXPECT_PANIC("kmap may sleep, in atomic context");
  const PreemptGuard as_in_a_handler;
  (void)kmap(*page);
}

#endif

}  // namespace paean
