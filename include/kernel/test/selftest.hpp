// The kernel's own tests: every KTEST in the image, run by `selftest=` or by the `selftest` command.
#pragma once

#include <string_view>

#include "kernel/test/runner.hpp"

namespace paean {

/// What the runner compares around each test. Call once, when zones and ledger are up. Boot context.
void set_test_environment(TestEnvironment& environment);

/// The seed that runs use unless they are given one (`selftest.seed=`). 1 at boot.
void set_test_seed(u64 seed);

/// How often each side of a race does its work (`selftest.rounds=`), kRaceIterations at boot. Fewer are for runs that
/// repeat the tests under another setting; 1000 at least.
inline constexpr u32 kRaceIterations = 1'000'000;
void set_race_iterations(u64 iterations);
u32 race_iterations();

/// Runs the selected tests; log lines of the kernel carry `# ` meanwhile. One run at a time: a second one from within a
/// test is a failure with a line that says so.
TestTotals run_selftests(std::string_view selection, Sink& out);

/// From the timer interrupt, with the time since the last call. Panics with the test's name when it takes too long.
void test_watchdog_tick(u32 elapsed_ms);

}  // namespace paean
