// The same work on every online CPU at once: what does an operation cost there, and does it get dearer with company?
//
//   struct KmapHit {
//     bool prepare();                      // on its CPU, before the start; false: no memory
//     void operator()(u32 round);          // what is measured; inlined into the loop
//     void finish();
//   };
//   KBENCH(smp_kmap_hit, "...") { run_on_all_cpus<KmapHit>(bench); }
//
// One thread bound to each CPU. They work in many short samples, and all begin each sample together. The figure is wall
// time for one operation in the best sample, from the first CPU's begin to the last one's end, so that perfect scaling
// shows as the same figure for any number of CPUs, and CPUs that run one after the other as what they are.
//
// Only a host that runs our CPUs at once, each as fast as it runs one, can show how the work scales; cores that share
// their units or have other guests do not. So before and after each sample all CPUs do a piece of control work, which
// shares nothing, and the sample counts if neither took much longer than the same piece takes one CPU alone:
//
//   CPU 0  control | sample 1 | control | sample 2 | control ...
//   CPU 1  control | sample 1 | control | sample 2 | control ...
//
// A note says how many samples counted; where none did, the figure is the best of all of them. All of it is done with
// several sets of pages and stacks, because which pages fall on the same entry of an emulator's TLB is luck.
// Context: a kernel thread; may sleep. Skipped where the clock counts instructions, which says nothing about time.
#pragma once

#include <array>
#include <new>
#include <optional>
#include <span>

#include "arch/layout.hpp"
#include "arch/percpu.hpp"
#include "kernel/bench/kbench.hpp"
#include "kernel/thread.hpp"
#include "kernel/wait.hpp"
#include "mm/kmalloc.hpp"
#include "mm/page_alloc.hpp"

namespace paean {

inline constexpr u32 kSmpSamples = 25;
inline constexpr u32 kSmpPlacements = 4;

/// What the threads of a placement share. Each sleeps until it is opened; then each comes to wait() equally often and
/// waits there for the others, spinning.
struct SmpStart {
  WaitQueue gate;
  u32 is_open = 0;
  u32 expected = 0, arrived = 0;
  u32 failed = 0;  // prepare() calls that did
  void open();
  void wait_open();
  void wait(u32& meetings);
};

/// From when to when, by the time-stamp counter, which all CPUs share.
struct SmpSpan {
  u64 begin = 0, end = 0;
};
/// A fixed piece of work that shares nothing with anybody.
SmpSpan time_control_work();
/// The same on one CPU while the others have nothing to do: the best of some.
u64 time_control_work_alone();

/// An emulator's TLB grows when it is flushed and was well used, and shrinks after a while of little use. Small, it
/// makes a path twice as dear when two pages of it share an entry, which is luck. On real CPUs, a few milliseconds of
/// reading.
void widen_emulated_tlb();

/// What a CPU measured.
struct SmpTimes {
  SmpSpan control[kSmpSamples + 1];  // before each sample, and after the last
  SmpSpan sample[kSmpSamples];
};
/// The ticks of the best sample, among the samples that count if there are any.
struct SmpVerdict {
  u64 best = 0;
  u32 counted = 0;
  void add(const SmpVerdict& other);
};
SmpVerdict judge_samples(std::span<const SmpTimes> cpus, u64 control_alone);

/// Hundredths of a nanosecond for each of `operations`.
BenchValue nanoseconds_each(u64 tsc_ticks, u32 operations);

template <typename Work>
struct SmpWorker {
  Work work{};
  SmpStart* start = nullptr;
  u32 operations = 0;  // of a sample
  SmpTimes* times = nullptr;
  Page* spacer = nullptr;  // so that the next worker on this CPU gets other pages

  static void run(void* argument) {
    auto& me = *static_cast<SmpWorker*>(argument);
    u32 meetings = 0;
    me.start->wait_open();
    if (const Result<Page*> page = alloc_page(AllocFlags::HighUser, Owner::Test)) me.spacer = *page;
    if (!me.work.prepare()) __atomic_fetch_add(&me.start->failed, 1, __ATOMIC_RELAXED);
    me.start->wait(meetings);
    if (__atomic_load_n(&me.start->failed, __ATOMIC_RELAXED) == 0) me.measure(meetings);
    me.work.finish();
  }

