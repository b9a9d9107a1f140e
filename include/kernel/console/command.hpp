// Console commands that register themselves.
//
//   static CommandStatus vtop(Args& args, Sink& out) {
//     const auto address = args.virt_address("VA");
//     if (!address || !args.end()) return CommandStatus::Usage;   // args has said what is wrong
//     format_to(out, "{:#x}\n", ...);
//     return CommandStatus::Ok;
//   }
//   KCOMMAND(vtop, "VA", "physical address and page-table walk of a virtual address", vtop)
//
// The second word is what follows the name in `help` ("" for nothing); the optional last one offers words for TAB:
//   KCOMMAND(pageinfo, "PFN", "...", pageinfo, .complete = offer_zone_names)
//
// Context: the console thread, interrupts on, may sleep. A command must survive any arguments.
#pragma once

#include <optional>
#include <string_view>

#include "kernel/console/completion.hpp"
#include "lib/addr.hpp"
#include "lib/format.hpp"

namespace paean {

class CommandInterpreter;

enum class CommandStatus : u8 {
  Ok,
  Usage,   // the arguments make no sense; the interpreter adds the usage line
  Failed,  // understood but not done; the command has said why
};

/// The words after a command's name, taken one after the other. Readers that cannot deliver write one line that says
/// why, begun with the command's name, and return nullopt.
class Args {
 public:
  Args(CommandInterpreter& interpreter, std::string_view command, std::string_view words, Sink& out)
      : interpreter_(interpreter), command_(command), rest_(words), out_(out) {}

  std::string_view command() const { return command_; }
  CommandInterpreter& interpreter() const { return interpreter_; }

  /// There is a further word.
  bool more() const;
  /// How many words are left.
  u32 count() const;
  /// The next word without its quotes; nullopt, silently, at the end.
  std::optional<std::string_view> next();
  /// Everything that is left, blanks trimmed, quotes kept.
  std::string_view rest();

  /// The next word, which must be there; `what` names it in the complaint, as in the usage line.
  std::optional<std::string_view> word(std::string_view what);
  /// A decimal, 0x or octal number, at most `max`.
  std::optional<u64> number(std::string_view what, u64 max = ~u64{0});
  /// A number with an optional K, M, G or T.
  std::optional<u64> size(std::string_view what);
  /// A hexadecimal address, with or without 0x, at most `max`.
  std::optional<u64> address(std::string_view what, u64 max = ~u64{0});
  std::optional<VirtAddr> virt_address(std::string_view what);
  std::optional<PhysAddr> phys_address(std::string_view what);
  /// As number() and size(), but `fallback` when there are no more words.
  std::optional<u64> number_or(std::string_view what, u64 fallback, u64 max = ~u64{0});
  std::optional<u64> size_or(std::string_view what, u64 fallback);

  /// True at the end; otherwise complains about the next word.
  bool end();

 private:
  enum class Expected : u8 { Number, Size, Address };
  std::optional<u64> value(std::string_view what, Expected kind, u64 max);

  CommandInterpreter& interpreter_;
  std::string_view command_;
  std::string_view rest_;
  Sink& out_;
};

using CommandFunction = CommandStatus (*)(Args& args, Sink& out);
/// Offers words for the arguments; `line` is the command up to the cursor, its name included.
using ArgumentCompleter = void (*)(CommandInterpreter& interpreter, std::string_view line, Candidates& candidates);

/// One entry of linker section `kcommands`. The alignment keeps the linker's concatenation an array; the macro
/// repeats it, because g++ would align a variable of 32 bytes to 32.
struct alignas(16) Command {
  const char* name;
  const char* usage;
  const char* help;
  CommandFunction run;
  ArgumentCompleter complete = nullptr;
};

}  // namespace paean

#define KCOMMAND(command_name, usage_text, help_text, function, ...)                       \
  [[gnu::used, gnu::section("kcommands"),                                                  \
    gnu::aligned(16)]] static constinit const ::paean::Command kcommand_##command_name = { \
      .name = #command_name, .usage = usage_text, .help = help_text, .run = function __VA_OPT__(, ) __VA_ARGS__};
