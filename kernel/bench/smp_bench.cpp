#include "kernel/bench/smp_bench.hpp"

#include <algorithm>

#include "arch/address_space.hpp"
#include "mm/lowmem.hpp"

namespace paean {

namespace {

constexpr u32 kControlRounds = 10'000;
// Control work on all CPUs may take so much longer than on one.
constexpr u64 kControlNumerator = 108, kControlDenominator = 100;

[[gnu::noinline]] void touch(u32* words) { keep(words); }

}  // namespace

void SmpStart::open() {
  arrived = 0;
  __atomic_store_n(&is_open, 1, __ATOMIC_RELEASE);
  (void)gate.wake_all();
}

void SmpStart::wait_open() {
  gate.wait([this] { return __atomic_load_n(&is_open, __ATOMIC_ACQUIRE) != 0; });
}

void SmpStart::wait(u32& meetings) {
  ++meetings;
  __atomic_fetch_add(&arrived, 1, __ATOMIC_ACQ_REL);
  while (__atomic_load_n(&arrived, __ATOMIC_ACQUIRE) < meetings * __atomic_load_n(&expected, __ATOMIC_ACQUIRE)) {
    arch::cpu_relax();
  }
}

// Much like what is measured: loads and stores, independent of each other so that they keep all units of a core busy,
// calls, and atomic operations, all on this CPU's own stack.
SmpSpan time_control_work() {
  alignas(64) u32 words[64]{};
  const u64 begin = arch::read_tsc();
  for (u32 i = 0; i < kControlRounds; ++i) {
    for (u32 k = 0; k < 8; ++k) {
      words[k] += i;
      words[k + 16] ^= words[k];
    }
    __atomic_fetch_add(&words[i & 63], 1, __ATOMIC_RELAXED);
    touch(words);
  }
  return {begin, arch::read_tsc()};
}

u64 time_control_work_alone() {
  u64 best = ~u64{0};
  for (u32 i = 0; i < 20; ++i) {
    const SmpSpan span = time_control_work();
    best = std::min(best, span.end - span.begin);
  }
  return best;
}

void widen_emulated_tlb() {
  constexpr u32 kPages = 4096, kFlushes = 6;  // it doubles with each, from 256 entries or so
  for (u32 flush = 0; flush < kFlushes; ++flush) {
    for (u32 number = 0; number < kPages; ++number) {
      const std::optional<LowPfn> frame = to_low(Pfn{number});
      if (frame && pfn_valid(frame->pfn())) keep(*static_cast<const volatile u32*>(frame->pointer()));
    }
    arch::flush_tlb_all();
  }
}

SmpVerdict judge_samples(std::span<const SmpTimes> cpus, u64 control_alone) {
  // From the first begin to the last end.
  const auto ticks = [cpus](auto span_of) {
    SmpSpan all = span_of(cpus[0]);
    for (const SmpTimes& times : cpus) {
      const SmpSpan& one = span_of(times);
      all = {std::min(all.begin, one.begin), std::max(all.end, one.end)};
    }
    return all.end - all.begin;
  };
  SmpVerdict verdict;
  u64 best_of_all = ~u64{0}, best = ~u64{0};
  for (u32 i = 0; i < kSmpSamples; ++i) {
    const u64 sample = ticks([i](const SmpTimes& times) { return times.sample[i]; });
    const u64 before = ticks([i](const SmpTimes& times) { return times.control[i]; });
    const u64 after = ticks([i](const SmpTimes& times) { return times.control[i + 1]; });
    best_of_all = std::min(best_of_all, sample);
    if (std::max(before, after) * kControlDenominator > control_alone * kControlNumerator) continue;
    ++verdict.counted;
    best = std::min(best, sample);
  }
  verdict.best = verdict.counted != 0 ? best : best_of_all;
  return verdict;
}

void SmpVerdict::add(const SmpVerdict& other) {
  if (best == 0 || (counted == 0) != (other.counted == 0)) {
    best = counted == 0 ? other.best : best;
  } else {
    best = std::min(best, other.best);
  }
  counted += other.counted;
}

BenchValue nanoseconds_each(u64 tsc_ticks, u32 operations) {
  // A tick is 10^6 / khz nanoseconds. In two steps, so that an hour of ticks does not overflow.
  const u64 per_operation = BenchValue::ratio(tsc_ticks, operations).in_hundredths();
  return BenchValue::hundredths(per_operation * 1'000'000 / arch::tsc_khz());
}

}  // namespace paean
