// TLB generations and shootdown, and the CPUs that answer to them.
#include "arch/tlb.hpp"

#include <atomic>

#include "arch/percpu.hpp"
#include "arch/smp.hpp"
#include "kernel/test/ktest.hpp"

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

KTEST(tlb, a_cpu_that_has_flushed_is_not_disturbed, .flags = TestFlag::NeedsSmp) {
  const u32 older = tlb_new_generation(), newer = tlb_new_generation();
  tlb_wait_for_generation(newer);
  const TlbEvents before = tlb_events();
  tlb_wait_for_generation(older);  // everybody has flushed since
  const TlbEvents after = tlb_events();
  EXPECT_EQ(after.ipis_sent, before.ipis_sent);
  EXPECT_EQ(after.ipis_saved - before.ipis_saved, online_cpus() - 1);
  EXPECT_EQ(after.range_shootdowns, before.range_shootdowns);
}

KTEST(tlb, an_idle_cpu_is_left_alone, .flags = TestFlag::NeedsSmp) {
  // The others have nothing to do here; a tick may wake one of them for a moment.
  const TlbEvents before = tlb_events();
  for (u32 i = 0; i < 1000; ++i) tlb_wait_for_generation(tlb_new_generation());
  const TlbEvents after = tlb_events();
  EXPECT(after.ipis_sent - before.ipis_sent < 500 * (online_cpus() - 1));
}

KTEST(tlb, generations_pass_the_end_of_their_counter) {
  // Only the difference counts: 2^31 generations may lie between a stamp and its check.
  const u32 generation = tlb_new_generation();
  tlb_wait_for_generation(generation);
  EXPECT(tlb_generation_is_done(generation - 0x70000000u));
  EXPECT(!tlb_generation_is_done(generation + 0x70000000u));
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