 private:
  void measure(u32& meetings) {
    widen_emulated_tlb();
    for (u32 sample = 0; sample < kSmpSamples; ++sample) {
      times->control[sample] = time_control_work();
      start->wait(meetings);
      const u64 begin = arch::read_tsc();
      for (u32 i = 0; i < operations; ++i) work(i);
      times->sample[sample] = {begin, arch::read_tsc()};
      start->wait(meetings);
    }
    times->control[kSmpSamples] = time_control_work();
  }
};

/// The threads of one placement, each on a stack of its own that no other placement has.
template <typename Work>
class SmpCrew {
 public:
  void create(u32 cpus, u32 operations) {
    start_.is_open = 0;
    start_.failed = 0, start_.expected = cpus;
    for (u32 cpu = 0; cpu < cpus; ++cpu) {
      workers_[cpu] = SmpWorker<Work>{.start = &start_, .operations = operations, .times = &times_[cpu]};
      const auto made = thread_create("bench", SmpWorker<Work>::run, &workers_[cpu], {.cpu = static_cast<i32>(cpu)});
      threads_[cpu] = made ? *made : nullptr;
      if (made) continue;
      start_.failed = 1;
      --start_.expected;
    }
  }
  /// `best` is 0 if there was no memory for the threads or their work.
  SmpVerdict run() {
    const u64 control_alone = time_control_work_alone();
    start_.open();
    for (Thread*& thread : threads_) {
      if (thread != nullptr) thread_join(thread);
      thread = nullptr;
    }
    return start_.failed == 0 ? judge_samples({times_, start_.expected}, control_alone) : SmpVerdict{};
  }
  void give_back() {
    for (SmpWorker<Work>& worker : workers_) {
      if (worker.spacer != nullptr) free_page(worker.spacer);
      worker.spacer = nullptr;
    }
  }

 private:
  SmpStart start_{};
  SmpWorker<Work> workers_[arch::kMaxCpus]{};
  SmpTimes times_[arch::kMaxCpus]{};
  Thread* threads_[arch::kMaxCpus]{};
};

/// The verdict on all placements; nullopt without memory, or if the benchmark was skipped.
template <typename Work>
std::optional<SmpVerdict> work_on_all_cpus(BenchContext& bench) {
  using Crews = std::array<SmpCrew<Work>, kSmpPlacements>;
  if (arch::clock_unit() == arch::ClockUnit::Instructions) {
    bench.skip("the clock counts instructions, not time");
    return std::nullopt;
  }
  const Result<void*> place = kmalloc(sizeof(Crews), AllocFlags::Kernel);
  if (!place) return std::nullopt;
  auto& crews = *new (*place) Crews{};
  for (auto& crew : crews) crew.create(arch::online_cpus(), bench.iterations());
  SmpVerdict all;
  bool complete = true;
  for (auto& crew : crews) {
    const SmpVerdict one = crew.run();
    complete &= one.best != 0;
    all.add(one);
  }
  for (auto& crew : crews) crew.give_back();
  kfree(*place);
  return complete ? std::optional{all} : std::nullopt;
}

/// The line of the result, and before it how far the host was up to it.
inline void report_with_host(BenchContext& bench, const SmpVerdict& all, BenchValue value, std::string_view unit) {
  bench.note("in {} of {} samples the host ran all CPUs at full speed", all.counted, kSmpSamples * kSmpPlacements);
  bench.report(value, unit);
}

template <typename Work>
void run_on_all_cpus(BenchContext& bench) {
  // Without a verdict nothing is reported: unless it was skipped, the benchmark has failed.
  const std::optional<SmpVerdict> all = work_on_all_cpus<Work>(bench);
  if (all) report_with_host(bench, *all, nanoseconds_each(all->best, bench.iterations()), "ns/op");
}

}  // namespace paean
