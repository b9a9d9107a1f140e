// Two pieces of code against each other on two CPUs, for tests of what must hold under any interleaving.
//
//   race_verdict(test, [&](RaceVariant variant, u32 first_cpu) {
//     u32 seen = 0;
//     EXPECT(run_race(test.random(), first_cpu, race_iterations(), writer, reader));
//     return seen;
//   });
//
// Both start together; before each iteration a CPU wastes 0 to 63 rounds, drawn anew, so that the two drift across each
// other. No PAUSE inside: an emulator may take it as a wish to let the other side go first, which hides races. A test
// must see its seeded twin fail in the same boot, or it has shown nothing: see race_verdict().
#pragma once

#include "arch/irq.hpp"
#include "kernel/test/ktest.hpp"
#include "kernel/test/selftest.hpp"
#include "kernel/thread.hpp"

namespace paean {

/// What is tested, or its twin with the bug in it.
enum class RaceVariant : u8 { Right, Seeded };

/// For so many times kRaceIterations a twin may pass by luck, however many one attempt has.
inline constexpr u32 kRaceTries = 3;

template <typename Role>
struct RaceSide {
  Role& role;
  u32& arrived;
  u32 iterations;
  u32 noise;  // state of a 32-bit xorshift, not 0

  static void run(void* argument) {
    auto& me = *static_cast<RaceSide*>(argument);
    __atomic_fetch_add(&me.arrived, 1, __ATOMIC_ACQ_REL);
    while (__atomic_load_n(&me.arrived, __ATOMIC_ACQUIRE) != 2) arch::cpu_relax();
    for (u32 i = 0; i < me.iterations; ++i) {
      me.noise ^= me.noise << 13, me.noise ^= me.noise >> 17, me.noise ^= me.noise << 5;
      for (u32 skew = me.noise & 63; skew != 0; --skew) asm volatile("");
      me.role(i);
    }
  }
};

/// Runs first(i) on CPU `first_cpu` and second(i) on the other of CPUs 0 and 1. False if there was no memory for
/// threads.
template <typename First, typename Second>
[[nodiscard]] bool run_race(u32 seed, u32 first_cpu, u32 iterations, First first, Second second) {
  u32 arrived = 0;
  RaceSide<First> one{first, arrived, iterations, seed | 1};
  RaceSide<Second> two{second, arrived, iterations, ~seed | 1};
  const ThreadOptions on_first{.cpu = static_cast<i32>(first_cpu)}, on_second{.cpu = static_cast<i32>(1 - first_cpu)};
  const Result<Thread*> a = thread_create("race-first", RaceSide<First>::run, &one, on_first);
  if (!a) return false;
  const Result<Thread*> b = thread_create("race-second", RaceSide<Second>::run, &two, on_second);
  if (!b) __atomic_fetch_add(&arrived, 1, __ATOMIC_ACQ_REL);  // let the first one go
  thread_join(*a);
  if (b) thread_join(*b);
  return b.has_value();
}

/// Such runs, each of race_iterations(), until enough() says that what the race is about was there to be seen: a busy
/// host may let the CPUs run in turns. False if that never came, or if there was no memory for threads.
template <typename First, typename Second, typename Enough>
[[nodiscard]] bool run_race_until(TestContext& test, u32 first_cpu, First first, Second second, Enough enough) {
  constexpr u32 kRounds = 50;
  for (u32 round = 0; round < kRounds; ++round) {
    if (!run_race(test.random(), first_cpu, race_iterations(), first, second)) return false;
    if (enough()) return true;
  }
  return false;
}

/// Plays `race(variant, first_cpu)`, which returns how often the rule was seen broken: never may it be with the roles
/// either way round, and the twin must be caught. A twin that was not caught, which happens where the host does not run
/// both CPUs at once, makes the test inconclusive: a skip, which scripts/ktest-skips.txt permits only in runs that
/// share the host with others.
template <typename Race>
void race_verdict(TestContext& test, Race race) {
  const u32 tries = kRaceTries * (kRaceIterations / race_iterations());
  u32 not_caught = 0;
  for (u32 first_cpu = 0; first_cpu < 2; ++first_cpu) {
    const u32 broken = race(RaceVariant::Right, first_cpu);
    test.note("broken {} times", broken);  // at once: on a busy host a million iterations are a long silence
    EXPECT_EQ(broken, 0u);
    u32 caught = 0;
    for (u32 attempt = 0; attempt < tries && caught == 0; ++attempt) caught = race(RaceVariant::Seeded, first_cpu);
    test.note("seeded twin caught {} times", caught);
    if (caught == 0) ++not_caught;
  }
  if (not_caught != 0 && test.failures() == 0) test.skip("inconclusive: the seeded twin was not caught");
}

}  // namespace paean
