// The test framework, tested by itself: private runners over cases that fail, leak, skip and refuse to die.
// Also compiled into the host tests.
#include <algorithm>
#include <array>

#include "kernel/test/runner.hpp"

extern "C" {
[[gnu::weak]] extern const paean::TestCase __start_ktests[];
[[gnu::weak]] extern const paean::TestCase __stop_ktests[];
}

namespace paean {

namespace {

/// A machine of one counter.
class FakeEnvironment final : public TestEnvironment {
 public:
  TestFlags offers() override { return offered; }
  void quiesce() override { ++quiesced; }
  void take(TestSnapshot& into) override {
    into.add("zone Fake", "constant", 7);
    into.add("zone Fake", "free pages", free_pages);
  }

  TestFlags offered{};
  u32 quiesced = 0;
  u64 free_pages = 100;
};

constinit FakeEnvironment environment;

void passing(TestContext& test) { EXPECT_EQ(test.name(), "demo.passes"); }

void failing(TestContext& test) {
  EXPECT(1 + 1 == 3);
  EXPECT_EQ(u64{1} << 40, -1);
  REQUIRE_EQ("left", std::string_view{"right"});
  environment.free_pages = 0;  // not reached
}

void leaking(TestContext&) { environment.free_pages -= 3; }

void skipping(TestContext& test) { SKIP("no such device"); }

void skipping_too_late(TestContext& test) {
  EXPECT(false);
  SKIP("after a failure");
}

void immortal(TestContext& test) { KTEST_EXPECT_PANIC("never"); }

void noisy(TestContext& test) {
  for (u32 i = 0; i < 1000; ++i) EXPECT_EQ(i, 1000);
}

constexpr TestCase kCases[] = {
    {"demo.passes", passing},
    {"demo.fails", failing},
    {"demo.leaks", leaking},
    {"demo.skips", skipping},
    {"demo.skips_too_late", skipping_too_late},
    {"other.highmem", passing, {.flags = TestFlag::NeedsHighmem}},
    {"other.smp", passing, {.flags = TestFlag::NeedsSmp}},
    {"other.noisy", noisy},
    {"death.immortal", immortal, {.flags = TestFlag::Death}},
};

constinit TestRunner runner{std::begin(kCases), std::end(kCases)};
constinit std::array<char, 4096> buffer{};

/// What a run over the private cases writes; `totals` and `environment` can be looked at afterwards.
std::string_view output_of(std::string_view selection, TestTotals& totals) {
  environment = FakeEnvironment{};
  runner.set_environment(&environment);
  BufferSink sink{buffer};
  totals = runner.run(selection, 5, sink);
  return sink.view();
}

bool contains(std::string_view text, std::string_view part) {
  return std::search(text.begin(), text.end(), part.begin(), part.end()) != text.end();
}

}  // namespace

KTEST(ktest, pass_is_reported) {
  TestTotals totals;
  EXPECT_EQ(output_of("demo.passes", totals),
            "KTAP version 1\n# seed=5\n1..1\nok 1 demo.passes\n# Totals: pass:1 fail:0 skip:0\n");
  EXPECT_EQ(totals.passed, 1);
  EXPECT_EQ(environment.quiesced, 2);
}

KTEST(ktest, failure_shows_values) {
  TestTotals totals;
  const std::string_view output = output_of("demo.fails", totals);
  EXPECT(contains(output, "failed: 1 + 1 == 3\n"));
  EXPECT(contains(output, ": 1099511627776 against -1\n"));
  EXPECT(contains(output, ": left against right\n"));
  EXPECT(contains(output, "\nnot ok 1 demo.fails\n# Totals: pass:0 fail:1 skip:0\n"));
  EXPECT_EQ(environment.free_pages, 100);
}

KTEST(ktest, leak_fails_and_names_the_owner) {
  TestTotals totals;
  const std::string_view output = output_of("demo.leaks", totals);
  EXPECT(contains(output, "\n# not given back: zone Fake, free pages: 100 before, 97 after\nnot ok 1 demo.leaks\n"));
  EXPECT(!contains(output, "constant"));
  EXPECT_EQ(totals.failed, 1);
}

KTEST(ktest, skip_is_not_a_pass) {
  TestTotals totals;
  EXPECT(contains(output_of("demo.skips", totals), "\nok 1 demo.skips # SKIP no such device\n"));
  EXPECT_EQ(totals.skipped, 1);
  EXPECT_EQ(totals.passed, 0);
}

KTEST(ktest, skip_does_not_hide_a_failure) {
  TestTotals totals;
  EXPECT(contains(output_of("demo.skips_too_late", totals), "\nnot ok 1 demo.skips_too_late\n"));
}

KTEST(ktest, machine_without_feature_skips) {
  TestTotals totals;
  EXPECT(contains(output_of("other.highmem,other.smp", totals), "# SKIP this machine runs on one CPU\n"));
  EXPECT_EQ(totals.skipped, 2);
}

KTEST(ktest, plan_counts_the_results) {
  TestTotals totals;
  const std::string_view output = output_of("all", totals);
  EXPECT(contains(output, "\n1..8\n"));
  EXPECT(contains(output, "\nnot ok 7 other.noisy\n"));
  EXPECT_EQ(totals.passed + totals.failed + totals.skipped, 8);
  EXPECT(!contains(output, "immortal"));
}

KTEST(ktest, suite_and_globs_select) {
  TestTotals totals;
  EXPECT(contains(output_of("other", totals), "\n1..3\n"));
  EXPECT(contains(output_of("demo.skip*, demo.passes", totals), "\n1..3\n"));
  EXPECT(contains(output_of("*.*s", totals), "\n1..4\n"));
}

KTEST(ktest, mistaken_selection_fails) {
  TestTotals totals;
  const std::string_view output = output_of("demo.passes,demo.pases\x1b", totals);
  EXPECT(contains(output, "\n1..2\n"));
  EXPECT(contains(output, "\n# no test is selected by 'demo.pases\\x1b'"));
  EXPECT(contains(output, "\nnot ok 2 selftest.selection\n"));
  EXPECT_EQ(totals.failed, 1);
  EXPECT(contains(output_of("", totals), "\n1..1\n"));
  EXPECT_EQ(totals.failed, 1);
  EXPECT(contains(output_of(" , ", totals), "\nnot ok 1 selftest.selection\n"));
}

KTEST(ktest, death_needs_its_full_name) {
  TestTotals totals;
  EXPECT(contains(output_of("death.*", totals), "\nnot ok 1 selftest.selection\n"));
  EXPECT(contains(output_of("death", totals), "\nnot ok 1 selftest.selection\n"));
  const std::string_view output = output_of("death.immortal", totals);
  EXPECT(contains(output, "\n# expect: never\n"));
  EXPECT(contains(output, "\n# the expected panic did not come\nnot ok 1 death.immortal\n"));
}

KTEST(ktest, repeated_failures_are_cut) {
  TestTotals totals;
  const std::string_view output = output_of("other.noisy", totals);
  EXPECT(contains(output, ": 15 against 1000\n# further failures of this test are not shown\nnot ok 1"));
}

KTEST(ktest, list_names_death_tests) {
  BufferSink sink{buffer};
  runner.list("death,demo.passes", sink);
  EXPECT_EQ(sink.view(), "death.immortal  (death)\ndemo.passes\n");
}

namespace {

constinit TestRunner* watched = nullptr;

void waiting(TestContext& test) {
  EXPECT(watched->tick(TestRunner::kPatienceMs - 1) == nullptr);
  const TestCase* overdue = watched->tick(1);
  REQUIRE(overdue != nullptr);
  EXPECT_EQ(overdue->name, "demo.waits");
}

void waiting_longer(TestContext& test) {
  EXPECT(watched->tick(TestRunner::kSlowPatienceMs - 1) == nullptr);
  EXPECT(watched->tick(1) != nullptr);
}

constexpr TestCase kWatchedCases[] = {
    {"demo.waits", waiting},
    {"demo.waits_longer", waiting_longer, {.flags = TestFlag::Slow}},
};

}  // namespace

KTEST(ktest, watchdog_knows_the_test) {
  static constinit TestRunner watching{std::begin(kWatchedCases), std::end(kWatchedCases)};
  watched = &watching;
  BufferSink sink{buffer};
  const TestTotals totals = watching.run("all", 1, sink);
  EXPECT_EQ(totals.passed, 2);
  EXPECT(watching.tick(2 * TestRunner::kSlowPatienceMs) == nullptr);
}

KTEST(ktest, random_repeats) {
  TestRandom first{9, "suite.name"};
  TestRandom again{9, "suite.name"};
  TestRandom other_seed{10, "suite.name"};
  TestRandom other_name{9, "suite.names"};
  u32 same_by_chance = 0;
  for (u32 i = 0; i < 100; ++i) {
    const u32 number = first.next();
    EXPECT_EQ(number, again.next());
    if (number == other_seed.next()) ++same_by_chance;
    if (number == other_name.next()) ++same_by_chance;
    EXPECT(first.below(7) < 7);
    again.below(7);
  }
  EXPECT(same_by_chance < 3);
}

KTEST(ktest, equality_is_by_value) {
  EXPECT(test_equal(u32{5}, u64{5}));
  EXPECT(!test_equal(~u32{0}, -1));
  EXPECT(test_equal("text", std::string_view{"text"}));
  EXPECT(test_equal(PhysAddr{4096}, to_phys(Pfn{1})));
}

KTEST(ktest, names_are_unique) {
  for (const TestCase* one = __start_ktests; one != __stop_ktests; ++one) {
    const auto same_name = [one](const TestCase& other) { return std::string_view{one->name} == other.name; };
    const bool repeated = std::any_of(one + 1, __stop_ktests, same_name);
    EXPECT(!repeated);
    if (repeated) test.note("{} stands twice", one->name);
  }
}

}  // namespace paean
