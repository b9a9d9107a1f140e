// Runs command lines: finds the command, splits lists at `;`, helps after a slip of the finger, completes names.
//
// An instance works on the table of commands that it is given; the kernel's own has all KCOMMANDs and is reached
// through run_command_line(). Lists: `meminfo; zoneinfo`. Quotes hold `;` and blanks: repeat 3 "alloc 1; free 1".
// Context: one thread at a time; commands may run further lines through args.interpreter(), at most kMaxDepth deep, so
// that no line can overrun the stack.
#pragma once

#include <string_view>

#include "kernel/console/by_name.hpp"
#include "kernel/console/command.hpp"

namespace paean {

/// Knows whether the person at the keyboard wants a long command to stop (Ctrl-C).
class StopRequest {
 public:
  virtual bool requested() = 0;

 protected:
  ~StopRequest() = default;
};

class CommandInterpreter final : public Completer {
 public:
  static constexpr u32 kMaxDepth = 4;

  constexpr CommandInterpreter(const Command* begin, const Command* end) : begin_(begin), end_(end) {}

  /// Runs every command of the list, whatever became of the ones before, and returns the worst status.
  /// An empty line is Ok. Unknown commands are Failed.
  CommandStatus run_line(std::string_view line, Sink& out);

  const Command* find(std::string_view name) const;
  /// The command that follows in alphabetical order (nullptr: the first of all); nullptr at the end.
  const Command* next(const Command* previous) const { return next_by_name(begin_, end_, previous); }
  /// The command that was probably meant: at most two slips away. nullptr if there is none.
  const Command* closest(std::string_view name) const;
  /// Offers the names of all commands.
  void offer_names(Candidates& candidates) const;

  void complete(std::string_view before_cursor, Candidates& candidates) override;

  /// Whom stop_requested() asks; nobody at first. Long commands ask between their steps.
  void set_stop_request(StopRequest* request) { stop_request_ = request; }
  bool stop_requested() const { return stop_request_ != nullptr && stop_request_->requested(); }

 private:
  CommandStatus run_one(std::string_view text, Sink& out);

  const Command* begin_;
  const Command* end_;
  u32 depth_ = 0;
  StopRequest* stop_request_ = nullptr;
};

/// Takes the commands up to the next `;` outside quotes from the front of a list.
std::string_view take_command(std::string_view& list);

/// The interpreter with all KCOMMANDs.
CommandInterpreter& kernel_commands();

/// Runs a line with it; used by the prompt and by `run=`.
CommandStatus run_command_line(std::string_view line, Sink& out);

}  // namespace paean
