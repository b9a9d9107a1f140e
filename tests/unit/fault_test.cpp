// Every site fails once, and from then on, in every operation that passes it.
#include "kernel/fault.hpp"
#include "kernel/test/fail_nth.hpp"
#include "kernel/thread.hpp"
#include "mm/cpu_memory.hpp"
#include "mm/highmem.hpp"
#include "mm/kmap.hpp"
#include "mm/kmap_block.hpp"
#include "mm/page_alloc.hpp"
#include "mm/stack_pool.hpp"
#include "mm/vmalloc.hpp"

namespace paean {

namespace {

constexpr AllocFlags kQuietly = AllocFlags::NoWarn;

/// A block of the kind that `flags` and `order` name.
Result<> take_and_free(AllocFlags flags, Order order) {
  Page* page = TRY(alloc_pages(flags | kQuietly, order, Owner::Test));
  free_pages(page, order);
  return {};
}

void do_nothing(void*) {}

Result<> run_thread() {
  Thread* thread = TRY(thread_create("fault", do_nothing, nullptr));
  thread_join(thread);
  return {};
}

Result<> run_thread_in_lowmem() {
  const StackLimits before = set_stack_limits({.window = 0, .direct = 1});
  const Result<> ran = run_thread();
  (void)set_stack_limits(before);
  return ran;
}

/// Twelve pages, of which some may be missing.
Result<> take_twelve() {
  Page* pages[12]{};
  Result<> result{};
  for (Page*& page : pages) {
    const Result<Page*> taken = alloc_page(AllocFlags::HighUser | kQuietly, Owner::Test);
    if (taken)
      page = *taken;
    else
      result = std::unexpected(taken.error());
  }
  for (Page* page : pages) {
    if (page != nullptr) free_page(page);
  }
  return result;
}

Result<> map_one() {
  Page* page = TRY(alloc_page(AllocFlags::HighUser | kQuietly, Owner::Test));
  const Result<void*> at = kmap_nonblock(page);
  if (at) kunmap(page);
  free_page(page);
  if (!at) return std::unexpected(at.error());
  return {};
}

Result<> map_a_block() {
  Page* block = TRY(alloc_pages(AllocFlags::HighUser | kQuietly, kBlockOrder, Owner::Test));
  const Result<void*> at = kmap_block_nonblock(block);
  if (at) kunmap_block(*at);
  free_pages(block, kBlockOrder);
  if (!at) return std::unexpected(at.error());
  return {};
}

/// Does any page need a map to be reached? Otherwise nothing can be missing for one.
bool maps_are_needed() {
  const Result<Page*> page = alloc_page(AllocFlags::HighUser, Owner::Test);
  if (!page) return false;
  const Result<void*> at = kmap_if_mapped(*page);
  if (at) kunmap(*page);
  free_page(*page);
  return !at;
}

Result<> use_startup_page() {
  Page* page = TRY(allocate_startup_page());
  free_page(page);
  return {};
}

Result<> use_zeroed_address() {
  const VirtAddr at = TRY(get_zeroed_page(AllocFlags::Kernel | kQuietly, Owner::Test));
  free_pages_at(at, Order{0});
  return {};
}

Result<> use_areas() {
  const void* const small = TRY(vmalloc(3 * kPageSize, AllocFlags::HighUser | kQuietly));
  const Result<void*> large = vzalloc(9 * kPageSize, AllocFlags::HighUser | kQuietly);
  if (large) vfree(*large);
  vfree(small);
  if (!large) return std::unexpected(large.error());
  return {};
}

Result<> show_a_page() {
  Page* page = TRY(alloc_page(AllocFlags::HighUser | kQuietly, Owner::Test));
  Page* const pages[] = {page};
  const Result<void*> at = vmap(pages, arch::Protection::ReadWrite);
  if (at) vunmap(*at);
  free_page(page);
  if (!at) return std::unexpected(at.error());
  return {};
}

Result<> show_the_screen() {
  iounmap(TRY(ioremap(PhysAddr{0xb8000}, kPageSize)));
  return {};
}

u32 failures_of(const char* name) {
  const FaultSite* site = find_fault_site(name);
  return site == nullptr ? 0 : site->failures.load();
}

}  // namespace

KTEST(fault, every_operation_survives) {
  u32 met = 0;
  for (u32 order = 0; order <= kMaxOrder; ++order) {
    met += fail_nth(test, "low block", [=] { return take_and_free(AllocFlags::Kernel, Order{order}); });
    met += fail_nth(test, "high block", [=] { return take_and_free(AllocFlags::HighUser, Order{order}); });
  }
  met +=
      fail_nth(test, "zeroed block", [] { return take_and_free(AllocFlags::HighUser | AllocFlags::Zero, Order{2}); });
  met += fail_nth(test, "atomic page", [] { return take_and_free(AllocFlags::Atomic, Order{0}); });
  met += fail_nth(test, "DMA page", [] { return take_and_free(AllocFlags::Dma, Order{0}); });
  met += fail_nth(test, "zeroed address", use_zeroed_address);
  met += fail_nth(test, "start-up page", use_startup_page);
  met += fail_nth(test, "twelve pages", take_twelve);
  met += fail_nth(test, "map", map_one);
  met += fail_nth(test, "map of a block", map_a_block);
  met += fail_nth(test, "thread", run_thread);
  met += fail_nth(test, "thread with its stack in lowmem", run_thread_in_lowmem);
  met += fail_nth(test, "vmalloc", use_areas);
  met += fail_nth(test, "vmap", show_a_page);
  met += fail_nth(test, "ioremap", show_the_screen);
  test.note("{} failures met", met);
  EXPECT(met > 60);
}

// Runs by its name after the one above: tests run in the order of their names.
KTEST(fault, every_site_has_failed) {
  const bool maps = maps_are_needed();
  for_each_fault_site([&](const FaultSite& site) {
    const std::string_view name = site.name;
    if (!maps && (name == "kmap_slot" || name == "block_window")) return;
    if (site.failures.load() == 0) test.note("{} has never failed", site.name);
    EXPECT(site.failures.load() != 0);
  });
}

KTEST(fault, what_a_site_refuses_is_not_had) {
  struct Use {
    const char* site;
    Result<> (*operation)();
  };
  constexpr Use kUses[] = {
      {"page_alloc", [] { return take_and_free(AllocFlags::Kernel, Order{0}); }},
      {"page_at", use_startup_page},
      {"stack_slot", run_thread},
      {"vmalloc_frames", use_areas},
      {"vmalloc_space", use_areas},
      {"vmap_area", show_a_page},
  };
  for (const Use& use : kUses) {
    settle_memory();
    FaultSite* site = find_fault_site(use.site);
    REQUIRE(site != nullptr);
    const u32 before = failures_of(use.site);
    arm_fault(*site, 1, FaultMode::FromThenOn);  // an area is tried for twice
    const bool had = use.operation().has_value();
    disarm_faults();
    if (had || failures_of(use.site) == before) test.note("{}", use.site);
    EXPECT(failures_of(use.site) != before);
    EXPECT(!had);
  }
}

KTEST(fault, the_named_passage_fails) {
  FaultSite* site = find_fault_site("page_alloc");
  REQUIRE(site != nullptr);
  const u32 before = failures_of("page_alloc");
  arm_fault(*site, 2, FaultMode::Once);
  EXPECT(take_and_free(AllocFlags::Kernel, Order{0}).has_value());
  EXPECT(!take_and_free(AllocFlags::Kernel, Order{0}).has_value());
  EXPECT(take_and_free(AllocFlags::Kernel, Order{0}).has_value());
  EXPECT_EQ(failures_of("page_alloc"), before + 1);
  EXPECT_EQ(faults_armed.load(), 0u);
}

KTEST(fault, with_a_plus_all_after_it_fail_too) {
  FaultSite* site = find_fault_site("page_alloc");
  REQUIRE(site != nullptr);
  arm_fault(*site, 2, FaultMode::FromThenOn);
  EXPECT(take_and_free(AllocFlags::Kernel, Order{0}).has_value());
  EXPECT(!take_and_free(AllocFlags::Kernel, Order{3}).has_value());
  EXPECT(!take_and_free(AllocFlags::HighUser, Order{0}).has_value());
  disarm_faults();
  EXPECT(take_and_free(AllocFlags::Kernel, Order{0}).has_value());
  EXPECT_EQ(faults_armed.load(), 0u);
}

KTEST(fault, a_plan_is_its_threads_alone) {
  struct Shared {
    bool good = false;
    static void run(void* argument) {
      static_cast<Shared*>(argument)->good = take_and_free(AllocFlags::Kernel, Order{0}).has_value();
    }
  } shared;
  const Result<Thread*> thread = thread_create("fault-other", Shared::run, &shared);
  REQUIRE(thread.has_value());
  const FaultPlan plan{1, FaultMode::Once};
  thread_join(*thread);
  EXPECT(shared.good);
  EXPECT(!plan.fired());
  EXPECT(!take_and_free(AllocFlags::Kernel, Order{0}).has_value());
  EXPECT(plan.fired());
}

KTEST(fault, one_in_so_many_fails) {
  constexpr u32 kPassages = 20'000, kOneIn = 50;
  arm_fault(*find_fault_site("page_alloc"), kOneIn, FaultMode::Sometimes);
  u32 failed = 0;
  for (u32 i = 0; i < kPassages; ++i) failed += take_and_free(AllocFlags::Kernel, Order{0}) ? 0 : 1;
  disarm_faults();
  test.note("{} of {}", failed, kPassages);
  EXPECT(failed > kPassages / kOneIn / 2 && failed < kPassages / kOneIn * 2);
  EXPECT(take_and_free(AllocFlags::Kernel, Order{0}).has_value());
}

KTEST(fault, what_may_stand_behind_the_colon) {
  EXPECT(parse_fault_spec("3")->n == 3 && parse_fault_spec("3")->mode == FaultMode::Once);
  EXPECT(parse_fault_spec("7+")->n == 7 && parse_fault_spec("7+")->mode == FaultMode::FromThenOn);
  EXPECT(parse_fault_spec("1/9")->n == 9 && parse_fault_spec("1/9")->mode == FaultMode::Sometimes);
  for (const char* wrong : {"", "+", "0", "-1", "3++", "x", "1/", "1/0", "2/9", "1/9+", "4294967296", "1 2"}) {
    EXPECT(!parse_fault_spec(wrong).has_value());
  }
}

}  // namespace paean
