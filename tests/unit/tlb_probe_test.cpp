// What other CPUs see of a page that was unmapped: a fault if they were told, the old page if not.
#include "arch/fixmap.hpp"
#include "arch/interrupts.hpp"
#include "arch/tsc.hpp"
#include "kernel/preempt.hpp"
#include "kernel/sync.hpp"
#include "kernel/test/selftest.hpp"
#include "mm/stack_pool.hpp"
#include "private_slot.hpp"
#include "remote_reader.hpp"

namespace paean {

namespace {

/// 100,000 in a run with all its rounds. A clock below 100 MHz is that of an emulator which is so slow.
constexpr u32 kSlowRounds = 1000, kFewestRounds = 200;
u32 rounds() { return arch::tsc_khz() < 100'000 ? kSlowRounds : race_iterations() / 10; }
/// On a busy host each round may wait for the other's share of a core, so there is an end to patience, which comes soon
/// in runs with fewer rounds; and a sign of life now and then, because whoever watches the run has an end to his too.
constexpr u32 kMsPerTick = 1000 / arch::kTicksPerSecond, kSignMs = 5000;
u32 patience_ms() { return race_iterations() < kRaceIterations ? 4'000 : 40'000; }

struct Reads {
  u32 rounds = 0;
  u32 stale = 0;
};

/// Shows a page to the reader, takes it away, tells everybody as `tell` does, and counts how often it still read it.
template <typename Tell>
Reads read_after_unmap(TestContext& test, u32 count, Tell tell) {
  const PrivateSlot slot;
  RemoteReader reader;
  if (!slot.valid() || !reader.ready()) {
    test.skip("no memory");
    return {};
  }
  Reads reads;
  const u32 start = ticks_now();
  u32 signs = 0;
  for (u32 i = 0; i < count && test.failures() == 0; ++i, ++reads.rounds) {
    const u32 elapsed = (ticks_now() - start) * kMsPerTick;
    if (i >= kFewestRounds && elapsed > patience_ms()) break;
    if (elapsed / kSignMs > signs) test.note("{} of {} reads in {} ms", i, count, elapsed), ++signs;
    const u32 index = i % arch::kEntriesPerTable;
    const VirtAddr va = PrivateSlot::at(index);
    slot.write_page(i);
    slot.show(index, slot.leaf());
    EXPECT_EQ(reader.read(va), i);
    slot.show(index, arch::PteValue{});
    arch::invalidate_page(va);
    tell(va, i);
    const u32 seen = reader.read(va);
    if (seen == i) ++reads.stale;
    EXPECT(seen == i || seen == RemoteReader::kFault);
    // After a lie the truth, so that the next round on this page begins clean.
    if (seen == i) arch::tlb_shootdown(va, 1);
  }
  return reads;
}

}  // namespace

KTEST(tlb, a_page_that_was_shot_down_faults_elsewhere, .flags = TestFlag::NeedsSmp | TestFlag::Slow) {
  const Reads told = read_after_unmap(test, rounds(), [](VirtAddr va, u32 i) {
    i % 2 == 0 ? arch::tlb_shootdown(va, 1) : (void)arch::tlb_wait_for_generation(arch::tlb_new_generation());
  });
  EXPECT_EQ(told.stale, 0u);
  const Reads untold = read_after_unmap(test, kFewestRounds, [](VirtAddr, u32) {});
  test.note("{} of {} reads stale after a shootdown, {} of {} without", told.stale, told.rounds, untold.stale,
            untold.rounds);
  EXPECT(untold.stale != 0);
  if (told.rounds < rounds() && rounds() > kSlowRounds) SKIP("inconclusive: the host was too busy for all probes");
}

namespace {

/// Reads once each time it is let, and sleeps in between.
struct Sleeper {
  Semaphore go{0}, done{0};
  u32 rounds = 0;
  u32 seen = 0;
  static void run(void* argument) {
    auto& me = *static_cast<Sleeper*>(argument);
    for (u32 i = 0; i < me.rounds; ++i) {
      me.go.down();
      me.seen = arch::probe_read(PrivateSlot::at(0)).value_or(RemoteReader::kFault);
      me.done.up();
    }
  }
  u32 read() {
    go.up();
    done.down();
    return seen;
  }
};

bool other_cpu_idles() { return load(arch::cpu_is_idle.on(arch::online_cpus() - 1)) != 0; }

}  // namespace

KTEST(tlb, a_cpu_that_idles_flushes_on_its_way_out, .flags = TestFlag::NeedsSmp) {
  const PrivateSlot slot;
  REQUIRE(slot.valid());
  slot.write_page(7);
  Sleeper sleeper;
  sleeper.rounds = 2 * 20;
  Crew<1> crew;
  REQUIRE(crew.add("sleeper", Sleeper::run, &sleeper, elsewhere()));
  for (u32 i = 0; i < 20; ++i) {
    slot.show(0, slot.leaf());
    EXPECT_EQ(sleeper.read(), 7u);
    EXPECT(within_ms(1000, other_cpu_idles));
    slot.show(0, arch::PteValue{});
    arch::tlb_wait_for_generation(arch::tlb_new_generation());
    EXPECT_EQ(sleeper.read(), RemoteReader::kFault);
  }
  crew.join();
}

KTEST(tlb, a_trimmed_stack_is_gone_everywhere, .flags = TestFlag::NeedsSmp) {
  RemoteReader reader;  // keeps its CPU from being idle, so that it must be told
  REQUIRE(reader.ready());
  for (u32 i = 0; i < 20; ++i) {
    VirtAddr inside{};
    Crew<1> crew;
    REQUIRE(crew.add(
        "gone", [](void* at) { *static_cast<VirtAddr*>(at) = address_of(__builtin_frame_address(0)); }, &inside,
        here()));
    crew.join();
    EXPECT(reader.read(inside) != RemoteReader::kFault);  // kept for the next thread
    trim_stack_pool();
    EXPECT_EQ(reader.read(inside), RemoteReader::kFault);
  }
}

KTEST(tlb, threads_that_shoot_down_together_finish) {
  // From every CPU at once, preempted meanwhile: each page must be gone everywhere when its call returns.
  const auto shoot = [](void* done) {
    for (u32 i = 0; i < 60; ++i) {
      i % 3 == 0 ? (void)arch::tlb_wait_for_generation(arch::tlb_new_generation())
                 : arch::tlb_shootdown(PrivateSlot::at(i), 1 + i % 8);
    }
    (void)add(*static_cast<u32*>(done), 1);
  };
  u32 done = 0;
  Crew<6> crew;
  for (u32 i = 0; i < 6; ++i) REQUIRE(crew.add("shooter", shoot, &done));
  crew.join();
  EXPECT_EQ(done, 6u);
}

}  // namespace paean
