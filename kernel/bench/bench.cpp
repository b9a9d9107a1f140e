// Runs the benchmarks of linker section `kbenches`.
#include "kernel/bench/kbench.hpp"
#include "kernel/console/interpreter.hpp"
#include "kernel/console/line_sink.hpp"
#include "lib/parse.hpp"

// Provided by the linker script; weak, so that a program without any benchmark links too.
extern "C" {
[[gnu::weak]] extern const paean::BenchCase __start_kbenches[];
[[gnu::weak]] extern const paean::BenchCase __stop_kbenches[];
}

namespace paean {

namespace {

const BenchCase* next_bench(const BenchCase* previous) {
  return next_by_name(__start_kbenches, __stop_kbenches, previous);
}

void run_bench(const BenchCase& bench, BenchTotals& totals, Sink& out) {
  BenchContext context{bench.name, bench.options, out};
  bench.body(context);
  if (context.skipped()) {
    ++totals.skipped;
  } else if (context.reports() != 0) {
    ++totals.ran;
  } else {
    ++totals.failed;
    format_to(out, "bench: {} measured nothing\n", bench.name);
  }
}

CommandStatus bench(Args& args, Sink& out) {
  std::string_view selection = args.next().value_or("all");
  if (selection == "list") {
    selection = args.next().value_or("all");
    if (!args.end()) return CommandStatus::Usage;
    for (const BenchCase* bench = next_bench(nullptr); bench != nullptr; bench = next_bench(bench)) {
      if (glob_list_match(selection, bench->name)) format_to(out, "{:<24} {}\n", bench->name, bench->what);
    }
    return CommandStatus::Ok;
  }
  if (!args.end()) return CommandStatus::Usage;
  return run_benches(selection, out).failed == 0 ? CommandStatus::Ok : CommandStatus::Failed;
}

void complete_bench(CommandInterpreter&, std::string_view, Candidates& candidates) {
  candidates.add("all");
  candidates.add("list");
  for (const BenchCase* bench = next_bench(nullptr); bench != nullptr; bench = next_bench(bench))
    candidates.add(bench->name);
}

}  // namespace

void BenchContext::report(BenchValue value, std::string_view unit) {
  write_bench_line(out_, name_, value, unit);
  ++reports_;
}

void BenchContext::report(std::string_view text) {
  format_to(out_, "BENCH {} {}\n", name_, text);
  ++reports_;
}

void BenchContext::skip(const char* why) {
  format_to(out_, "# bench {} skipped: {}\n", name_, why);
  skipped_ = true;
}

std::string_view BenchContext::unit() const {
  return arch::clock_unit() == arch::ClockUnit::Instructions ? "insn/op" : "cycles/op";
}

BenchTotals run_benches(std::string_view selection, Sink& sink) {
  LineSink out{sink};
  BenchTotals totals;
  for (const BenchCase* bench = next_bench(nullptr); bench != nullptr; bench = next_bench(bench)) {
    if (glob_list_match(selection, bench->name)) run_bench(*bench, totals, out);
  }
  if (totals.ran + totals.failed + totals.skipped == 0) {
    out.write("bench: nothing is selected by '");
    write_escaped(out, selection);
    out.write("'; 'bench list' names them all\n");
    totals.failed = 1;
  }
  return totals;
}

KCOMMAND(bench, "[list] [GLOB,...]", "run (or list) the benchmarks; all without a glob", bench,
         .complete = complete_bench)

}  // namespace paean
