#include "kernel/boot_options.hpp"

#include "arch/boot_info.hpp"
#include "kernel/console_uart.hpp"
#include "kernel/log_lines.hpp"
#include "kernel/panic.hpp"

namespace paean {

namespace {

constexpr u32 kMaxBaud = 115200;

/// The value may hold any bytes.
void complain(Sink& complaints, std::string_view name, std::string_view value, std::string_view what) {
  format_to(complaints, "cmdline: {}=", name);
  write_escaped(complaints, value);
  format_to(complaints, " {}\n", what);
}

/// `ttyS0` or `ttyS0,9600`; the port is COM1 in any case.
void apply_console(const CommandLine& options, Sink& complaints) {
  const auto value = options.get("console");
  if (!value) return;
  std::string_view text = *value;
  constexpr std::string_view kPort = "ttyS0";
  if (!text.starts_with(kPort)) {
    return complain(complaints, "console", text, "is not ttyS0[,baud], using ttyS0,115200");
  }
  text.remove_prefix(kPort.size());
  if (text.empty()) return;
  const bool comma = text.front() == ',';
  text.remove_prefix(1);
  const auto baud = comma ? take_number(text) : std::nullopt;  // Linux writes 115200n8: what follows is ours anyway
  if (!baud || *baud < 50 || *baud > kMaxBaud) {
    return complain(complaints, "console", *value, "names no speed that COM1 has, using 115200");
  }
  set_console_baud(static_cast<u32>(*baud));
}

void apply_panic(const CommandLine& options, Sink& complaints) {
  const auto value = options.get("panic");
  if (!value || *value == "exit") return;
  const auto seconds = parse_number(*value);
  if (!seconds) return complain(complaints, "panic", *value, "is not 0, a number or exit, using exit");
  if (*seconds == 0) return set_panic_action(PanicAction::Halt);
  constexpr u64 kHour = 3600;
  set_panic_action(PanicAction::Reboot, static_cast<u32>(*seconds < kHour ? *seconds : kHour));
}

void apply_loglevel(const CommandLine& options, Sink& complaints) {
  if (options.has("quiet")) set_console_loglevel(LogLevel::Warning);
  if (!options.has("loglevel")) return;
  const u64 level = options.number_in("loglevel", 0, 8, 6, complaints);
  // As on Linux, the number is the first level that stays off the console.
  set_console_loglevel(static_cast<LogLevel>(level == 0 ? 0 : level - 1));
}

}  // namespace

CommandLine read_boot_options() {
  const arch::BootInfo& info = arch::boot_info;
  const CommandLine options{std::string_view{info.cmdline, info.cmdline_length}};
  LogLines complaints{LogLevel::Warning};
  apply_loglevel(options, complaints);
  apply_console(options, complaints);
  apply_panic(options, complaints);
  return options;
}

void report_option_mistakes(const CommandLine& options) {
  const arch::BootInfo& info = arch::boot_info;
  LogLines complaints{LogLevel::Warning};
  if (info.magic != arch::kMultibootMagic) format_to(complaints, "not started by a Multiboot loader: no information\n");
  if (info.cmdline_cut != 0) {
    format_to(complaints, "the command line is longer than {} bytes, the rest is ignored\n", arch::kMaxCommandLine);
  }
  if (info.modules_given > info.module_count) {
    format_to(complaints, "{} boot modules, only the first {} are kept\n", info.modules_given, info.module_count);
  }
  options.report_unknown(complaints);
}

}  // namespace paean
