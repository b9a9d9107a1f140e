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

}  // namespace

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
