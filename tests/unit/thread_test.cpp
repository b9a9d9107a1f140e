// Threads: making, ending, sharing CPUs, stacks.
#include "kernel/thread.hpp"

#include "arch/smp.hpp"
#include "kernel/preempt.hpp"
#include "kernel/wait.hpp"
#include "mm/stack_pool.hpp"
#include "threads.hpp"

namespace paean {

namespace {

void count_up(void* argument) { (void)add(*static_cast<u32*>(argument), 1); }

/// Works without ever giving up the CPU by itself.
struct Spinner {
  u32 rounds = 0;
  u32 stop = 0;
  u32 cpus_seen = 0;
};
void spin(void* argument) {
  auto& mine = *static_cast<Spinner*>(argument);
  while (load(mine.stop) == 0) {
    store(mine.rounds, mine.rounds + 1);
    const PreemptGuard guard;
    mine.cpus_seen |= 1u << arch::this_cpu();
  }
}

}  // namespace

KTEST(thread, runs_and_ends) {
  u32 calls = 0;
  const Result<Thread*> thread = thread_create("a name that is too long", count_up, &calls);
  REQUIRE(thread);
  EXPECT_EQ(thread_name(*thread), "a name that is ");
  EXPECT(thread_id(*thread) > thread_id(current_thread()));
  thread_join(*thread);
  EXPECT_EQ(calls, 1u);
  EXPECT_EQ(thread_name(current_thread()), "main");
  EXPECT_EQ(thread_id(current_thread()), 1u);
}

KTEST(thread, is_joined_before_and_after_its_end) {
  for (u32 i = 0; i < 200; ++i) {
    u32 calls = 0;
    const Result<Thread*> thread = thread_create("short", count_up, &calls);
    REQUIRE(thread);
    if (i % 2 != 0) EXPECT(within_ms(1000, [&] { return load(calls) == 1; }));
    thread_join(*thread);
    REQUIRE_EQ(calls, 1u);
  }
}

KTEST(thread, exits_from_deep_inside) {
  u32 calls = 0;
  const Result<Thread*> thread = thread_create(
      "leaver",
      [](void* argument) {
        count_up(argument);
        thread_exit();
      },
      &calls);
  REQUIRE(thread);
  thread_join(*thread);
  EXPECT_EQ(calls, 1u);
}

KTEST(thread, detached_ones_are_reaped) {
  const u32 before = thread_count();
  u32 calls = 0;
  for (u32 i = 0; i < 50; ++i) REQUIRE(thread_create("detached", count_up, &calls, {.detach = Detach::Yes}));
  EXPECT(within_ms(2000, [&] { return load(calls) == 50 && thread_count() == before; }));
  reap_threads();
  EXPECT(stack_pool_counts().cached != 0);
}

KTEST(thread, unbound_cpu_is_refused) {
  const Result<Thread*> thread = thread_create("nowhere", count_up, nullptr, {.cpu = arch::kMaxCpus});
  REQUIRE(!thread);
  EXPECT_EQ(thread.error(), Error::InvalidArgument);
}

KTEST(thread, spinning_ones_are_preempted) {
  Spinner a, b;
  Crew<2> crew;
  REQUIRE(crew.add("spinner a", spin, &a, here()));
  REQUIRE(crew.add("spinner b", spin, &b, here()));
  EXPECT(within_ms(5000, [&] { return load(a.rounds) > 1000 && load(b.rounds) > 1000; }));
  store(a.stop, 1);
  store(b.stop, 1);
}

KTEST(thread, preemption_off_means_off) {
  Spinner other;
  Crew<1> crew;
  REQUIRE(crew.add("spinner", spin, &other, here()));
  EXPECT(within_ms(5000, [&] { return load(other.rounds) != 0; }));
  {
    const PreemptGuard guard;
    const u32 before = load(other.rounds);
    arch::delay_microseconds(50'000);
    EXPECT_EQ(load(other.rounds), before);
  }
  store(other.stop, 1);
}

KTEST(thread, lower_priority_waits) {
  Spinner low;
  struct Watch {
    Spinner& low;
    u32 before = 0, after = 0;
  } watch{low};
  Crew<2> crew;
  REQUIRE(crew.add("low", spin, &low, here(Priority::Low)));
  thread_sleep_ms(50);
  EXPECT(load(low.rounds) != 0);
  REQUIRE(crew.add(
      "high",
      [](void* argument) {
        auto& mine = *static_cast<Watch*>(argument);
        mine.before = load(mine.low.rounds);
        arch::delay_microseconds(60'000);
        mine.after = load(mine.low.rounds);
      },
      &watch, here(Priority::High)));
  EXPECT(watch.after != 0);  // it ran at once, and to its end, when it was made
  EXPECT_EQ(watch.before, watch.after);
  store(low.stop, 1);
}

KTEST(thread, higher_priority_runs_as_soon_as_it_is_woken) {
  Gate gate;
  Crew<1> crew;
  REQUIRE(crew.add("high", wait_at_gate, &gate, here(Priority::High)));
  EXPECT_EQ(gate.queue.waiting(), 1u);
  const u32 runs = thread_runs(crew[0]);
  gate.release();
  EXPECT_EQ(thread_runs(crew[0]), runs + 1);
}

KTEST(thread, sleeps_as_long_as_it_says) {
  for (const u32 wanted : {1u, 10u, 35u, 100u}) EXPECT(takes_ms(wanted, [=] { thread_sleep_ms(wanted); }));
}

KTEST(thread, many_sleep_at_once) {
  Crew<64> crew;
  u32 awake = 0;
  for (u32 i = 0; i < 64; ++i) {
    REQUIRE(crew.add(
        "sleeper",
        [](void* argument) {
          thread_sleep_ms(20);
          count_up(argument);
        },
        &awake));
  }
  crew.join();
  EXPECT_EQ(awake, 64u);
}

namespace {

constinit SwitchHook next_hook = nullptr;
constinit u32 switches_seen = 0, wrong_switches = 0;
void count_switches(Thread* from, Thread* to) {
  (void)add(switches_seen, 1);
  if (from == to || arch::irqs_enabled()) (void)add(wrong_switches, 1);
  if (next_hook != nullptr) next_hook(from, to);
}

}  // namespace

KTEST(thread, switches_call_the_hook) {
  u32 calls = 0, words = 0;
  store(switches_seen, 0);
  next_hook = set_switch_hook(count_switches);
  {
    Crew<1> crew;
    if (!crew.add("hooked", count_up, &calls, here())) calls = ~0u;
    for (u32 i = 1; i < kThreadMapWords && crew.count() != 0; ++i) words |= thread_map_words(crew[0])[i];
  }
  (void)set_switch_hook(next_hook);
  EXPECT_EQ(calls, 1u);
  EXPECT_EQ(words, 0u);
  EXPECT(load(switches_seen) >= 2);
  EXPECT_EQ(load(wrong_switches), 0u);
}

KTEST(thread, bound_ones_stay, .flags = TestFlag::NeedsSmp) {
  Spinner bound;
  Crew<1> crew;
  REQUIRE(crew.add("bound", spin, &bound, elsewhere()));
  thread_sleep_ms(100);
  store(bound.stop, 1);
  crew.join();
  EXPECT_EQ(bound.cpus_seen, 1u << (arch::online_cpus() - 1));
}

KTEST(thread, idle_cpus_take_work, .flags = TestFlag::NeedsSmp) {
  Spinner spinners[4];
  Crew<4> crew;
  for (Spinner& spinner : spinners) REQUIRE(crew.add("wanderer", spin, &spinner));
  thread_sleep_ms(200);
  u32 cpus = 0;
  for (Spinner& spinner : spinners) store(spinner.stop, 1);
  crew.join();
  for (const Spinner& spinner : spinners) cpus |= spinner.cpus_seen;
  EXPECT(__builtin_popcount(cpus) >= 2);
}

KTEST(thread, backtraces_end_at_its_beginning) {
  Crew<1> crew;
  u32 base = 1;
  REQUIRE(crew.add(
      "shallow",
      [](void* argument) {
        const u32* frame = static_cast<const u32*>(__builtin_frame_address(0));
        for (u32 depth = 0; frame != nullptr && depth < 8; ++depth) frame = pointer_to<const u32>(VirtAddr{*frame});
        *static_cast<u32*>(argument) = frame == nullptr ? 0 : 1;
      },
      &base));
  crew.join();
  EXPECT_EQ(base, 0u);
}

namespace {

[[gnu::noinline]] u32 use_stack(u32 depth) {
  volatile u8 room[256]{};
  room[depth % 256] = 1;
  return depth == ~0u ? 0 : use_stack(depth + 1) + room[0];
}

}  // namespace

KTEST(death, thread_stack_overflow, .flags = TestFlag::Death) {
  KTEST_EXPECT_PANIC("#DF double fault");
  u32 sum = 0;
  const Result<Thread*> thread = thread_create("deep", [](void* out) { *static_cast<u32*>(out) = use_stack(0); }, &sum);
  if (thread) thread_join(*thread);
}

KTEST(death, sleep_with_preemption_off, .flags = TestFlag::Death) {
  KTEST_EXPECT_PANIC("thread_sleep_ms may sleep, in atomic context");
  const PreemptGuard guard;
  thread_sleep_ms(10);
}

KTEST(death, park_with_interrupts_off, .flags = TestFlag::Death) {
  KTEST_EXPECT_PANIC("sleeps in atomic context");
  const arch::IrqsOffGuard off;
  park();
}

KTEST(death, join_of_itself, .flags = TestFlag::Death) {
  KTEST_EXPECT_PANIC("waits for its own end");
  thread_join(current_thread());
}

}  // namespace paean
