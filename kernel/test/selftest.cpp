// The runner over linker section `ktests`, its command, and its watchdog.
#include "kernel/test/selftest.hpp"

#include <algorithm>

#include "kernel/console/interpreter.hpp"
#include "lib/log.hpp"

// Provided by the linker script; weak, so that a program without any test links too.
extern "C" {
[[gnu::weak]] extern const paean::TestCase __start_ktests[];
[[gnu::weak]] extern const paean::TestCase __stop_ktests[];
}

namespace paean {

namespace {

constinit TestRunner runner{__start_ktests, __stop_ktests};
constinit u64 seed = 1;
constinit u32 iterations = kRaceIterations;
constinit bool busy = false;

/// Log lines begin with "# " while this lives.
class LogAsDiagnostics {
 public:
  LogAsDiagnostics() { set_log_prefix("# "); }
  ~LogAsDiagnostics() { set_log_prefix(""); }
  LogAsDiagnostics(const LogAsDiagnostics&) = delete;
  LogAsDiagnostics& operator=(const LogAsDiagnostics&) = delete;
};

CommandStatus selftest(Args& args, Sink& out) {
  std::string_view selection = args.next().value_or("all");
  if (selection == "list") {
    selection = args.next().value_or("all");
    if (!args.end()) return CommandStatus::Usage;
    runner.list(selection, out);
    return CommandStatus::Ok;
  }
  if (!args.end()) return CommandStatus::Usage;
  return run_selftests(selection, out).failed == 0 ? CommandStatus::Ok : CommandStatus::Failed;
}

void complete_selftest(CommandInterpreter&, std::string_view, Candidates& candidates) {
  candidates.add("all");
  candidates.add("list");
  for (const TestCase* test = runner.next(nullptr); test != nullptr; test = runner.next(test))
    candidates.add(test->name);
}

}  // namespace

void set_test_environment(TestEnvironment& environment) { runner.set_environment(&environment); }

void set_test_seed(u64 value) { seed = value; }

void set_race_iterations(u64 value) { iterations = static_cast<u32>(std::clamp<u64>(value, 1000, kRaceIterations)); }

u32 race_iterations() { return iterations; }

TestTotals run_selftests(std::string_view selection, Sink& out) {
  if (busy) {
    out.write("# selftest: already running; a test cannot run the tests\n");
    return {.failed = 1};
  }
  busy = true;
  const LogAsDiagnostics prefix;
  const TestTotals totals = runner.run(selection, seed, out);
  busy = false;
  return totals;
}

void test_watchdog_tick(u32 elapsed_ms) {
  const TestCase* overdue = runner.tick(elapsed_ms);
  if (overdue != nullptr) panic("selftest {} takes too long", overdue->name);
}

KCOMMAND(selftest, "[list] [GLOB,...]", "run (or list) the kernel's tests; all without a glob", selftest,
         .complete = complete_selftest)

}  // namespace paean
