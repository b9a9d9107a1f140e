// vmalloc under load: many areas, random sizes, both CPUs, areas that change hands.
// Source of the cases: Linux's lib/test_vmalloc.c (fixed sizes, full fit, long busy list, random size and alignment,
// per-CPU), with every page's contents checked.
#include <algorithm>

#include "arch/irq.hpp"
#include "arch/smp.hpp"
#include "arch/tlb.hpp"
#include "arch/traps.hpp"
#include "mm/vmalloc.hpp"
#include "threads.hpp"

namespace paean {

namespace {

/// An area with a number in the first and the last word of each page, which no other area has.
struct Marked {
  u32* at = nullptr;
  u32 pages = 0;
  u32 mark = 0;

  [[nodiscard]] bool take(u32 wanted, u32 number, u32 align = kPageSize) {
    const Result<void*> area =
        vmalloc_as({.bytes = wanted * kPageSize, .align = align, .flags = AllocFlags::HighUser | AllocFlags::NoWarn});
    if (!area) return false;
    *this = Marked{static_cast<u32*>(*area), wanted, number};
    for (u32 i = 0; i < pages; ++i) at[i * 1024] = at[i * 1024 + 1023] = mark + i;
    return true;
  }
  /// How many marks are wrong; frees the area.
  u32 drop() {
    u32 wrong = 0;
    for (u32 i = 0; i < pages; ++i) {
      wrong += at[i * 1024] != mark + i ? 1 : 0;
      wrong += at[i * 1024 + 1023] != mark + i ? 1 : 0;
    }
    vfree(at);
    *this = Marked{};
    return wrong;
  }
};

/// Room for so many of a thing, in an area itself.
template <typename T>
class VmArray {
 public:
  explicit VmArray(u32 count) : memory_(vzalloc(count * sizeof(T))) {}
  ~VmArray() {
    if (memory_) vfree(*memory_);
  }
  VmArray(const VmArray&) = delete;
  VmArray& operator=(const VmArray&) = delete;
  bool valid() const { return memory_.has_value(); }
  T& operator[](u32 index) const { return static_cast<T*>(*memory_)[index]; }

 private:
  Result<void*> memory_;
};

/// As many areas of one page as half of the addresses, a quarter of the memory, and 15,000 allow.
u32 many_areas() {
  const u32 memory = low_totals().free.count() / 4 + high_totals().free.count() / 4;
  const u32 addresses = vmalloc_statistics().free_pages / 2 - 64;
  return std::min(15'000u, std::min(memory, addresses));
}

}  // namespace

KTEST(vmalloc, many_live_areas, .flags = TestFlag::Slow) {
  const u32 count = many_areas();
  const VmArray<Marked> areas{count};
  REQUIRE(areas.valid());
  const u32 before = vmalloc_statistics().live;
  u32 wrong = 0;
  for (u32 i = 0; i < count; ++i) REQUIRE(areas[i].take(1, i << 8));
  EXPECT_EQ(vmalloc_statistics().live, before + count);
  for (u32 i = 0; i < count; ++i) {  // any of them can be replaced, with all the others there
    Marked& one = areas[test.random_below(count)];
    const u32 mark = one.mark;
    wrong += one.drop();
    REQUIRE(one.take(1, mark));
  }
  for (u32 i = 0; i < count; ++i)
    wrong += areas[(i * 7919u) % count].at == nullptr ? 0 : areas[(i * 7919u) % count].drop();
  for (u32 i = 0; i < count; ++i) wrong += areas[i].at == nullptr ? 0 : areas[i].drop();
  EXPECT_EQ(wrong, 0u);
  test.note("{} areas", count);
}

KTEST(vmalloc, a_long_busy_list_and_one_that_comes_and_goes) {
  const u32 count = many_areas() / 4;
  const VmArray<Marked> areas{count};
  REQUIRE(areas.valid());
  for (u32 i = 0; i < count; ++i) REQUIRE(areas[i].take(1, i));
  u32 wrong = 0;
  for (u32 i = 0; i < 3000; ++i) {
    Marked one, other;
    REQUIRE(one.take(100, 0x1000) && other.take(1, 0x2000));
    wrong += one.drop() + other.drop();
  }
  for (u32 i = 0; i < count; ++i) wrong += areas[i].drop();
  EXPECT_EQ(wrong, 0u);
}

KTEST(vmalloc, holes_that_fit_are_filled) {
  constexpr u32 kAreas = 100, kPages = 64, kBytes = (kPages + 1) * kPageSize;
  vmalloc_purge();
  Marked areas[kAreas];
  u32 taken = 0, wrong = 0;
  while (taken < kAreas && areas[taken].take(kPages, taken << 8)) ++taken;
  REQUIRE(taken >= 16);
  VirtAddr holes[kAreas];
  u32 count = 0;
  for (u32 i = 1; i + 1 < taken; i += 2) {  // those between two others, which are not joined with anything free
    const VirtAddr at = address_of(areas[i].at);
    if (address_of(areas[i - 1].at) + kBytes != at || at + kBytes != address_of(areas[i + 1].at)) continue;
    holes[count++] = at;
    wrong += areas[i].drop();
  }
  EXPECT(count >= taken / 4);
  vmalloc_purge();
  std::sort(holes, holes + count);
  u32 filled = 0;
  for (u32 i = 0; i < taken && filled < count; ++i) {
    if (areas[i].at != nullptr) continue;
    REQUIRE(areas[i].take(kPages, i << 8));
    EXPECT(address_of(areas[i].at) == holes[filled++]);  // the lowest of those that fit exactly
  }
  for (Marked& area : areas) wrong += area.at == nullptr ? 0 : area.drop();
  EXPECT_EQ(wrong, 0u);
}

KTEST(vmalloc, random_sizes_and_alignments) {
  constexpr u32 kAreas = 64, kRounds = 6000;
  Marked areas[kAreas];
  u32 wrong = 0, failed = 0;
  for (u32 i = 0; i < kRounds; ++i) {
    Marked& area = areas[test.random_below(kAreas)];
    if (area.at != nullptr) {
      wrong += area.drop();
      continue;
    }
    const u32 pages = 1 + test.random_below(test.random_below(4) == 0 ? 300 : 6);
    const u32 align = kPageSize << test.random_below(test.random_below(8) == 0 ? 11 : 1);
    if (!area.take(pages, i << 12, align))
      ++failed;
    else
      EXPECT(address_of(area.at).is_aligned(align));
  }
  for (Marked& area : areas) wrong += area.at == nullptr ? 0 : area.drop();
  EXPECT_EQ(wrong, 0u);
  test.note("{} of {} could not be had", failed, kRounds);
}

namespace {

struct Churner {
  u32 seed = 0, rounds = 0, wrong = 0, failed = 0;

