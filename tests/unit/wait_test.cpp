// Wait queues and timers.
#include "kernel/wait.hpp"

#include "arch/interrupts.hpp"
#include "arch/irq.hpp"
#include "arch/traps.hpp"
#include "arch/tsc.hpp"
#include "kernel/scheduler.hpp"
#include "threads.hpp"

namespace paean {

namespace {

/// A ball between two threads.
struct Game {
  WaitQueue queue[2];
  u32 turn = 0;
  u32 rounds = 0;
  u32 wanted = 0;
};
struct Player {
  Game* game;
  u32 side;
};
void play(void* argument) {
  const Player me = *static_cast<const Player*>(argument);
  Game& game = *me.game;
  for (u32 i = 0; i < game.wanted; ++i) {
    game.queue[me.side].wait([&] { return load(game.turn) == me.side; });
    (void)add(game.rounds, 1);
    store(game.turn, 1 - me.side);
    (void)game.queue[1 - me.side].wake_one();
  }
}

void play_between(TestContext& test, u32 rounds, ThreadOptions first, ThreadOptions second) {
  Game game;
  game.wanted = rounds / 2;
  Player players[2] = {{&game, 0}, {&game, 1}};
  Crew<2> crew;
  REQUIRE(crew.add("ping", play, &players[0], first));
  REQUIRE(crew.add("pong", play, &players[1], second));
  crew.join();
  EXPECT_EQ(game.rounds, game.wanted * 2);
}

/// Waiters that note the order in which they went on.
struct Line {
  WaitQueue queue;
  u32 permits = 0;
  u32 passed = 0;
  u32 order[16]{};
};
struct Place {
  Line* line;
  u32 number;
};
void stand_in_line(void* argument) {
  const Place me = *static_cast<const Place*>(argument);
  Line& line = *me.line;
  line.queue.wait([&] {
    u32 permits = load(line.permits);
    while (permits != 0) {
      if (__atomic_compare_exchange_n(&line.permits, &permits, permits - 1, false, __ATOMIC_SEQ_CST,
                                      __ATOMIC_SEQ_CST)) {
        return true;
      }
    }
    return false;
  });
  line.order[add(line.passed, 1)] = me.number;
}

constexpr u32 kUnusedIrq = 5;
constinit WaitQueue* irq_queue = nullptr;
constinit u32 irq_happened = 0;
void wake_from_irq(arch::IrqsOff) {
  store(irq_happened, 1);
  (void)irq_queue->wake_one();
}

}  // namespace

KTEST(wait, hundred_thousand_handovers_on_one_cpu, .flags = TestFlag::Slow) {
  play_between(test, 100'000, here(), here());
}

KTEST(wait, handovers_across_cpus, .flags = TestFlag::NeedsSmp | TestFlag::Slow) {
  play_between(test, 2'000, here(), elsewhere());  // each wakes a halted CPU: a millisecond on a busy host
}

KTEST(wait, wakes_one_at_a_time_in_order) {
  Line line;
  Place places[16];
  Crew<16> crew;
  for (u32 i = 0; i < 16; ++i) {
    places[i] = {&line, i};
    REQUIRE(crew.add("waits", stand_in_line, &places[i]));
    REQUIRE(within_ms(2000, [&] { return line.queue.waiting() == i + 1; }));
  }
  for (u32 i = 0; i < 16; ++i) {
    (void)add(line.permits, 1);
    EXPECT(line.queue.wake_one());
    EXPECT(within_ms(2000, [&] { return load(line.passed) == i + 1; }));
    EXPECT_EQ(line.queue.waiting(), 15 - i);
  }
  crew.join();
  for (u32 i = 0; i < 16; ++i) EXPECT_EQ(line.order[i], i);
  EXPECT(!line.queue.wake_one());
}

KTEST(wait, a_vain_wake_keeps_its_place) {
  Line line;
  Place places[2] = {{&line, 0}, {&line, 1}};
  Crew<2> crew;
  for (u32 i = 0; i < 2; ++i) {
    REQUIRE(crew.add("waits", stand_in_line, &places[i]));
    REQUIRE(within_ms(2000, [&] { return line.queue.waiting() == i + 1; }));
  }
  EXPECT(line.queue.wake_one());  // without a permit: the first looks and waits again
  thread_sleep_ms(20);
  EXPECT_EQ(line.queue.waiting(), 2u);
  for (u32 i = 0; i < 2; ++i) {
    (void)add(line.permits, 1);
    EXPECT(line.queue.wake_one());
    EXPECT(within_ms(2000, [&] { return load(line.passed) == i + 1; }));
  }
  crew.join();
  EXPECT_EQ(line.order[0], 0u);
  EXPECT_EQ(line.order[1], 1u);
}

KTEST(wait, wake_all_wakes_all) {
  Line line;
  Place places[8];
  Crew<8> crew;
  for (u32 i = 0; i < 8; ++i) {
    places[i] = {&line, i};
    REQUIRE(crew.add("waits", stand_in_line, &places[i]));
  }
  EXPECT(within_ms(2000, [&] { return line.queue.waiting() == 8; }));
  store(line.permits, 8);
  EXPECT_EQ(line.queue.wake_all(), 8u);
  crew.join();
  EXPECT_EQ(line.passed, 8u);
}

KTEST(wait, true_conditions_do_not_sleep) {
  WaitQueue queue;
  queue.wait([] { return true; });
  EXPECT(queue.wait_for_ms(0, [] { return true; }));
  EXPECT_EQ(queue.waiting(), 0u);
}

KTEST(wait, gives_up_in_time) {
  WaitQueue queue;
  EXPECT(takes_ms(30, [&] { EXPECT(!queue.wait_for_ms(30, [] { return false; })); }));
  EXPECT_EQ(queue.waiting(), 0u);
}

/// A host that was busy delivers late interrupts one after the other.
KTEST(wait, many_interrupts_at_once_are_not_much_time) {
  const u64 start = arch::microseconds_since_entry();
  const u32 before = ticks_now();
  for (u32 i = 0; i < 50; ++i) {
    const arch::IrqsOffGuard off;
    expire_timers();
  }
  EXPECT(ticks_now() - before <= (arch::microseconds_since_entry() - start) / 10'000 + 2);
}

KTEST(wait, is_woken_before_the_time_is_over) {
  struct Signal {
    WaitQueue queue;
    u32 given = 0;
  } signal;
  Crew<1> crew;
  REQUIRE(crew.add(
      "signals",
      [](void* argument) {
        auto& mine = *static_cast<Signal*>(argument);
        thread_sleep_ms(20);
        store(mine.given, 1);
        (void)mine.queue.wake_one();
      },
      &signal));
  EXPECT(signal.queue.wait_for_ms(10'000, [&] { return load(signal.given) != 0; }));
}

KTEST(wait, interrupts_wake) {
  WaitQueue queue;
  irq_queue = &queue;
  store(irq_happened, 0);
  arch::set_irq_handler(kUnusedIrq, wake_from_irq);
  Crew<1> crew;
  u32 woken = 0;
  struct Ends {
    WaitQueue* queue;
    u32* woken;
  } ends{&queue, &woken};
  REQUIRE(crew.add(
      "waits",
      [](void* argument) {
        auto& mine = *static_cast<Ends*>(argument);
        mine.queue->wait([] { return load(irq_happened) != 0; });
        store(*mine.woken, 1);
      },
      &ends, here(Priority::High)));
  EXPECT_EQ(queue.waiting(), 1u);
  asm volatile("int %0" ::"i"(arch::kVectorIrqBase + kUnusedIrq) : "memory");
  EXPECT_EQ(load(woken), 1u);  // on the way out of the interrupt
  crew.join();
  arch::set_irq_handler(kUnusedIrq, [](arch::IrqsOff) {});
}

}  // namespace paean
