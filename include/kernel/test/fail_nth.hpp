// Runs an operation again and again, letting its first passage through a fault site fail, then its second, and so on,
// until it comes through without having met a failure; then the same with all passages from the n-th on failing.
//
//   fail_nth(test, "thread", [] -> Result<> { ... give back what was taken ... });
//
// Each time the operation must either succeed or return an error, and must leave the ledger as it was. It gives back
// itself what it takes, also on its ways out: that is what is tested.
// Context: a test. Deferred work (stacks kept for the next thread, say) is settled by `settle`, which runs without
// failures after each round.
#pragma once

#include "kernel/fault.hpp"
#include "kernel/test/ktest.hpp"
#include "lib/result.hpp"

namespace paean {

/// Pages that each zone's owners hold.
class LedgerMark {
 public:
  LedgerMark();
  bool operator==(const LedgerMark&) const = default;

 private:
  u32 pages_[4];
};

/// Gives back what is kept for later, so that the ledger is exact.
void settle_memory();

inline constexpr u32 kMostPassages = 2000;  // an operation that still meets failures then never ends

/// Returns how many failures were met.
template <typename Operation>
u32 fail_nth(TestContext& test, const char* name, Operation operation) {
  u32 met = 0;
  settle_memory();
  const LedgerMark before;
  for (const FaultMode mode : {FaultMode::Once, FaultMode::FromThenOn}) {
    for (u32 n = 1; n <= kMostPassages; ++n) {
      bool fired = false, good = false;
      {
        const FaultPlan plan{n, mode};
        good = operation().has_value();
        fired = plan.fired();
      }
      settle_memory();
      if (!(before == LedgerMark{})) {
        test.note("{}: failure {}{} leaks", name, n, mode == FaultMode::FromThenOn ? " and all after" : "");
        EXPECT(before == LedgerMark{});
        return met;
      }
      if (!fired) {
        if (!good) test.note("{}: fails without a failure", name);
        EXPECT(good);
        break;
      }
      ++met;
      EXPECT(n != kMostPassages);
    }
  }
  return met;
}

}  // namespace paean
