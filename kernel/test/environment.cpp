#include "kernel/test/environment.hpp"

#include "arch/fixmap.hpp"
#include "arch/smp.hpp"
#include "kernel/preempt.hpp"
#include "kernel/spinlock.hpp"
#include "kernel/test/fail_nth.hpp"
#include "kernel/test/selftest.hpp"
#include "kernel/thread.hpp"
#include "mm/kmap.hpp"
#include "mm/ledger.hpp"
#include "mm/page_alloc.hpp"
#include "mm/slab.hpp"
#include "mm/vmalloc.hpp"

namespace paean {

namespace {

// A snapshot keeps pointers, so every name is a literal.
constexpr const char* kZoneNames[] = {"zone DMA", "zone Normal", "zone DMA32", "zone HighMem"};
constexpr const char* kOrderNames[] = {"free blocks of order 0", "free blocks of order 1", "free blocks of order 2",
                                       "free blocks of order 3", "free blocks of order 4", "free blocks of order 5",
                                       "free blocks of order 6", "free blocks of order 7", "free blocks of order 8",
                                       "free blocks of order 9", "free blocks of order 10"};
constexpr const char* kOwnerNames[] = {"pages of kernel",     "pages of user",    "pages of page tables",
                                       "pages of page cache", "pages of slab",    "pages of vmalloc",
                                       "pages of stacks",     "pages of bounce",  "pages of console",
                                       "pages of tests",      "pages of per-CPU", "pages parked"};
static_assert(std::size(kZoneNames) == kZoneCount);
static_assert(std::size(kOrderNames) == kOrderCount);
static_assert(std::size(kOwnerNames) == kOwnerCount);

constexpr usize kCountersOfZone = kOrderCount + kOwnerCount + 2;
constexpr usize kCountersOfCpu = 8;
static_assert(kZoneCount * kCountersOfZone + kCountersOfCpu + kMaxCaches <= TestSnapshot::kCapacity);

class KernelEnvironment final : public TestEnvironment {
 public:
  TestFlags offers() override {
    TestFlags flags{};
    if (high_totals().total.count() != 0) flags = flags | TestFlag::NeedsHighmem;
    if (arch::online_cpus() > 1) flags = flags | TestFlag::NeedsSmp;
    return flags;
  }

  void quiesce() override {
    settle_memory();
    arch::run_on_other_cpus([](arch::IrqsOff) { drain_local_pages(); });
    drain_local_pages();
  }

  void take(TestSnapshot& into) override {
    for (u32 i = 0; i < kZoneCount; ++i) take_zone(into, i);
    into.add("this CPU", "live fixmap windows", arch::fix_depth());
    into.add("this CPU", "lock ranks held", held_ranks());
    into.add("this CPU", "preemption off", preempt_count.get());
    into.add("pkmap", "live maps", kmap_statistics().live);
    into.add("kernel", "threads", thread_count());
    into.add("vmalloc", "live areas", vmalloc_statistics().live);
    into.add("vmalloc", "free pages of addresses", vmalloc_statistics().free_pages);
    into.add("this CPU", "interrupts on", arch::irqs_enabled() ? 1 : 0);
    // Last, because a test that leaves a cache behind moves what follows it.
    for (u32 i = 0; i < kMaxCaches; ++i) {
      if (const auto cache = cache_statistics(i)) into.add(cache->name, "objects in use", cache->used);
    }
  }

 private:
  static void take_zone(TestSnapshot& into, u32 index) {
    const auto id = static_cast<ZoneId>(index);
    const std::array<u32, kOrderCount> blocks = free_blocks_in(id);
    for (u32 order = 0; order < kOrderCount; ++order) into.add(kZoneNames[index], kOrderNames[order], blocks[order]);
    into.add(kZoneNames[index], "free pages", free_pages_in(id).count());
    into.add(kZoneNames[index], "managed pages", zone(id).managed.count());
    for (u32 owner = 0; owner < kOwnerCount; ++owner) {
      into.add(kZoneNames[index], kOwnerNames[owner], ledger_pages(id, static_cast<Owner>(owner)).count());
    }
  }
};

constinit KernelEnvironment environment;

}  // namespace

void init_test_environment() { set_test_environment(environment); }

}  // namespace paean
