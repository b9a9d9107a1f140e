#include "kernel/test/runner.hpp"

#include <algorithm>

#include "kernel/console/line_sink.hpp"
#include "kernel/console/text.hpp"
#include "lib/parse.hpp"

namespace paean {

namespace {

/// Puts "# " before every line, so that no text can be taken for a verdict.
class DiagnosticSink final : public Sink {
 public:
  explicit DiagnosticSink(Sink& out) : out_(out) {}

  void write(std::string_view text) override {
    while (!text.empty()) {
      if (at_line_start_) out_.write("# ");
      const usize end = find_byte(text, '\n');
      at_line_start_ = end != text.size();
      const usize length = at_line_start_ ? end + 1 : end;
      out_.write(head(text, length));
      text.remove_prefix(length);
    }
  }

 private:
  Sink& out_;
  bool at_line_start_ = true;
};

/// Takes the part of a selection up to the next comma.
std::string_view take_part(std::string_view& selection) {
  const usize end = find_byte(selection, ',');
  const std::string_view part = trim(head(selection, end));
  selection.remove_prefix(std::min(end + 1, selection.size()));
  return part;
}

bool part_names(std::string_view part, std::string_view name) {
  const bool is_suite = name.starts_with(part) && tail(name, part.size()).starts_with('.');
  return is_suite || glob_list_match(part, name);
}

bool is_death(const TestCase& test) { return test.options.flags.has(TestFlag::Death); }

bool part_selects(std::string_view part, const TestCase& test) {
  const bool by_name = is_death(test) || test.options.flags.has(TestFlag::ByName);
  return by_name ? part == test.name : part_names(part, test.name);
}

bool selection_has(std::string_view selection, const TestCase& test) {
  while (!selection.empty()) {
    if (part_selects(take_part(selection), test)) return true;
  }
  return false;
}

}  // namespace

void TestSnapshot::add(const char* owner, const char* what, u64 value) {
  ASSERT(count_ < kCapacity);
  counters_[count_++] = Counter{owner, what, value};
}

bool TestEnvironment::equal(const TestSnapshot& before, const TestSnapshot& after, Sink& difference) {
  if (before.count() != after.count()) {
    format_to(difference, "{} counters before, {} after\n", before.count(), after.count());
    return false;
  }
  bool same = true;
  for (usize i = 0; i < before.count(); ++i) {
    if (before[i].value == after[i].value) continue;
    same = false;
    format_to(difference, "not given back: {}, {}: {} before, {} after\n", before[i].owner, before[i].what,
              before[i].value, after[i].value);
  }
  return same;
}

const TestCase* TestRunner::tick(u32 elapsed_ms) {
  const TestCase* test = running_;
  if (test == nullptr) return nullptr;
  // Only the timer writes while a test runs, so two steps are enough.
  const u32 elapsed = elapsed_ms_ + elapsed_ms;
  elapsed_ms_ = elapsed;
  return elapsed >= (test->options.flags.has(TestFlag::Slow) ? kSlowPatienceMs : kPatienceMs) ? test : nullptr;
}

void TestRunner::list(std::string_view selection, Sink& out) const {
  for (const TestCase* test = next(nullptr); test != nullptr; test = next(test)) {
    bool named = false;
    for (std::string_view parts = selection; !parts.empty();) named |= part_names(take_part(parts), test->name);
    if (named)
      format_to(out, "{}{}\n", test->name,
                is_death(*test)                             ? "  (death)"
                : test->options.flags.has(TestFlag::ByName) ? "  (by name)"
                                                            : "");
  }
}

std::string_view TestRunner::idle_part(std::string_view selection) const {
  while (!selection.empty()) {
    const std::string_view part = take_part(selection);
    const bool idle = std::none_of(begin_, end_, [=](const TestCase& test) { return part_selects(part, test); });
    if (idle && !part.empty()) return part;
  }
  return {};
}

TestTotals TestRunner::run(std::string_view selection, u64 seed, Sink& sink) {
  LineSink out{sink};
  totals_ = {};
  number_ = 0;
  u32 planned = 0;
  for (const TestCase* test = begin_; test != end_; ++test) planned += selection_has(selection, *test) ? 1 : 0;
  const std::string_view idle = idle_part(selection);
  const bool mistaken = planned == 0 || !idle.empty();
  format_to(out, "KTAP version 1\n# seed={}\n1..{}\n", seed, mistaken ? planned + 1 : planned);
  for (const TestCase* test = next(nullptr); test != nullptr; test = next(test)) {
    if (selection_has(selection, *test)) run_case(*test, seed, out);
  }
  if (mistaken) report_mistake(idle, out);
  format_to(out, "# Totals: pass:{} fail:{} skip:{}\n", totals_.passed, totals_.failed, totals_.skipped);
  return totals_;
}

void TestRunner::report_mistake(std::string_view part, Sink& out) {
  out.write("# no test is selected by '");
  write_escaped(out, part);
  out.write("'; `selftest list` shows the names; death tests are selected only by their full name\n");
  ++totals_.failed;
  format_to(out, "not ok {} selftest.selection\n", ++number_);
}

void TestRunner::run_case(const TestCase& test, u64 seed, Sink& out) {
  TestContext context{test, seed, out};
  const TestFlags offers = environment_ != nullptr ? environment_->offers() : TestFlags{};
  if (test.options.flags.has(TestFlag::NeedsHighmem) && !offers.has(TestFlag::NeedsHighmem)) {
    context.skip("this machine has no highmem");
  } else if (test.options.flags.has(TestFlag::NeedsSmp) && !offers.has(TestFlag::NeedsSmp)) {
    context.skip("this machine runs on one CPU");
  }
  const Verdict verdict = context.skip_reason() != nullptr ? Verdict::Skip : run_body(test, context, out);
  format_to(out, "{} {} {}", verdict == Verdict::Fail ? "not ok" : "ok", ++number_, test.name);
  if (verdict == Verdict::Skip) format_to(out, " # SKIP {}", context.skip_reason());
  out.write("\n");
  count(verdict);
}

TestRunner::Verdict TestRunner::run_body(const TestCase& test, TestContext& context, Sink& out) {
  if (environment_ != nullptr) {
    environment_->quiesce();
    before_.clear();
    environment_->take(before_);
  }
  elapsed_ms_ = 0;
  running_ = &test;
  test.body(context);
  running_ = nullptr;
  bool passed = context.failures() == 0;
  if (context.panic_expected()) {
    context.note("the expected panic did not come");
    passed = false;
  }
  if (environment_ != nullptr) {
    environment_->quiesce();
    after_.clear();
    environment_->take(after_);
    DiagnosticSink difference{out};
    if (!environment_->equal(before_, after_, difference)) passed = false;
  }
  if (!passed) return Verdict::Fail;
  return context.skip_reason() != nullptr ? Verdict::Skip : Verdict::Pass;
}

void TestRunner::count(Verdict verdict) {
  switch (verdict) {
    case Verdict::Pass: ++totals_.passed; break;
    case Verdict::Fail: ++totals_.failed; break;
    case Verdict::Skip: ++totals_.skipped; break;
  }
}

}  // namespace paean
