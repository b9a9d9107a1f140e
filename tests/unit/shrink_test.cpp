// Caches give lowmem back by themselves when it becomes short, and before an allocation fails.
#include "mm/shrink.hpp"
#include "arch/interrupts.hpp"
#include "hog.hpp"
#include "kernel/test/ktest.hpp"
#include "kernel/thread.hpp"
#include "kernel/wait.hpp"
#include "mm/highmem.hpp"
#include "mm/kswapd.hpp"
#include "mm/vmalloc.hpp"
#include "mm/zone.hpp"
#include "threads.hpp"
#include "tmpfs_space.hpp"

namespace paean {

namespace {

constexpr u32 kFiles = 3000;

u32 free_normal() { return free_pages_in(ZoneId::Normal).count(); }

/// The thread has nothing to do now.
void wait_for_rest() {
  for (u32 seen = shrink_rounds() + 1; seen != shrink_rounds();) {
    seen = shrink_rounds();
    thread_sleep_ms(200);
  }
}

u32 ms_since(u32 start) { return (ticks_now() - start) * (1000 / arch::kTicksPerSecond); }

}  // namespace

KTEST(shrink, caches_shrink_when_lowmem_becomes_short) {
  const TmpfsSpace space;
  REQUIRE(space.ready());
  wait_for_rest();
  REQUIRE(make_files("/t", kFiles, ""));
  const FileCaches before = file_caches();
  EXPECT(before.names >= kFiles && before.unused_inodes >= kFiles);
  Hog hog;
  const Zone& normal = zone(ZoneId::Normal);
  while (free_normal() > normal.high.count() && hog.take()) {}
  EXPECT_EQ(file_caches().names, before.names);
  const u32 rounds = shrink_rounds();
  for (u32 i = 0; free_normal() >= normal.low.count() - normal.low.count() / 16 && i < 100'000; ++i) {
    if (!hog.take()) break;
  }
  for (u32 i = 0; i < 100 && shrink_rounds() == rounds; ++i) thread_sleep_ms(20);
  EXPECT(shrink_rounds() != rounds);
  const FileCaches after = file_caches();
  test.note("names {} -> {}, inodes {} -> {}", before.names, after.names, before.unused_inodes, after.unused_inodes);
  EXPECT(after.names < before.names && after.unused_inodes < before.unused_inodes);
}

KTEST(shrink, an_allocation_waits_for_shrinkers_before_it_fails) {
  constexpr u32 kPages = 512;
  static constinit Hog* held = nullptr;
  static constinit Shrinker slow{.name = "slow",
                                 .count = [] { return held != nullptr ? 16u : 0u; },
                                 .shrink =
                                     [](u32) {
                                       thread_sleep_ms(200);
                                       if (Hog* last = std::exchange(held, nullptr)) last->let_go();
                                       return kPages;
                                     }};
  wait_for_rest();
  Hog pages, hog;
  for (u32 i = 0; i < kPages; ++i) REQUIRE(pages.take());
  held = &pages;
  register_shrinker(slow);
  while (hog.take()) {}
  EXPECT(held != nullptr);  // the thread has been woken, but nothing is free yet
  EXPECT(hog.take_with_help());
  EXPECT(held == nullptr);
  unregister_shrinker(slow);
  held = nullptr;
}

KTEST(shrink, nobody_is_unregistered_while_he_shrinks) {
  static constinit std::atomic<u32> inside{0}, go_on{0};
  static constinit Shrinker slow{.name = "slow",
                                 .count = [] { return 1u; },
                                 .shrink =
                                     [](u32) {
                                       inside.store(1);
                                       while (go_on.load() == 0) thread_sleep_ms(10);
                                       inside.store(0);
                                       return 0u;
                                     }};
  inside.store(0), go_on.store(0);
  register_shrinker(slow);
  const Result<Thread*> thread = thread_create("shrinks", [](void*) { (void)run_shrinkers(0); }, nullptr);
  REQUIRE(thread.has_value());
  while (inside.load() == 0) thread_sleep_ms(10);
  const Result<Thread*> late = thread_create("lets go", [](void*) { thread_sleep_ms(100), go_on.store(1); }, nullptr);
  REQUIRE(late.has_value());
  unregister_shrinker(slow);
  EXPECT_EQ(inside.load(), 0);
  thread_join(*thread);
  thread_join(*late);
}

KTEST(shrink, what_a_late_round_has_given_is_not_overlooked) {
  constexpr u32 kPages = 512;
  static constinit std::atomic<Hog*> held{nullptr};
  static constinit std::atomic<u32> go_on{0}, done{0};
  static constinit Shrinker late{.name = "late",
                                 .count = [] { return held.load() != nullptr ? 16u : 0u; },
                                 .shrink =
                                     [](u32) {
                                       while (go_on.load() == 0) thread_sleep_ms(10);
                                       thread_sleep_ms(100);
                                       if (Hog* last = held.exchange(nullptr)) last->let_go();
                                       thread_sleep_ms(1500);  // nobody waits so long
                                       done.store(1);
                                       return kPages;
                                     }};
  wait_for_rest();
  Hog pages, hog;
  for (u32 i = 0; i < kPages; ++i) REQUIRE(pages.take());
  go_on.store(0), done.store(0);
  held.store(&pages);
  register_shrinker(late);
  while (hog.take()) {}
  EXPECT(held.load() != nullptr);
  go_on.store(1);
  EXPECT(hog.take_with_help());
  EXPECT_EQ(done.load(), 0);  // the round is not over
  unregister_shrinker(late);
  held.store(nullptr);
}

KTEST(shrink, rounds_that_do_not_help_are_rare) {
  constexpr u32 kMs = 1500;
  static constinit Shrinker useless{.name = "useless", .count = [] { return 16u; }, .shrink = [](u32) { return 1u; }};
  wait_for_rest();
  register_shrinker(useless);
  Hog hog;
  while (hog.take()) {}
  wait_for_rest();
  const u32 rounds = shrink_rounds(), start = ticks_now();
  while (ms_since(start) < kMs) {
    (void)hog.take();  // every look at the zones asks the thread
    thread_sleep_ms(10);
  }
  const u32 elapsed = ms_since(start);
  EXPECT(shrink_rounds() - rounds <= 1 + elapsed / 1000);
  test.note("{} rounds in {} ms", shrink_rounds() - rounds, elapsed);
  unregister_shrinker(useless);
}

KTEST(shrink, who_helped_himself_during_the_rest_keeps_his_objects) {
  constexpr u32 kRestMs = 1000, kAttempts = 10;
  static constinit std::atomic<u32> asked{0};
  static constinit Shrinker useless{.name = "useless",
                                    .count = [] { return 16u; },
                                    .shrink =
                                        [](u32) {
                                          asked.fetch_add(1);
                                          return 1u;
                                        }};
  register_shrinker(useless);
  bool in_time = false;
  for (u32 attempt = 0; attempt < kAttempts && !in_time; ++attempt) {
    Hog hog;
    while (hog.take()) {}
    wait_for_rest();
    const u32 rounds = shrink_rounds();
    u32 rest = 0, now = ticks_now();  // the rest that follows a round begins no earlier than that
    for (u32 i = 0; i < 500 && shrink_rounds() == rounds; ++i) {
      rest = std::exchange(now, ticks_now());
      (void)hog.take();
      thread_sleep_ms(10);
    }
    (void)hog.take();  // asks for the next round
    hog.let_go();
    asked.store(0);
    in_time = shrink_rounds() != rounds && ms_since(rest) < kRestMs;
    if (!in_time) continue;
    thread_sleep_ms(kRestMs + 500);
    EXPECT_EQ(asked.load(), 0);
  }
  EXPECT(in_time);
  unregister_shrinker(useless);
}

KTEST(shrink, one_that_waits_for_a_disk_stops_nobody_else) {
  static constinit std::atomic<u32> go_on{0}, stalled{0}, asked{0};
  static constinit Shrinker stalls{.name = "stalls",
                                   .count = [] { return 16u; },
                                   .shrink =
                                       [](u32) {
                                         stalled.store(1);
                                         while (go_on.load() == 0) thread_sleep_ms(10);
                                         return 0u;
                                       },
                                   .pace = Shrinker::Pace::WaitsForDisks};
  static constinit Shrinker prompt{.name = "prompt",
                                   .count = [] { return 16u; },
                                   .shrink =
                                       [](u32) {
                                         asked.fetch_add(stalled.load());
                                         return 0u;
                                       }};
  wait_for_rest();
  go_on.store(0), stalled.store(0), asked.store(0);
  register_shrinker(stalls);
  register_shrinker(prompt);
  Hog hog;
  while (hog.take()) {}
  const u32 rounds = shrink_rounds();
  for (u32 i = 0; i < 30 && shrink_rounds() - rounds < 3; ++i) {
    (void)hog.take_with_help();
    thread_sleep_ms(100);
  }
  EXPECT(shrink_rounds() - rounds >= 3);
  EXPECT_EQ(stalled.load(), 1);
  EXPECT(asked.load() != 0);
  go_on.store(1);
  unregister_shrinker(stalls);
  unregister_shrinker(prompt);
}

KTEST(shrink, a_large_block_of_any_zone_does_not_shrink_while_lowmem_is_plentiful) {
  wait_for_rest();
  const u32 rounds = shrink_rounds();
  EXPECT(!wait_for_shrinkers(AllocFlags::HighUser, Order{4}));
  EXPECT_EQ(shrink_rounds(), rounds);
  EXPECT(wait_for_shrinkers(AllocFlags::Kernel, Order{4}));
  EXPECT(within_ms(5000, [rounds] { return shrink_rounds() != rounds; }));  // a busy host makes its patience end first
}

KTEST(shrink, frames_that_vmalloc_has_parked_are_found) {
  constexpr u32 kPages = 48;  // less than are purged by themselves
  vmalloc_purge();
  const Result<void*> area = vmalloc(kPages * kPageSize, AllocFlags::Kernel);
  REQUIRE(area);
  wait_for_rest();
  Hog hog;
  while (hog.take()) {}
  wait_for_rest();
  while (hog.take()) {}
  vfree(*area);
  // NoIo: the thread, which would find them as well, is not waited for.
  const Result<Page*> page = alloc_page(AllocFlags::Kernel | AllocFlags::NoIo | AllocFlags::NoWarn, Owner::Test);
  EXPECT(page.has_value());
  if (page) free_page(*page);
}

}  // namespace paean
