// The ledger is exact at any pause: all CPUs stop at a random place of what they do, a thousand times in a run with all
// its rounds.
#include "arch/percpu.hpp"
#include "kernel/test/ktest.hpp"
#include "kernel/test/selftest.hpp"
#include "kernel/wait.hpp"
#include "mm/kmalloc.hpp"
#include "mm/ledger.hpp"
#include "mm/page_alloc.hpp"
#include "threads.hpp"

namespace paean {

namespace {

constexpr u32 kMostCpus = 8;
u32 all_pauses() { return race_iterations() / 1000; }

struct Load {
  u32 seed;
  const u32* stop;
  u32 rounds = 0;

  u32 below(u32 bound) {
    seed ^= seed << 13, seed ^= seed >> 17, seed ^= seed << 5;
    return static_cast<u32>(u64{seed} * bound >> 32);
  }
  /// Takes a few things of all kinds and gives them back.
  void work() {
    constexpr u32 kHeld = 40;
    struct Held {
      Page* page;
      void* object;
      Order order;
    } held[kHeld]{};
    for (Held& each : held) {
      each.order = Order{below(4) == 0 ? below(6) : 0};
      if (below(3) == 0) {
        each.object = kmalloc(1 + below(6000), AllocFlags::Kernel | AllocFlags::NoWarn).value_or(nullptr);
      } else {
        const AllocFlags flags = below(2) == 0 ? AllocFlags::HighUser : AllocFlags::Kernel;
        each.page = alloc_pages(flags | AllocFlags::NoWarn, each.order, Owner::Test).value_or(nullptr);
      }
    }
    for (const Held& each : held) {
      if (each.object != nullptr) kfree(each.object);
      if (each.page != nullptr) free_pages(each.page, each.order);
    }
    ++rounds;
  }
  static void run(void* argument) {
    auto& me = *static_cast<Load*>(argument);
    while (load(*me.stop) == 0) me.work();
  }
};

/// Keeps one other CPU from everything else while a pause lasts.
struct Parker {
  WaitQueue* queue;
  const u32* pause;    // its number; 0: the test is over
  const u32* release;  // pauses up to this one are over
  u32* parked;

  static void run(void* argument) {
    const auto& me = *static_cast<Parker*>(argument);
    for (u32 seen = 1; seen != 0;) {
      const u32 before = seen;
      me.queue->wait([&] { return load(*me.pause) != before; });
      seen = load(*me.pause);
      if (seen == 0) return;
      add(*me.parked, 1);
      while (static_cast<i32>(load(*me.release) - seen) < 0) asm volatile("pause");
    }
  }
};

struct Watcher {
  TestContext* test;
  u32 stop = 0, pause = 1, release = 1, parked = 0;
  u32 wrong = 0, pauses = 0;
  WaitQueue queue;

  bool exact() const {
    for (const ZoneId id : kAllZones) {
      if (ledger_total(id) + free_pages_in(id) != zone(id).managed) return false;
    }
    return true;
  }
  void stop_all_and_look(u32 others) {
    store(parked, 0);
    add(pause, 1);
    queue.wake_all();
    while (load(parked) != others) asm volatile("pause");
    wrong += exact() ? 0 : 1;
    ++pauses;
    store(release, load(pause));
  }
  /// Of high priority on the CPU of one of the loads, which it interrupts anywhere.
  static void run(void* argument) {
    auto& me = *static_cast<Watcher*>(argument);
    const u32 others = arch::online_cpus() - 1;
    for (u32 i = 0, all = all_pauses(); i < all; ++i) {
      if (i % 10 == 0) thread_sleep_ms(1);  // to the next tick
      if (i % 100 == 99) me.test->note("{} pauses", i + 1);
      for (u32 spin = me.test->random_below(2000); spin != 0; --spin) asm volatile("pause");
      me.stop_all_and_look(others);
    }
    store(me.stop, 1);
    store(me.pause, 0);
    me.queue.wake_all();
  }
};

}  // namespace

KTEST(ledger, exact_at_random_pauses, .flags = TestFlag::Slow) {
  const u32 cpus = arch::online_cpus();
  if (cpus > kMostCpus) SKIP("more CPUs than this test stops");
  Watcher watcher{.test = &test, .queue = {}};
  Load loads[kMostCpus];
  Parker parkers[kMostCpus];
  Crew<2 * kMostCpus + 1> crew;
  bool all = true;
  for (u32 cpu = 0; cpu < cpus; ++cpu) {
    const auto on = [cpu](Priority priority) {
      return ThreadOptions{.priority = priority, .cpu = static_cast<i32>(cpu)};
    };
    loads[cpu] = {.seed = test.random() | 1, .stop = &watcher.stop};
    all = all && crew.add("load", Load::run, &loads[cpu], on(Priority::Low));
    if (cpu == arch::this_cpu()) continue;
    parkers[cpu] = {&watcher.queue, &watcher.pause, &watcher.release, &watcher.parked};
    all = all && crew.add("parker", Parker::run, &parkers[cpu], on(Priority::High));
  }
  ASSERT(all);
  REQUIRE(crew.add("watcher", Watcher::run, &watcher, here(Priority::High)));
  crew.join();
  u32 rounds = 0;
  for (const Load& each : loads) rounds += each.rounds;
  test.note("{} pauses of {} CPUs during {} rounds of work", watcher.pauses, cpus, rounds);
  EXPECT_EQ(watcher.pauses, all_pauses());
  EXPECT_EQ(watcher.wrong, 0u);
  EXPECT(rounds >= cpus);
}

}  // namespace paean
