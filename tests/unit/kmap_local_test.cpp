// Local maps of several threads on one CPU, and what becomes of mistakes with them.
#include "access.hpp"
#include "arch/smp.hpp"
#include "arch/traps.hpp"
#include "interrupts.hpp"
#include "mm/kmap.hpp"
#include "threads.hpp"

namespace paean {

namespace {

/// Three pages of its own at the lowest levels, looked at after each switch.
struct Holder {
  Page* pages[3]{};
  u32 tag = 0, switches = 0, wrong = 0, same_address = 0;
  const void* at = nullptr;

  bool prepare(u32 value) {
    tag = value;
    for (u32 i = 0; i < 3; ++i) {
      const Result<Page*> page = alloc_page(AllocFlags::HighUser, Owner::Test);
      if (!page) return false;
      pages[i] = *page;
      const KmapLocal map{*page};
      *map.as<u32>() = tag + i;
    }
    return true;
  }
  ~Holder() {
    for (Page* page : pages) {
      if (page != nullptr) free_page(page);
    }
  }
  void look(const KmapLocal (&maps)[3]) {
    for (u32 i = 0; i < 3; ++i) wrong += *maps[i].as<volatile u32>() != tag + i ? 1 : 0;
  }
  static void run(void* argument) {
    auto& me = *static_cast<Holder*>(argument);
    const KmapLocal maps[3] = {KmapLocal{me.pages[0]}, KmapLocal{me.pages[1]}, KmapLocal{me.pages[2]}};
    me.at = maps[0].data();
    for (u32 i = 0; i < me.switches; ++i) {
      me.look(maps);
      thread_yield();
    }
    me.look(maps);
  }
};

}  // namespace

KTEST(highmem, two_threads_keep_their_maps_across_switches, .flags = TestFlag::NeedsHighmem) {
  constexpr u32 kSwitches = 100'000;
  Holder holders[2];
  REQUIRE(holders[0].prepare(0x1000));
  REQUIRE(holders[1].prepare(0x2000));
  for (Holder& holder : holders) holder.switches = kSwitches / 2;
  u32 runs;
  {
    Crew<2> crew;
    REQUIRE(crew.add("maps", Holder::run, &holders[0], here()));
    REQUIRE(crew.add("maps", Holder::run, &holders[1], here()));
    thread_yield();
    const bool done = within_ms(100'000, [&] { return thread_runs(crew[0]) + thread_runs(crew[1]) >= kSwitches; });
    runs = thread_runs(crew[0]) + thread_runs(crew[1]);
    EXPECT(done);
  }
  EXPECT_EQ(holders[0].wrong + holders[1].wrong, 0);
  EXPECT(holders[0].at == holders[1].at);  // the same level of the same CPU
  EXPECT(runs >= kSwitches);
}

KTEST(highmem, the_page_behind_a_map_faults, .flags = TestFlag::NeedsHighmem) {
  const Result<Page*> page = alloc_page(AllocFlags::HighUser, Owner::Test);
  REQUIRE(page);
  {
    const KmapLocal outer{*page};
    const KmapLocal inner{*page};
    for (const KmapLocal* map : {&outer, &inner}) {
      const VirtAddr at = address_of(map->data());
      EXPECT(arch::probe_read(at + kPageSize - 4));
      EXPECT(!arch::probe_read(at + kPageSize));
      EXPECT(!arch::probe_write(at + kPageSize, 0));
    }
  }
  free_page(*page);
}

KTEST(death, local_map_by_another_thread, .flags = TestFlag::Death | TestFlag::NeedsHighmem) {
  const Result<Page*> page = alloc_page(AllocFlags::HighUser, Owner::Test);
  REQUIRE(page);
  void* at = kmap_local_page(*page);
  KTEST_EXPECT_PANIC("undone out of order, twice, or by another thread");
  Crew<1> crew;
  REQUIRE(crew.add("thief", [](void* address) { kunmap_local(address); }, at, here()));
  crew.join();
}

/// The 16th map of one CPU is next to the first slot of the next CPU.
KTEST(death, local_map_by_another_cpu, .flags = TestFlag::Death | TestFlag::NeedsHighmem | TestFlag::NeedsSmp) {
  static void* newest;
  const Result<Page*> page = alloc_page(AllocFlags::HighUser, Owner::Test);
  REQUIRE(page);
  const PreemptGuard stays_here;
  for (u32 i = 0; i < arch::kKmapDepth; ++i) newest = kmap_local_page(*page);
  KTEST_EXPECT_PANIC("undone out of order, twice, or by another thread");
  arch::run_on_other_cpus([](arch::IrqsOff) { kunmap_local(newest); });
}

KTEST(death, local_map_by_an_interrupt, .flags = TestFlag::Death | TestFlag::NeedsHighmem) {
  static void* newest;
  const Result<Page*> page = alloc_page(AllocFlags::HighUser, Owner::Test);
  REQUIRE(page);
  newest = kmap_local_page(*page);
  KTEST_EXPECT_PANIC("has undone maps that it found");
  call_as_interrupt([](arch::IrqsOff) { kunmap_local(newest); });
}

KTEST(death, thread_ends_with_a_local_map, .flags = TestFlag::Death | TestFlag::NeedsHighmem) {
  const Result<Page*> page = alloc_page(AllocFlags::HighUser, Owner::Test);
  REQUIRE(page);
  KTEST_EXPECT_PANIC("local map");
  Crew<1> crew;
  REQUIRE(crew.add("leak", [](void* word) { (void)kmap_local_page(static_cast<Page*>(word)); }, *page, here()));
  crew.join();
}

KTEST(death, sleeping_with_an_atomic_map, .flags = TestFlag::Death | TestFlag::NeedsHighmem) {
  const Result<Page*> page = alloc_page(AllocFlags::HighUser, Owner::Test);
  REQUIRE(page);
  KTEST_EXPECT_PANIC("atomic context");
  const KmapAtomic map{*page};
  thread_sleep_ms(20);
}

KTEST(death, kunmap_of_a_page_that_is_not_mapped, .flags = TestFlag::Death | TestFlag::NeedsHighmem) {
  const Result<Page*> page = alloc_page(AllocFlags::HighUser, Owner::Test);
  REQUIRE(page);
  KTEST_EXPECT_PANIC("not mapped");
  kunmap(*page);
}

}  // namespace paean
