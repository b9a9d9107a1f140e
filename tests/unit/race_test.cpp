// What must hold while two CPUs work on the same thing; each with a twin that must be seen to fail.
#include "kernel/test/race.hpp"

#include "access.hpp"
#include "kernel/spinlock.hpp"
#include "mm/page_stacks.hpp"

namespace paean {

namespace {

using namespace arch::pte_bits;
using arch::PteValue;

// Every half differs, so that any mixture is neither of them.
constexpr PteValue kOne{0x8000'0001'1234'5001ull}, kOther{0x0000'0002'6789'a003ull};

/// The wrong way round: the entry is present before its high half is there.
struct LowHalfFirst {
  static void store(volatile u32& low, volatile u32& high, u32 new_low, u32 new_high) {
    low = new_low;
    for (u32 pause = 0; pause < 16; ++pause) asm volatile("");  // two neighbouring stores are hardly ever seen apart
    high = new_high;
  }
};

/// Where pages come from and go to.
struct Allocator {
  static Page* take() { return alloc_page(AllocFlags::HighUser, Owner::Test).value_or(nullptr); }
  static void give(Page* page) { free_page(page); }
};

/// One of the allocator's stacks that two CPUs take for their own. What they lose empties it in the end: then it starts
/// anew with all its pages.
class StackOfTwo {
 public:
  StackOfTwo() {
    while (all_ < kPages) {
      Page* const page = Allocator::take();
      if (page == nullptr) break;
      pages_[all_++] = page;
    }
    fill();
  }
  ~StackOfTwo() {
    for (u32 i = 0; i < all_; ++i) Allocator::give(pages_[i]);
  }
  StackOfTwo(const StackOfTwo&) = delete;
  StackOfTwo& operator=(const StackOfTwo&) = delete;

  Page* take() {
    const u32 left = stack_.count - 1;
    if (static_cast<i32>(left) < 0) {
      fill();
      return nullptr;
    }
    stack_.count = left;
    return stack_.blocks[left];
  }
  void give(Page* page) {
    const u32 count = stack_.count;
    if (count < kPages) push(page, count);
  }

 private:
  static constexpr u32 kPages = 32;
  void push(Page* page, u32 place) {
    stack_.blocks[place] = page;
    stack_.count = place + 1;
  }
  void fill() {
    for (u32 i = 0; i < all_; ++i) push(pages_[i], i);
  }
  Page* pages_[kPages]{};
  u32 all_ = 0;
  ZoneStacks::Singles stack_;
};

/// What two CPUs hold at this moment. If both get the same, at least one of them sees it: each writes, then reads.
struct HeldByTwo {
  u32 held[2]{};
  u32 twice[2]{};
  void take(u32 me, u32 what) {
    __atomic_store_n(&held[me], what, __ATOMIC_SEQ_CST);
    if (what != 0 && __atomic_load_n(&held[1 - me], __ATOMIC_SEQ_CST) == what) ++twice[me];
  }
  void give(u32 me) {
    const u32 mine = held[me];
    for (u32 pause = 0; pause < 32; ++pause) asm volatile("");
    if (mine != 0 && __atomic_load_n(&held[1 - me], __ATOMIC_SEQ_CST) == mine) ++twice[me];
    __atomic_store_n(&held[me], 0, __ATOMIC_SEQ_CST);
  }
};

/// Takes a page and hands it to the other CPU by way of `post`; what lay there is freed here.
template <typename Pages>
void pass_one_page(Pages& pages, HeldByTwo& pair, u32 me, Page*& post) {
  Page* const page = pages.take();
  if (page == nullptr) return;
  pair.take(me, number(page_to_pfn(page)));
  pair.give(me);
  Page* const old = __atomic_exchange_n(&post, page, __ATOMIC_ACQ_REL);
  if (old != nullptr) pages.give(old);
}

/// How often both CPUs had the same page.
template <typename Pages>
u32 race_for_pages(TestContext& test, Pages& pages, u32 first_cpu) {
  HeldByTwo pair;
  Page* post = nullptr;
  const auto use = [&](u32 me) { pass_one_page(pages, pair, me, post); };
  EXPECT(run_race(test.random(), first_cpu, race_iterations(), [&](u32) { use(0); }, [&](u32) { use(1); }));
  if (post != nullptr) pages.give(post);
  return pair.twice[0] + pair.twice[1];
}

}  // namespace

KTEST(race, no_page_has_two_owners, .flags = TestFlag::NeedsSmp | TestFlag::Slow) {
  race_verdict(test, [&](RaceVariant variant, u32 first_cpu) {
    Allocator allocator;
    if (variant == RaceVariant::Right) return race_for_pages(test, allocator, first_cpu);
    StackOfTwo stack;
    return race_for_pages(test, stack, first_cpu);
  });
}

KTEST(race, entries_are_never_torn, .flags = TestFlag::NeedsSmp | TestFlag::Slow) {
  race_verdict(test, [&](RaceVariant variant, u32 first_cpu) {
    arch::Entry entry;
    entry.set(kOne);
    u32 torn = 0;
    const auto write = [&](u32 i) {
      const PteValue value = i % 2 == 0 ? kOther : kOne;
      if (variant == RaceVariant::Right)
        (void)entry.exchange(value);
      else
        entry.set(value);  // as if it were not present
    };
    const auto read = [&](u32) {
      const PteValue seen = entry.load();
      if (seen != kOne && seen != kOther) ++torn;
    };
    // Ten million reads in all: a torn one has come as rarely as once in a million.
    const u32 reads = variant == RaceVariant::Right ? 5 * race_iterations() : race_iterations();
    EXPECT(run_race(test.random(), first_cpu, reads, write, read));
    return torn;
  });
}

KTEST(race, entries_come_and_go_whole, .flags = TestFlag::NeedsSmp | TestFlag::Slow) {
  race_verdict(test, [&](RaceVariant variant, u32 first_cpu) {
    arch::Entry entry;
    u32 torn = 0, present = 0;
    const auto write = [&](u32 i) {
      const PteValue value = i % 2 == 0 ? kOther : kOne;
      if (variant == RaceVariant::Right)
        entry.set(value);
      else
        entry.set<LowHalfFirst>(value);
      for (u32 pause = 0; pause < 16; ++pause) asm volatile("");
      entry.clear();
    };
    const auto read = [&](u32) {
      const PteValue seen = entry.load();
      if (!seen.present()) return;
      ++present;
      if (seen != kOne && seen != kOther) ++torn;
    };
    EXPECT(run_race_until(test, first_cpu, write, read, [&] { return present >= 100; }));
    return torn;
  });
}

KTEST(race, a_spin_lock_loses_no_update, .flags = TestFlag::NeedsSmp | TestFlag::Slow) {
  race_verdict(test, [&](RaceVariant variant, u32 first_cpu) {
    SpinLock lock{LockRank::Test};
    volatile u32 counter = 0;
    const auto count = [&](u32) {
      if (variant == RaceVariant::Right) {
        const SpinGuard<NoIrq> guard{lock};
        counter = counter + 1;
      } else {
        counter = counter + 1;
      }
    };
    EXPECT(run_race(test.random(), first_cpu, race_iterations(), count, count));
    return 2 * race_iterations() - counter;
  });
}

}  // namespace paean
