// Stacks of threads: guards, what is kept, how many there can be, and the second kind, in lowmem.
#include "mm/stack_pool.hpp"

#include "arch/address_space.hpp"
#include "arch/traps.hpp"
#include "mm/ledger.hpp"
#include "mm/lowmem.hpp"
#include "mm/vmalloc.hpp"
#include "threads.hpp"

namespace paean {

namespace {

void count_up(void* argument) { (void)add(*static_cast<u32*>(argument), 1); }

/// As many as asked for, or as memory gives; all of them joined again. What the last attempt failed with.
Result<> fill_with_threads(TestContext& test, u32 wanted, u32& made) {
  made = 0;
  const Result<void*> place = vmalloc(wanted * sizeof(Thread*));
  if (!place) return std::unexpected(place.error());
  auto** const waiting = static_cast<Thread**>(*place);
  Gate gate;
  Result<> failed{};
  for (; made < wanted; ++made) {
    const Result<Thread*> thread = thread_create("waits", wait_at_gate, &gate);
    if (!thread) {
      failed = std::unexpected(thread.error());
      break;
    }
    waiting[made] = *thread;
  }
  EXPECT(within_ms(30'000, [&] { return load(gate.inside) == made && gate.queue.waiting() == made; }));
  gate.release();
  for (u32 i = 0; i < made; ++i) thread_join(waiting[i]);
  vfree(*place);
  return failed;
}

/// For a scope, other limits.
class LimitedStacks {
 public:
  explicit LimitedStacks(StackLimits limits) : before_(set_stack_limits(limits)) {}
  ~LimitedStacks() { (void)set_stack_limits(before_); }
  LimitedStacks(const LimitedStacks&) = delete;
  LimitedStacks& operator=(const LimitedStacks&) = delete;

 private:
  StackLimits before_;
};

u32 low_stack_pages() {
  return (ledger_pages(ZoneId::Dma, Owner::Stack) + ledger_pages(ZoneId::Normal, Owner::Stack)).count();
}

}  // namespace

KTEST(thread, six_hundred_at_once) {
  u32 made = 0;
  const Result<> failed = fill_with_threads(test, 600, made);
  if (!failed && failed.error() == Error::OutOfMemory) SKIP("not enough memory for 600 stacks");
  const StackPoolCounts stacks = stack_pool_counts();
  EXPECT_EQ(made, std::min(600u, stacks.slots - stacks.used + stacks.direct_most - stacks.direct_used));
}

KTEST(thread, stacks_are_limited) {
  constexpr u32 kDirect = 50;
  const LimitedStacks limits{{.window = stack_pool_counts().slots, .direct = kDirect}};
  u32 made = 0;
  const u32 possible = stack_pool_counts().slots - stack_pool_counts().used + kDirect;
  const Result<> failed = fill_with_threads(test, possible + 1, made);
  REQUIRE(!failed);
  if (failed.error() == Error::OutOfMemory) SKIP("not enough memory for all stacks");
  EXPECT_EQ(failed.error(), Error::TooLarge);
  EXPECT_EQ(made, possible);
}

KTEST(thread, stacks_have_guards) {
  struct Seen {
    VirtAddr inside{};
    u32 read_guard = 0, read_stack = 0;
  } seen;
  Crew<1> crew;
  REQUIRE(crew.add(
      "guarded",
      [](void* argument) {
        auto& mine = *static_cast<Seen*>(argument);
        mine.inside = address_of(__builtin_frame_address(0));
        const std::optional<VirtAddr> guard = guard_page_below(mine.inside);
        if (!guard) return;
        mine.read_guard = arch::probe_read(*guard + kPageSize - 4) ? 1 : 0;
        mine.read_stack = arch::probe_read(*guard + kPageSize) ? 1 : 0;
      },
      &seen));
  crew.join();
  const std::optional<VirtAddr> guard = guard_page_below(seen.inside);
  REQUIRE(guard);
  EXPECT_EQ(seen.read_guard, 0u);
  EXPECT_EQ(seen.read_stack, 1u);
  EXPECT(!arch::walk_current(*guard).mapped);
  EXPECT(arch::walk_current(*guard + kPageSize).mapped);  // kept for the next thread
  trim_stack_pool();
  EXPECT(!arch::walk_current(*guard + kPageSize).mapped);
}

KTEST(thread, without_a_slot_the_stack_is_in_lowmem) {
  struct Seen {
    VirtAddr inside{};
    u32 stack_pages = 0, in_use = 0;
  } seen;
  const u32 before = low_stack_pages();
  {
    const LimitedStacks limits{{.window = 0, .direct = 1}};
    Crew<2> crew;
    REQUIRE(crew.add(
        "in lowmem",
        [](void* argument) {
          auto& mine = *static_cast<Seen*>(argument);
          mine.inside = address_of(__builtin_frame_address(0));
          mine.stack_pages = low_stack_pages();
          mine.in_use = stack_pool_counts().direct_used;
        },
        &seen));
    const Result<Thread*> second = thread_create("one too many", count_up, nullptr);
    REQUIRE(!second);
    EXPECT_EQ(second.error(), Error::TooLarge);
    crew.join();
  }
  EXPECT(direct_map.shows_at(seen.inside));
  EXPECT(!guard_page_below(seen.inside));
  EXPECT_EQ(seen.stack_pages, before + 2);
  EXPECT_EQ(seen.in_use, 1u);
  EXPECT_EQ(stack_pool_counts().direct_used, 0u);
  EXPECT_EQ(low_stack_pages(), before);
}

KTEST(death, stack_in_lowmem_overflows, .flags = TestFlag::Death) {
  KTEST_EXPECT_PANIC("the stack of thread deep has overflowed");
  const LimitedStacks limits{{.window = 0, .direct = 1}};
  Crew<1> crew;
  REQUIRE(crew.add(
      "deep",
      [](void*) {
        *pointer_to<volatile u32>(thread_stack_top(current_thread()) - kThreadStackBytes) = 0;
        thread_sleep_ms(1);
      },
      nullptr));
  crew.join();
}

KTEST(thread, a_stack_is_used_again) {
  trim_stack_pool();
  u32 calls = 0;
  for (u32 i = 0; i < 20; ++i) {
    Crew<1> crew;
    REQUIRE(crew.add("again", count_up, &calls));
    crew.join();
    REQUIRE_EQ(stack_pool_counts().cached, 1u);
  }
}

}  // namespace paean
