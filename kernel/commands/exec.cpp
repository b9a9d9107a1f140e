// exec: a program in the foreground.
#include "kernel/commands/fs_tools.hpp"
#include "kernel/console/interpreter.hpp"
#include "kernel/process/run.hpp"

namespace paean {

namespace {

CommandStatus exec(Args& args, Sink& out) {
  const auto path = args.word("FILE");
  if (!path) return CommandStatus::Usage;
  ArgumentPages arguments;
  Result<> added = arguments.add(*path);
  while (added) {
    const auto word = args.next();
    if (!word) break;
    added = arguments.add(*word);
  }
  arguments.begin_environment();
  if (!added) return complain(args, out, *path, added.error());
  const auto go_on = [](void* context) { return !static_cast<CommandInterpreter*>(context)->stop_requested(); };
  return run_program(*path, arguments, out, go_on, &args.interpreter());
}

KCOMMAND(exec, "FILE [ARGUMENT...]", "run a program and wait for its end", exec, .complete = complete_path)

}  // namespace

}  // namespace paean
