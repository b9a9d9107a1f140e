// TLB generations and shootdown, and the CPUs that answer to them.
#include <algorithm>

#include "arch/tlb.hpp"

#include <atomic>

#include "arch/address_space.hpp"
#include "arch/percpu.hpp"
#include "arch/smp.hpp"
#include "kernel/test/ktest.hpp"
#include "kernel/test/selftest.hpp"
#include "kernel/wait.hpp"
#include "threads.hpp"

namespace paean {

namespace {

using namespace arch;

}  // namespace

KTEST(tlb, a_waited_generation_is_flushed_everywhere) {
  for (u32 i = 0; i < 1000; ++i) {
    const u32 generation = tlb_new_generation();
    EXPECT(!tlb_generation_is_done(generation));
    tlb_wait_for_generation(generation);
    EXPECT(tlb_generation_is_done(generation));
  }
}

namespace {

/// Sleeps, is woken, and sleeps again: its CPU is on the way in or out of its idling most of the time.
struct Dozer {
  WaitQueue queue{};
  u32 called = 0, stop = 0;
  static void run(void* argument) {
    auto& self = *static_cast<Dozer*>(argument);
    while (load(self.stop) == 0) self.queue.wait([&] { return __atomic_exchange_n(&self.called, 0, 5) != 0; });
  }
  void call() {
    store(called, 1);
    queue.wake_one();
  }
};

}  // namespace

KTEST(tlb, what_was_done_once_stays_done, .flags = TestFlag::NeedsSmp) {
  Dozer dozer;
  Crew<1> crew;
  REQUIRE(crew.add("dozer", Dozer::run, &dozer, elsewhere()));
  const u32 rounds = race_iterations() / 50;
  u32 done = 0, taken_back = 0;
  const auto look_on = [&] {
    const u32 generation = tlb_new_generation();
    flush_tlb_all();
    dozer.call();
    for (u32 look = 0; look < 50; ++look) {
      const bool now = tlb_generation_is_done(generation);
      if (!now) continue;
      ++done;
      for (u32 again = 0; again < 50; ++again) taken_back += tlb_generation_is_done(generation) ? 0 : 1;
      break;
    }
  };
  for (u32 i = 0; i < rounds; ++i) look_on();
  EXPECT(within_ms(10'000, [&] {  // on a busy host the dozer may not have run at all
    if (done == 0) look_on();
    return done != 0;
  }));
  store(dozer.stop, 1);
  dozer.call();
  crew.join();
  test.note("{} of {} generations were done without waiting", done, rounds);
  EXPECT_EQ(taken_back, 0u);
}

KTEST(tlb, a_cpu_that_has_flushed_is_not_disturbed, .flags = TestFlag::NeedsSmp) {
  const u32 older = tlb_new_generation(), newer = tlb_new_generation();
  tlb_wait_for_generation(newer);
  const TlbEvents before = tlb_events();
  EXPECT_EQ(tlb_wait_for_generation(older), 0u);  // everybody has flushed since
  const TlbEvents after = tlb_events();
  EXPECT_EQ(after.ipis_sent, before.ipis_sent);
  EXPECT_EQ(after.ipis_saved - before.ipis_saved, online_cpus() - 1);
  EXPECT_EQ(after.range_shootdowns, before.range_shootdowns);
}

KTEST(tlb, a_cpu_that_leaves_its_idling_is_not_disturbed, .flags = TestFlag::NeedsSmp) {
  // It was idle when all had flushed; when it is woken it is not idle any more, and flushes on its way.
  Dozer dozer;
  Crew<1> crew;
  REQUIRE(crew.add("dozer", Dozer::run, &dozer, elsewhere()));
  u32 disturbed = 0;
  for (u32 i = 0; i < race_iterations() / 50; ++i) {
    const u32 generation = tlb_new_generation();
    tlb_wait_for_generation(generation);
    dozer.call();
    for (u32 look = 0; look < 50; ++look) disturbed += tlb_wait_for_generation(generation);
  }
  store(dozer.stop, 1);
  dozer.call();
  crew.join();
  EXPECT_EQ(disturbed, 0u);
}

