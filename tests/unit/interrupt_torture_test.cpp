// The timer a hundred times as fast as it should be, on every CPU, with a handler that maps and allocates on top of
// threads which do the same; and NMIs into that, which tests/boot/nmi.py sends.
#include "arch/interrupts.hpp"
#include "arch/lapic.hpp"
#include "arch/smp.hpp"
#include "arch/traps.hpp"
#include "arch/tsc.hpp"
#include "lib/symbols.hpp"
#include "mm/kmap.hpp"
#include "threads.hpp"

namespace paean {

namespace {

constexpr u32 kHertz = 10'000, kTickEvery = kHertz / arch::kTicksPerSecond;
constexpr u32 kCpus = 2, kNested = 3;

/// Written by the interrupts of one CPU.
struct alignas(64) Interrupts {
  u32 calls, wrong, first_count;
  Page* pages[kNested];
};
constinit Interrupts interrupts[kCpus]{};
constinit arch::IrqHandler usual_tick = nullptr;

u32 tag_of(const Page* page) { return number(page_to_pfn(page)) ^ 0x0ddba110; }

/// Every page keeps its tag in word 0 and the number of the last interrupt in word 1.
void nest_maps(Interrupts& mine, u32 depth) {
  if (depth == kNested) return;
  const KmapAtomic map{mine.pages[depth]};
  auto* words = map.as<volatile u32>();
  if (words[0] != tag_of(mine.pages[depth]) || words[1] != mine.calls - 1) ++mine.wrong;
  words[1] = mine.calls;
  nest_maps(mine, depth + 1);
  if (words[1] != mine.calls) ++mine.wrong;
}

void allocate_and_map() {
  const Result<Page*> page = alloc_page(AllocFlags::HighUser | AllocFlags::NoWarn, Owner::Test);
  if (!page) return;
  {
    const KmapAtomic map{*page};
    *map.as<volatile u32>() = 0xbad;
  }
  free_page(*page);
}

void on_fast_tick(arch::IrqsOff off) {
  constexpr u32 kLocalTimer = 16;
  if (arch::this_cpu() >= kCpus) return usual_tick(off);
  Interrupts& mine = interrupts[arch::this_cpu()];
  const u32 count = arch::irq_count(kLocalTimer);
  if (mine.calls++ == 0) mine.first_count = count;
  if (count - mine.first_count != mine.calls - 1) ++mine.wrong;  // one was taken and not handled
  nest_maps(mine, 0);
  if (mine.calls % 2 == 0) allocate_and_map();
  if (mine.calls % kTickEvery == 0) usual_tick(off);
}

/// Ten thousand a second on the first two CPUs while it lives. The kernel's own tick comes as often as ever.
class FastTimer {
 public:
  FastTimer() {
    if (usual_tick == nullptr) usual_tick = arch::set_timer_handler([](arch::IrqsOff) {});  // one tick may be lost
    (void)arch::set_timer_handler(on_fast_tick);
    on_each_cpu([](arch::IrqsOff) {
      if (arch::this_cpu() < kCpus) arch::start_lapic_timer(kHertz);
    });
  }
  ~FastTimer() {
    on_each_cpu([](arch::IrqsOff) { arch::start_tick(); });
    (void)arch::set_timer_handler(usual_tick);
  }
  FastTimer(const FastTimer&) = delete;
  FastTimer& operator=(const FastTimer&) = delete;

 private:
  static void on_each_cpu(void (*function)(arch::IrqsOff)) {
    arch::run_on_other_cpus(function);
    const arch::IrqsOffGuard off;
    function(off.token());
  }
};

struct Fleet {
  u32 stop = 0, wrong = 0, rounds = 0;
  Page* shared = nullptr;
};

constinit u32 faulting[kCpus]{};  // a thread of the CPU is reading where nothing is mapped

struct Worker {
  static constexpr u32 kPages = 4;
  Fleet& fleet;
  Page* pages[kPages]{};
  u32 wrong = 0;

