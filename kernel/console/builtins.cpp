// The commands that belong to the console itself.
#include "kernel/console/interpreter.hpp"
#include "lib/parse.hpp"

namespace paean {

namespace {

constexpr u32 kMostRepeats = 1'000'000'000;

CommandStatus help_for(const Command& command, Sink& out) {
  format_to(out, "{} {}\n    {}\n", command.name, command.usage, command.help);
  return CommandStatus::Ok;
}

/// A name and its arguments in a column of their own.
void help_line(const Command& command, Sink& out) {
  constexpr usize kColumn = 28;  // the longest common usage; 50 characters of the line are left for the help
  const std::string_view name = command.name;
  const std::string_view usage = command.usage;
  format_to(out, "{} {}", name, usage);
  for (usize i = name.size() + 1 + usage.size(); i < kColumn; ++i) out.write(" ");
  format_to(out, " {}\n", command.help);
}

CommandStatus help(Args& args, Sink& out) {
  const CommandInterpreter& commands = args.interpreter();
  const std::optional<std::string_view> name = args.next();
  if (!name) {
    for (const Command* command = commands.next(nullptr); command != nullptr; command = commands.next(command)) {
      help_line(*command, out);
    }
    return CommandStatus::Ok;
  }
  if (!args.end()) return CommandStatus::Usage;
  const Command* command = commands.find(*name);
  if (command != nullptr) return help_for(*command, out);
  out.write("help: no command '");
  write_escaped(out, *name);
  const Command* meant = commands.closest(*name);
  if (meant == nullptr) {
    out.write("'\n");
    return CommandStatus::Failed;
  }
  format_to(out, "'; did you mean this?\n");
  return help_for(*meant, out);
}

void complete_help(CommandInterpreter& interpreter, std::string_view, Candidates& candidates) {
  interpreter.offer_names(candidates);
}

/// Stops at the first repetition that does not succeed: the output that matters is then the last on the screen.
CommandStatus repeat(Args& args, Sink& out) {
  const std::optional<u64> times = args.number("N", kMostRepeats);
  if (!times) return CommandStatus::Usage;
  const std::string_view line = unquote(args.rest());
  if (line.empty()) {
    out.write("repeat: the command is missing\n");
    return CommandStatus::Usage;
  }
  for (u64 i = 0; i < *times; ++i) {
    const CommandStatus status = args.interpreter().run_line(line, out);
    if (status == CommandStatus::Ok && !args.interpreter().stop_requested()) continue;
    format_to(out, "repeat: stopped after {} of {}\n", i + 1, *times);
    return CommandStatus::Failed;
  }
  return CommandStatus::Ok;
}

void complete_repeat(CommandInterpreter& interpreter, std::string_view line, Candidates& candidates) {
  take_word(line);
  const std::string_view number = take_word(line);
  if (number.empty() || line.empty()) return;
  while (line.starts_with(' ') || line.starts_with('"')) line.remove_prefix(1);
  interpreter.complete(line, candidates);
}

CommandStatus echo(Args& args, Sink& out) {
  write_escaped(out, unquote(args.rest()), ~usize{0});
  out.write("\n");
  return CommandStatus::Ok;
}

}  // namespace

KCOMMAND(help, "[COMMAND]", "list the commands, or explain one", help, .complete = complete_help)
KCOMMAND(repeat, "N COMMAND", "run a command N times; \"a; b\" repeats a list", repeat, .complete = complete_repeat)
KCOMMAND(echo, "[TEXT]", "write the text", echo)

}  // namespace paean
