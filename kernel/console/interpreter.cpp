#include "kernel/console/interpreter.hpp"

#include <algorithm>

#include "kernel/console/text.hpp"
#include "lib/parse.hpp"

namespace paean {

namespace {

constexpr u32 kMaxSlips = 2;  // three changes turn short names into one another

/// Where the first `;` outside quotes is; the size of the text if there is none.
usize find_separator(std::string_view text) {
  bool quoted = false;
  for (usize i = 0; i < text.size(); ++i) {
    if (text[i] == '"') quoted = !quoted;
    if (text[i] == ';' && !quoted) return i;
  }
  return text.size();
}

}  // namespace

std::string_view take_command(std::string_view& list) {
  const usize end = find_separator(list);
  const std::string_view command = trim(head(list, end));
  list.remove_prefix(std::min(end + 1, list.size()));
  return command;
}

const Command* CommandInterpreter::find(std::string_view name) const {
  const Command* found = std::find_if(begin_, end_, [name](const Command& command) { return name == command.name; });
  return found == end_ ? nullptr : found;
}

const Command* CommandInterpreter::closest(std::string_view name) const {
  const Command* best = nullptr;
  u32 best_distance = kMaxSlips + 1;
  for (const Command* command = begin_; command != end_; ++command) {
    const std::string_view candidate = command->name;
    const u32 distance = edit_distance(name, candidate);
    // A name that would have to be replaced as a whole is not a slip.
    if (distance < best_distance && distance < candidate.size()) {
      best = command;
      best_distance = distance;
    }
  }
  return best;
}

CommandStatus CommandInterpreter::run_line(std::string_view line, Sink& out) {
  if (depth_ == kMaxDepth) {
    format_to(out, "console: commands within commands, more than {} deep\n", kMaxDepth);
    return CommandStatus::Failed;
  }
  ++depth_;
  CommandStatus worst = CommandStatus::Ok;
  while (!line.empty()) {
    const std::string_view command = take_command(line);
    if (!command.empty()) worst = std::max(worst, run_one(command, out));
  }
  --depth_;
  return worst;
}

CommandStatus CommandInterpreter::run_one(std::string_view text, Sink& out) {
  const std::string_view name = unquote(take_word(text));
  const Command* command = find(name);
  if (command == nullptr) {
    out.write("console: no command '");
    write_escaped(out, name);
    const Command* meant = closest(name);
    if (meant != nullptr)
      format_to(out, "'; did you mean '{}'?\n", meant->name);
    else
      out.write("'; 'help' lists them all\n");
    return CommandStatus::Failed;
  }
  Args args{*this, command->name, text, out};
  const CommandStatus status = command->run(args, out);
  if (status == CommandStatus::Usage) format_to(out, "usage: {} {}\n", command->name, command->usage);
  return status;
}

void CommandInterpreter::offer_names(Candidates& candidates) const {
  for (const Command* command = next(nullptr); command != nullptr; command = next(command)) {
    candidates.add(command->name);
  }
}

void CommandInterpreter::complete(std::string_view before_cursor, Candidates& candidates) {
  for (usize end = find_separator(before_cursor); end < before_cursor.size(); end = find_separator(before_cursor)) {
    before_cursor.remove_prefix(end + 1);
  }
  while (before_cursor.starts_with(' ')) before_cursor.remove_prefix(1);
  std::string_view words = before_cursor;
  const std::string_view name = take_word(words);
  if (words.empty()) {
    offer_names(candidates);
    return;
  }
  const Command* command = find(unquote(name));
  if (command != nullptr && command->complete != nullptr) command->complete(*this, before_cursor, candidates);
}

}  // namespace paean