KTEST(tlb, an_idle_cpu_is_left_alone, .flags = TestFlag::NeedsSmp) {
  // The others have nothing to do here; a tick may wake one of them for a moment, which on a busy host lasts longer.
  u32 fewest = ~0u;
  for (u32 attempt = 0; attempt < 10; ++attempt) {
    const TlbEvents before = tlb_events();
    for (u32 i = 0; i < 100; ++i) tlb_wait_for_generation(tlb_new_generation());
    fewest = std::min(fewest, tlb_events().ipis_sent - before.ipis_sent);
  }
  EXPECT(fewest < 50 * (online_cpus() - 1));
}

namespace {

/// A CPU that is never idle and enters the kernel for ticks and interrupts alone.
struct Spinner {
  u32 running = 0, stop = 0;
  static void run(void* argument) {
    auto& self = *static_cast<Spinner*>(argument);
    store(self.running, 1);
    while (load(self.stop) == 0) cpu_relax();
  }
};

}  // namespace

KTEST(tlb, a_busy_cpu_flushes_when_it_is_asked, .flags = TestFlag::NeedsSmp) {
  constexpr u32 kRequests = 20;
  Spinner spinner;
  Crew<1> crew;
  REQUIRE(crew.add("spinner", Spinner::run, &spinner, elsewhere()));
  EXPECT(within_ms(5000, [&] { return load(spinner.running) != 0; }));
  u32 done = 0;
  while (done < kRequests) {
    const u32 generation = tlb_new_generation();
    tlb_request_generation(generation);
    if (!within_ms(5000, [&] { return tlb_generation_is_done(generation); })) break;
    ++done;
  }
  store(spinner.stop, 1);
  crew.join();
  EXPECT_EQ(done, kRequests);
}

KTEST(tlb, generations_pass_the_end_of_their_counter) {
  // Only the difference counts, and a stamp is never younger than the newest generation: what seems to be is more than
  // 2^31 generations old, and nobody may wait for it for ever.
  const u32 generation = tlb_new_generation();
  tlb_wait_for_generation(generation);
  for (const u32 age : {0u, 1u, 0x70000000u, 0x90000000u, 0xffff0000u}) {
    EXPECT(tlb_generation_is_done(generation - age));
    tlb_wait_for_generation(generation - age);
  }
}

KTEST(tlb, a_small_range_interrupts_every_other_cpu_once) {
  const TlbEvents before = tlb_events();
  for (u32 i = 0; i < 100; ++i) tlb_shootdown(kPkmapStart, 1 + i % kTlbRangeLimit);
  const TlbEvents after = tlb_events();
  EXPECT_EQ(after.ipis_sent - before.ipis_sent, 100 * (online_cpus() - 1));
}

KTEST(tlb, a_large_range_is_one_full_flush_a_cpu) {
  const TlbEvents before = tlb_events();
  tlb_shootdown(kPkmapStart, kTlbRangeLimit + 1);
  const TlbEvents after = tlb_events();
  EXPECT(after.full_flushes != before.full_flushes);
  EXPECT(after.full_flushes - before.full_flushes <= online_cpus());  // idle CPUs flush when they wake
  EXPECT_EQ(after.range_shootdowns, before.range_shootdowns);
}

namespace {
constinit std::atomic<u32> calls{0};
}

KTEST(smp, a_call_runs_once_on_every_other_cpu) {
  calls = 0;
  for (u32 i = 0; i < 1000; ++i) run_on_other_cpus([](IrqsOff) { calls.fetch_add(1); });
  EXPECT_EQ(calls.load(), 1000 * (online_cpus() - 1));
}

KTEST(smp, every_cpu_has_its_own_variables, .flags = TestFlag::NeedsSmp) {
  for (u32 cpu = 0; cpu < online_cpus(); ++cpu) {
    EXPECT_EQ(cpu_number.on(cpu), cpu);
    for (u32 other = 0; other < cpu; ++other) {
      EXPECT(percpu_deltas[cpu] != percpu_deltas[other]);
      EXPECT(apic_id_of(cpu) != apic_id_of(other));
    }
  }
}

}  // namespace paean