  static void run(void* argument) {
    auto& me = *static_cast<Churner*>(argument);
    TestRandom random{me.seed, "churn"};
    Marked areas[16];
    for (u32 i = 0; i < me.rounds; ++i) {
      Marked& area = areas[random.below(16)];
      if (area.at != nullptr)
        me.wrong += area.drop();
      else if (!area.take(1 + random.below(random.below(16) == 0 ? 90 : 5), me.seed + i * 256))
        ++me.failed;
    }
    for (Marked& area : areas) me.wrong += area.at == nullptr ? 0 : area.drop();
  }
};

}  // namespace

KTEST(vmalloc, every_cpu_churns_and_few_interrupts_are_sent, .flags = TestFlag::NeedsSmp | TestFlag::Slow) {
  constexpr u32 kRounds = 40'000;
  const u32 cpus = std::min(arch::online_cpus(), 4u);
  Churner churners[4];
  const arch::TlbEvents before = arch::tlb_events();
  const VmallocStatistics start = vmalloc_statistics();
  {
    Crew<4> crew;
    for (u32 cpu = 0; cpu < cpus; ++cpu) {
      churners[cpu] = {.seed = cpu << 24, .rounds = kRounds};
      REQUIRE(crew.add("churn", Churner::run, &churners[cpu], {.cpu = static_cast<i32>(cpu)}));
    }
  }
  const arch::TlbEvents after = arch::tlb_events();
  const VmallocStatistics end = vmalloc_statistics();
  for (const Churner& churner : churners) {
    EXPECT_EQ(churner.wrong, 0u);
    EXPECT_EQ(churner.failed, 0u);
  }
  const u32 freed = cpus * kRounds / 2, ipis = after.ipis_sent - before.ipis_sent;
  EXPECT(ipis * 50 < freed);
  test.note("{} areas freed in {} batches, {} waits, {} IPIs", freed, end.batches - start.batches,
            end.waits - start.waits, ipis);
}

namespace {

/// Areas from one CPU to the other, through a ring, so that neither waits for each step of the other.
struct Relay {
  static constexpr u32 kSlots = 256;
  u32* parcels[kSlots]{};
  u32 rounds = 0;
  u32 wrong = 0;

  u32*& slot(u32 round) { return parcels[round % kSlots]; }
  u32* look(u32 round) { return __atomic_load_n(&slot(round), __ATOMIC_ACQUIRE); }
  // NOLINTNEXTLINE(readability-non-const-parameter): who receives it writes
  void put(u32 round, u32* parcel) { __atomic_store_n(&slot(round), parcel, __ATOMIC_RELEASE); }

