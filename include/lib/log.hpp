// What the kernel says. Every line goes into a ring (read back by `dmesg`) and, if its level is low enough, to the
// console sinks. Lines carry the time since entry: `[    0.012345] text`.
//
// log() is for lines, print() for what a command or a test shows (no time, no level, not in the ring).
// Context: any, interrupts included; never allocates; a line longer than 256 bytes is cut.
// Implemented by kernel/base/log.cpp.
#pragma once

#include "lib/format.hpp"

namespace paean {

enum class LogLevel : u8 { Emergency, Alert, Critical, Error, Warning, Notice, Info, Debug };

/// One complete line, without its newline.
void vlog(LogLevel level, std::string_view format, FormatArgs args);

template <typename... Args>
void log(LogLevel level, FormatString<std::type_identity_t<Args>...> format, const Args&... args) {
  const FormatArg packed[] = {FormatArg{args}..., FormatArg{}};
  vlog(level, format.text, FormatArgs{packed, sizeof...(Args)});
}

template <typename... Args>
void log_info(FormatString<std::type_identity_t<Args>...> format, const Args&... args) {
  const FormatArg packed[] = {FormatArg{args}..., FormatArg{}};
  vlog(LogLevel::Info, format.text, FormatArgs{packed, sizeof...(Args)});
}

template <typename... Args>
void log_warning(FormatString<std::type_identity_t<Args>...> format, const Args&... args) {
  const FormatArg packed[] = {FormatArg{args}..., FormatArg{}};
  vlog(LogLevel::Warning, format.text, FormatArgs{packed, sizeof...(Args)});
}

/// Raw text to every console sink. Newlines become CR LF where the device needs it. What one call writes stays
/// together: no log line comes between, so that whole lines are best written in one (kernel/console/line_sink.hpp).
Sink& console_sink();
/// The same for who ends the kernel, without a lock: it may be one of a CPU that has been stopped.
Sink& panic_sink();

template <typename... Args>
void print(FormatString<std::type_identity_t<Args>...> format, const Args&... args) {
  const FormatArg packed[] = {FormatArg{args}..., FormatArg{}};
  vformat_to(console_sink(), format.text, FormatArgs{packed, sizeof...(Args)});
}

/// Lines with a level above this stay in the ring only (`loglevel=`, `quiet`). Default Info.
void set_console_loglevel(LogLevel level);

/// While set, every log line on the console begins with this (the self-test runner uses "# "). A string literal.
void set_log_prefix(const char* prefix);

/// Adds a device that shows log lines and print() text. At most four; `sink` lives for ever.
void add_console_sink(Sink& sink);

/// Copies the ring, oldest line first.
void dump_log(Sink& out);

}  // namespace paean