  void check(const void* at, const Page* page) {
    if (*static_cast<const volatile u32*>(at) != tag_of(page)) ++wrong;
  }
  /// Goes through all levels, gives up the CPU with all of them mapped, and finds them as they were.
  void use_local(u32 depth) {
    if (depth == kPages) return thread_yield();
    const KmapLocal map{pages[depth]};
    check(map.data(), pages[depth]);
    use_local(depth + 1);
    check(map.data(), pages[depth]);
  }
  void use_atomic() {
    const KmapAtomic outer{pages[0]};
    const KmapAtomic inner{pages[1]};
    for (u32 i = 0; i < 16; ++i) check(outer.data(), pages[0]), check(inner.data(), pages[1]);
  }
  void use_pool() {
    const Kmap mine{pages[2]};
    const Kmap common{fleet.shared};
    check(mine.data(), pages[2]);
    check(common.data(), fleet.shared);
  }
  void use_allocator() {
    const Result<Page*> page = alloc_page(AllocFlags::HighUser | AllocFlags::Zero | AllocFlags::NoWarn, Owner::Test);
    if (!page) return;
    {
      const KmapLocal map{*page};
      auto* words = map.as<volatile u32>();
      for (u32 i = 0; i < 64; ++i) wrong += words[i] != 0 ? 1 : 0;
      words[0] = tag_of(*page);
      check(map.data(), *page);
    }
    free_page(*page);
  }
  void fault() {
    u32& mark = faulting[arch::this_cpu()];
    store(mark, 1);
    for (u32 i = 0; i < 8; ++i) wrong += arch::probe_read(arch::kFixmapEnd) ? 1 : 0;
    store(mark, 0);
  }
  static void run(void* argument) {
    auto& me = *static_cast<Worker*>(argument);
    u32 rounds = 0;
    for (; load(me.fleet.stop) == 0; ++rounds) {
      me.use_local(0);
      me.use_atomic();
      me.use_pool();
      me.use_allocator();
      me.fault();
    }
    add(me.fleet.wrong, me.wrong);
    add(me.fleet.rounds, rounds);
  }
};

constexpr u32 kWorkersPerCpu = 2;

u32 busy_cpus() { return arch::online_cpus() < kCpus ? arch::online_cpus() : kCpus; }

Page* tagged_page(HeldBlocks& pages) {
  const Result<Page*> page = alloc_page(AllocFlags::HighUser | AllocFlags::Zero, Owner::Test);
  if (!page) return nullptr;
  pages.add(*page, Order{0});
  const KmapLocal map{*page};
  *map.as<u32>() = tag_of(*page);
  return *page;
}

u32 total_calls() {
  u32 sum = 0;
  for (u32 cpu = 0; cpu < busy_cpus(); ++cpu) sum += __atomic_load_n(&interrupts[cpu].calls, __ATOMIC_RELAXED);
  return sum;
}

/// Until `done` or for so many seconds; counts what went wrong.
template <typename Condition>
void torture(TestContext& test, u32 seconds, Condition done) {
  HeldBlocks pages;
  REQUIRE(pages.valid());
  Fleet fleet;
  fleet.shared = tagged_page(pages);
  Worker workers[kCpus * kWorkersPerCpu]{Worker{fleet}, Worker{fleet}, Worker{fleet}, Worker{fleet}};
  for (Worker& worker : workers) {
    for (Page*& page : worker.pages) page = tagged_page(pages);
  }
  for (Interrupts& mine : interrupts) {
    mine = {};
    for (Page*& page : mine.pages) page = tagged_page(pages);
  }
  REQUIRE_EQ(pages.count(), 1 + kCpus * (kWorkersPerCpu * Worker::kPages + kNested));
  const u64 start = arch::microseconds_since_entry();
  {
    Crew<kCpus * kWorkersPerCpu> crew;
    for (u32 i = 0; i < busy_cpus() * kWorkersPerCpu; ++i) {
      EXPECT(crew.add("torture", Worker::run, &workers[i], {.cpu = static_cast<i32>(i % busy_cpus())}));
    }
    const FastTimer timer;
    while (!done() && arch::microseconds_since_entry() - start < u64{seconds} * 1'000'000) thread_sleep_ms(10);
    store(fleet.stop, 1);
    crew.join();
  }
  u32 wrong = 0;
  for (const Interrupts& mine : interrupts) wrong += mine.wrong;
  test.note("{} interrupts in {} ms over {} rounds", total_calls(), (arch::microseconds_since_entry() - start) / 1000,
            fleet.rounds);
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(fleet.wrong, 0);
  EXPECT(fleet.rounds != 0);
}

/// Where NMIs hit; each CPU counts its own.
struct alignas(64) Hits {
  u32 all, in_fault, in_map;
};
constinit Hits hits[kCpus]{};

void on_nmi(const arch::TrapFrame& frame) {
  const u32 cpu = arch::this_cpu();
  if (cpu >= kCpus) return;
  const std::string_view name = find_symbol(VirtAddr{frame.eip}).name;
  const bool in_trap = name.starts_with("trap_") || name.starts_with("probe_");
  hits[cpu].in_fault += in_trap && faulting[cpu] != 0 ? 1 : 0;
  hits[cpu].in_map += contains(name, "map") ? 1 : 0;
  __atomic_store_n(&hits[cpu].all, hits[cpu].all + 1, __ATOMIC_RELAXED);
}

}  // namespace

KTEST(torture, maps_under_ten_thousand_interrupts_a_second) {
  constexpr u32 kInterrupts = 10'000, kAtLeast = 100, kSeconds = 3;
  if (!arch::using_apic()) SKIP("no local APIC");
  torture(test, kSeconds, [] { return total_calls() >= kInterrupts; });
  EXPECT(total_calls() >= kAtLeast);  // a busy host merges many
}

/// The same for a run of its own.
KTEST(torture, a_hundred_thousand_interrupts, .flags = TestFlag::Slow | TestFlag::ByName) {
  constexpr u32 kInterrupts = 100'000, kSeconds = 90;
  if (!arch::using_apic()) SKIP("no local APIC");
  torture(test, kSeconds, [] { return total_calls() >= kInterrupts; });
  EXPECT(total_calls() >= kInterrupts);
}

KTEST(torture, nmis_from_outside, .flags = TestFlag::Slow | TestFlag::ByName) {
  constexpr u32 kNmis = 1000, kSeconds = 90;
  if (!arch::using_apic()) SKIP("no local APIC");
  for (Hits& mine : hits) mine = {};
  arch::watch_nmis(on_nmi);
  test.note("ready for NMIs");
  torture(test, kSeconds, [] {
    for (u32 cpu = 0; cpu < busy_cpus(); ++cpu) {
      if (__atomic_load_n(&hits[cpu].all, __ATOMIC_RELAXED) < kNmis) return false;
    }
    return true;
  });
  test.note("enough NMIs");
  thread_sleep_ms(500);  // those that are on their way
  arch::watch_nmis(nullptr);
  for (u32 cpu = 0; cpu < busy_cpus(); ++cpu) {
    test.note("CPU {}: {} NMIs, {} of them in page faults, {} in code that maps", cpu, hits[cpu].all,
              hits[cpu].in_fault, hits[cpu].in_map);
    EXPECT(hits[cpu].all >= kNmis);
    EXPECT(hits[cpu].in_fault != 0 && hits[cpu].in_map != 0);
  }
}

}  // namespace paean