  static void receive(void* argument) {
    auto& me = *static_cast<Relay*>(argument);
    for (u32 i = 0; i < me.rounds; ++i) {
      u32* at;
      while ((at = me.look(i)) == nullptr) thread_yield();
      me.wrong += at[0] != i ? 1 : 0;
      me.wrong += at[1023] != ~i ? 1 : 0;
      me.put(i, nullptr);
      vfree(at);
    }
  }
};

}  // namespace

KTEST(vmalloc, an_area_is_there_for_the_other_cpu_at_once, .flags = TestFlag::NeedsSmp | TestFlag::Slow) {
  Relay relay{.rounds = 100'000};
  u32 failed = 0;
  {
    Crew<1> crew;
    REQUIRE(crew.add("receiver", Relay::receive, &relay, elsewhere()));
    for (u32 i = 0; i < relay.rounds; ++i) {
      Result<void*> area = vmalloc((1 + i % 3) * kPageSize);
      while (!area) {
        ++failed;
        area = vmalloc(kPageSize);
      }
      auto* words = static_cast<u32*>(*area);
      words[0] = i;
      words[1023] = ~i;
      while (relay.look(i) != nullptr) thread_yield();
      relay.put(i, words);
    }
  }
  EXPECT_EQ(relay.wrong, 0u);
  EXPECT_EQ(failed, 0u);
}

namespace {

constinit u32* freed_in_interrupt[arch::kMaxCpus][8]{};
constinit u32 faults_in_interrupt = 0;

/// Takes areas and frees others, in an interrupt.
void swap_areas(arch::IrqsOff) {
  for (u32 i = 0; i < 8; ++i) {
    u32*& slot = freed_in_interrupt[arch::this_cpu()][i];
    vfree(slot);
    const Result<void*> area = vmalloc((1 + i) * kPageSize, AllocFlags::HighUser | AllocFlags::Atomic);
    slot = area ? static_cast<u32*>(*area) : nullptr;
    if (slot != nullptr)
      slot[i * 1024] = i;
    else
      add(faults_in_interrupt, 1);
  }
}

/// Interrupts for every other CPU, and what they took given back.
void interrupt_and_clean_up() {
  for (u32 i = 0; i < 500; ++i) arch::run_on_other_cpus(swap_areas);
  for (auto& slots : freed_in_interrupt) {
    for (u32*& slot : slots) {
      vfree(slot);
      slot = nullptr;
    }
  }
}

}  // namespace

// The CPU that sends the interrupts never passes by, so that without being asked it would keep 18,000 parked frames.
KTEST(vmalloc, interrupts_alone_take_and_free, .flags = TestFlag::NeedsSmp) {
  store(faults_in_interrupt, 0);
  interrupt_and_clean_up();
  EXPECT_EQ(load(faults_in_interrupt), 0u);
}

KTEST(vmalloc, interrupts_take_and_free_while_threads_do, .flags = TestFlag::NeedsSmp) {
  Churner churner{.seed = 1u << 24, .rounds = 20'000};
  store(faults_in_interrupt, 0);
  {
    Crew<1> crew;
    REQUIRE(crew.add("churn", Churner::run, &churner, elsewhere()));
    interrupt_and_clean_up();
  }
  EXPECT_EQ(churner.wrong + churner.failed, 0u);
  EXPECT_EQ(load(faults_in_interrupt), 0u);
}

namespace {

/// Keeps its CPU without ever passing by: no flush of its own, no idling.
struct Hermit {
  u32 stop = 0;
  static void run(void* argument) {
    while (load(static_cast<Hermit*>(argument)->stop) == 0) arch::cpu_relax();
  }
};

}  // namespace

KTEST(vmalloc, frames_wait_for_a_cpu_that_does_not_pass_by, .flags = TestFlag::NeedsSmp) {
  Hermit hermit;
  Crew<1> crew;
  REQUIRE(crew.add("hermit", Hermit::run, &hermit, elsewhere()));
  REQUIRE(within_ms(1000, [&] { return thread_slices(crew[0]) != 0; }));
  vmalloc_purge();
  const VmallocStatistics before = vmalloc_statistics();
  const u32 ipis = arch::tlb_events().ipis_sent;
  const u32 limit = before.parked_limit;
  u32 most = 0;
  for (u32 i = 0; i < limit - 64; ++i) {
    const Result<void*> area = vmalloc(kPageSize);
    REQUIRE(area);
    vfree(*area);
    most = std::max(most, vmalloc_statistics().parked_pages);
  }
  EXPECT_EQ(vmalloc_statistics().waits, before.waits);
  EXPECT_EQ(arch::tlb_events().ipis_sent, ipis);
  EXPECT_EQ(most, limit - 64);  // nothing was given back
  for (u32 i = 0; i < 2 * limit; ++i) {
    const Result<void*> area = vmalloc(kPageSize);
    REQUIRE(area);
    vfree(*area);
    most = std::max(most, vmalloc_statistics().parked_pages);
  }
  EXPECT(most < limit + 128);  // but not without bound: then the hermit is interrupted
  EXPECT(vmalloc_statistics().waits != before.waits);
  EXPECT(arch::tlb_events().ipis_sent - ipis <= 10);
  store(hermit.stop, 1);
}

}  // namespace paean
