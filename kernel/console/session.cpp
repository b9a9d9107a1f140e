#include "kernel/session.hpp"

#include "arch/cpu.hpp"
#include "arch/tsc.hpp"
#include "kernel/bench/kbench.hpp"
#include "kernel/boot_options.hpp"
#include "kernel/console/console.hpp"
#include "kernel/console/line_sink.hpp"
#include "kernel/console_uart.hpp"
#include "kernel/fs/vfs.hpp"
#include "kernel/log_lines.hpp"
#include "kernel/test/selftest.hpp"
#include "mm/zone.hpp"

namespace paean {

namespace {

constinit u64 cost_of_boot = 0;

class SerialInput final : public ByteSource {
 public:
  std::optional<u8> try_read() override { return console_try_read(); }
  void wait() override { console_wait(); }
};
constinit SerialInput serial_input;

void print_banner() {
  const MemoryTotals low = low_totals(), high = high_totals();
  print("\n  Paean: {} MB of memory, {} MB of it low, on a 32-bit CPU ({})\n", (low.total + high.total).mib(),
        low.total.mib(), kBuildFlavour);
  print("  help lists the commands; meminfo, lowmem and map show the memory\n\n");
}

enum class Outcome : u8 { Good, Bad };

Outcome run_requested(const CommandLine& options) {
  Outcome outcome = Outcome::Good;
  LogLines complaints{LogLevel::Warning};
  if (options.has("selftest.seed")) set_test_seed(options.number("selftest.seed", 1, complaints));
  if (options.has("selftest.rounds")) {
    set_race_iterations(options.number("selftest.rounds", kRaceIterations, complaints));
  }
  options.for_each("selftest", [&](std::string_view globs) {
    if (run_selftests(globs, console_sink()).failed != 0) outcome = Outcome::Bad;
  });
  options.for_each("bench", [&](std::string_view globs) {
    if (run_benches(globs, console_sink()).failed != 0) outcome = Outcome::Bad;
  });
  options.for_each("run", [&](std::string_view commands) {
    LineSink lines{console_sink()};
    if (run_command_line(commands, lines) != CommandStatus::Ok) outcome = Outcome::Bad;
  });
  return outcome;
}

}  // namespace

u64 boot_cost() { return cost_of_boot; }

void run_session(const CommandLine& options) {
  print_banner();
  cost_of_boot = arch::read_tsc() - arch::tsc_at_entry();
  const Outcome outcome = run_requested(options);
  if (options.has("exit")) {
    leave_file_systems();
    arch::power_off(outcome == Outcome::Good ? arch::ExitCode::Pass : arch::ExitCode::Fail);
  }
  console_run(serial_input, console_sink());
}

}  // namespace paean
