// What must hold while two CPUs work on the same thing; each with a twin that must be seen to fail.
#include "kernel/test/race.hpp"

#include "access.hpp"
#include "kernel/spinlock.hpp"

namespace paean {

namespace {

using namespace arch::pte_bits;
using arch::PteValue;

// Every half differs, so that any mixture is neither of them.
constexpr PteValue kOne{0x8000'0001'1234'5001ull}, kOther{0x0000'0002'6789'a003ull};

/// Two 32-bit stores, as plain C++ would do it.
void store_in_two_halves(arch::Entry& entry, PteValue value) {
  auto* halves = pointer_to<volatile u32>(address_of(&entry));
  halves[1] = static_cast<u32>(bits(value) >> 32);
  halves[0] = static_cast<u32>(bits(value));
}

/// A pool of 32 things whose bits are changed without any care. Lost updates empty it in the end: then it starts anew.
struct CarelessPool {
  volatile u32 free = ~0u;
  u32 take() {
    u32 now = free;
    if (now == 0) now = ~0u;
    free = now & (now - 1);
    return now & -now;
  }
  void give(u32 bit) { free = free | bit; }
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
void pass_one_page(HeldByTwo& pair, u32 me, Page*& post) {
  const Result<Page*> page = alloc_page(AllocFlags::HighUser, Owner::Test);
  if (!page) return;
  pair.take(me, number(page_to_pfn(*page)));
  pair.give(me);
  Page* const old = __atomic_exchange_n(&post, *page, __ATOMIC_ACQ_REL);
  if (old != nullptr) free_page(old);
}

}  // namespace

KTEST(race, no_page_has_two_owners, .flags = TestFlag::NeedsSmp | TestFlag::Slow) {
  race_verdict(test, [&](RaceVariant variant, u32 first_cpu) {
    HeldByTwo pair;
    CarelessPool pool;
    Page* post = nullptr;
    const auto use = [&](u32 me) {
      if (variant == RaceVariant::Right) return pass_one_page(pair, me, post);
      const u32 bit = pool.take();
      pair.take(me, bit);
      pair.give(me);
      pool.give(bit);
    };
    EXPECT(run_race(test.random(), first_cpu, kRaceIterations, [&](u32) { use(0); }, [&](u32) { use(1); }));
    if (post != nullptr) free_page(post);
    return pair.twice[0] + pair.twice[1];
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
        store_in_two_halves(entry, value);
    };
    const auto read = [&](u32) {
      const PteValue seen = entry.load();
      if (seen != kOne && seen != kOther) ++torn;
    };
    EXPECT(run_race(test.random(), first_cpu, kRaceIterations, write, read));
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
    EXPECT(run_race(test.random(), first_cpu, kRaceIterations, count, count));
    return 2 * kRaceIterations - counter;
  });
}

}  // namespace paean
