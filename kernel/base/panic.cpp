#include "kernel/panic.hpp"

#include "arch/cpu.hpp"
#include "arch/smp.hpp"
#include "arch/traps.hpp"
#include "arch/tsc.hpp"
#include "lib/assert.hpp"
#include "lib/log.hpp"

namespace paean {

namespace {

constexpr u32 kMaxReports = 4;
constinit PanicAction panic_action = PanicAction::Exit;
constinit u32 reboot_seconds = 0;
using Report = void (*)(Sink& out);
constinit Report reports[kMaxReports] = {};
constinit u32 report_count = 0;
constinit u32 panics = 0;

template <typename... Args>
void say(FormatString<std::type_identity_t<Args>...> format, const Args&... args) {
  const FormatArg packed[] = {FormatArg{args}..., FormatArg{}};
  vformat_to(panic_sink(), format.text, FormatArgs{packed, sizeof...(Args)});
}

/// A panic inside a panic says so once and stops.
void enter_panic() {
  arch::disable_irqs();
  set_log_prefix("");
  arch::stop_other_cpus();
  if (panics++ == 0) return;
  if (panics == 2) print("PANIC: again while reporting\n");
  arch::debug_exit(arch::ExitCode::Panic);
  arch::halt_forever();
}

[[noreturn]] void finish_panic() {
  for (u32 i = 0; i < report_count; ++i) reports[i](panic_sink());
  say("--- end of panic ---\n");
  if (panic_action == PanicAction::Exit) arch::debug_exit(arch::ExitCode::Panic);
  if (panic_action == PanicAction::Reboot) {
    for (u32 i = 0; i < reboot_seconds; ++i) arch::delay_microseconds(1'000'000);
    arch::reboot();
  }
  arch::halt_forever();
}

void print_place(SourceLine where) { say("at {}:{}\n", where.file, where.line); }

}  // namespace

void set_panic_action(PanicAction action, u32 seconds) {
  panic_action = action;
  reboot_seconds = seconds;
}

void add_panic_report(void (*report)(Sink&)) {
  if (report_count < kMaxReports) reports[report_count++] = report;
}

void panic_at(SourceLine where, const char* format, FormatArgs args) {
  enter_panic();
  say("\nPANIC: ");
  vformat_to(panic_sink(), format, args);
  say("\n");
  print_place(where);
  arch::print_backtrace(panic_sink(), reinterpret_cast<u32>(__builtin_return_address(0)),
                        reinterpret_cast<u32>(__builtin_frame_address(0)));
  finish_panic();
}

void assert_failed(SourceLine where, const char* condition) {
  const FormatArg args[] = {FormatArg{condition}};
  panic_at(where, "assertion failed: {}", FormatArgs{args});
}

}  // namespace paean

namespace paean::arch {

void fatal_trap(const TrapFrame& frame, std::string_view what) {
  enter_panic();
  say("\nPANIC: {}\n", what);
  print_frame(panic_sink(), frame);
  finish_panic();
}

}  // namespace paean::arch
