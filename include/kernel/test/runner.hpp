// Runs tests and writes KTAP version 1.
//
//   KTAP version 1
//   # seed=1
//   1..3
//   ok 1 buddy.merges
//   # tests/unit/buddy.cpp:40: EXPECT failed: a == b: 3 against 4
//   not ok 2 buddy.counts
//   ok 3 smp.wakes # SKIP one CPU
//   # Totals: pass:1 fail:1 skip:1
//
// Around each test: quiesce, snapshot, body, quiesce, snapshot, compare. A difference fails the test and is named.
// A selection is a comma-separated list: `all`, globs over suite.name, or the name of a suite. Death tests are chosen
// only by their full name. A part of the list that chooses nothing is itself a failed test, so that a typing error can
// never pass.
// Context: one run at a time for each runner; tick() from the timer interrupt. Pure apart from its environment.
#pragma once

#include <array>
#include <atomic>
#include <string_view>

#include "kernel/console/by_name.hpp"
#include "kernel/test/ktest.hpp"

namespace paean {

/// Named counts of what the kernel owns at one moment: free blocks by zone and order, fixmap depth, the ledger.
class TestSnapshot {
 public:
  static constexpr usize kCapacity = 256;  // 4 zones x (orders, totals, owners), per-CPU depths, 128 object caches

  struct Counter {
    const char* owner;  // "zone HighMem"; the text must outlive the snapshot
    const char* what;   // "free blocks of order 3"
    u64 value;
  };

  constexpr TestSnapshot() = default;
  void clear() { count_ = 0; }
  /// Counters must be added in the same order every time. Panics when full: a counter left out is a leak unseen.
  void add(const char* owner, const char* what, u64 value);
  usize count() const { return count_; }
  const Counter& operator[](usize index) const { return counters_[index]; }

 private:
  usize count_ = 0;
  std::array<Counter, kCapacity> counters_{};
};

/// What the tests run in; the kernel's implementation looks at zones, fixmap and ledger.
class TestEnvironment {
 public:
  /// Which of NeedsHighmem and NeedsSmp this machine can satisfy.
  virtual TestFlags offers() = 0;
  /// Drains per-CPU stacks and waits for deferred work, so that counts are exact.
  virtual void quiesce() = 0;
  /// Fills an empty snapshot.
  virtual void take(TestSnapshot& into) = 0;
  /// True if nothing was lost or gained; otherwise writes a line for each difference. The default compares every
  /// counter and names those that differ.
  virtual bool equal(const TestSnapshot& before, const TestSnapshot& after, Sink& difference);

 protected:
  ~TestEnvironment() = default;
};

struct TestTotals {
  u32 passed = 0;
  u32 failed = 0;
  u32 skipped = 0;
};

class TestRunner {
 public:
  static constexpr u32 kPatienceMs = 30'000;
  static constexpr u32 kSlowPatienceMs = 4 * kPatienceMs;

  constexpr TestRunner(const TestCase* begin, const TestCase* end) : begin_(begin), end_(end) {}

  /// Without an environment nothing is compared, and tests that need something special are skipped.
  void set_environment(TestEnvironment* environment) { environment_ = environment; }

  /// Runs what the list selects, in the order of their names. `sink` gets whole lines of KTAP.
  TestTotals run(std::string_view selection, u64 seed, Sink& sink);
  /// Writes the names that the list selects, death tests included, a line each.
  void list(std::string_view selection, Sink& out) const;
  /// Adds passed time; returns the running test if it has had too much. Interrupt context.
  const TestCase* tick(u32 elapsed_ms);

  /// The test that follows by name (nullptr: the first of all); nullptr at the end.
  const TestCase* next(const TestCase* previous) const { return next_by_name(begin_, end_, previous); }

 private:
  enum class Verdict : u8 { Pass, Fail, Skip };

  void run_case(const TestCase& test, u64 seed, Sink& out);
  Verdict run_body(const TestCase& test, TestContext& context, Sink& out);
  /// The first part of the list that selects nothing; empty if there is none.
  std::string_view idle_part(std::string_view selection) const;
  void report_mistake(std::string_view part, Sink& out);
  void count(Verdict verdict);

  const TestCase* begin_;
  const TestCase* end_;
  TestEnvironment* environment_ = nullptr;
  TestTotals totals_{};
  u32 number_ = 0;
  TestSnapshot before_{};
  TestSnapshot after_{};
  std::atomic<const TestCase*> running_ = nullptr;
  std::atomic<u32> elapsed_ms_ = 0;
};

}  // namespace paean
