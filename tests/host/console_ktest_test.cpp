// The kernel's self-tests of its pure parts, run here under the sanitizers by the kernel's own runner.
#include "kernel/test/runner.hpp"

#undef REQUIRE  // doctest has one of its own; no ktest is written here

#include "support.hpp"

extern "C" {
[[gnu::weak]] extern const paean::TestCase __start_ktests[];
[[gnu::weak]] extern const paean::TestCase __stop_ktests[];
}

namespace paean::host {

namespace {

void run_suite(const char* suite, u32 at_least) {
  StringSink output;
  TestRunner runner{__start_ktests, __stop_ktests};
  const TestTotals totals = runner.run(suite, 1, output);
  INFO(output.text());
  CHECK(totals.failed == 0);
  CHECK(totals.skipped == 0);
  CHECK(totals.passed >= at_least);
}

}  // namespace

// The minimum says that the suites were linked at all.
TEST_SUITE("ktest") {
  TEST_CASE("framework") { run_suite("ktest", 10); }
  TEST_CASE("console") { run_suite("console", 8); }
  TEST_CASE("bench") { run_suite("bench", 2); }
}

}  // namespace paean::host
