#include "kernel/process/run.hpp"

#include "kernel/process/process.hpp"
#include "lib/log.hpp"

namespace paean {

namespace {

void tell_end(Sink& out, std::string_view path, u32 status) {
  write_escaped(out, path, 255);
  if (const u32 signal = status & 127; signal != 0)
    format_to(out, ": ended by signal {}\n", signal);
  else
    format_to(out, ": exit status {}\n", status >> 8);
}

/// In words. Numbers that a program alone can cause have none here, and are said as they are.
void tell_failure(Sink& out, std::string_view path, Answer answer) {
  out.write("exec: ");
  write_escaped(out, path, 255);
  if (answer == err::kNoExec) return out.write(": not a program\n");
  if (answer == err::kTooBig) return out.write(": too many arguments\n");
  for (u8 each = 0; each <= static_cast<u8>(Error::NoAccess); ++each) {
    const auto error = static_cast<Error>(each);
    if (answer_of(error) == answer) return format_to(out, ": {}\n", error_name(error));
  }
  format_to(out, ": error {}\n", -answer);
}

}  // namespace

CommandStatus run_program(std::string_view path, const ArgumentPages& arguments, Sink& out, bool (*go_on)(void*),
                          void* context) {
  const auto process = ProgramRun::start(path, arguments);
  if (!process) {
    tell_failure(out, path, process.error());
    return CommandStatus::Failed;
  }
  const u32 status = ProgramRun::wait(*process, go_on, context);
  if (status == 0) return CommandStatus::Ok;
  tell_end(out, path, status);
  return CommandStatus::Failed;
}

void run_init(const CommandLine& options) {
  const auto path = options.get("init");
  if (!path || path->empty()) return;
  ArgumentPages arguments;
  const Result<> added = arguments.add(*path);
  arguments.begin_environment();
  if (added) (void)run_program(*path, arguments, console_sink(), nullptr, nullptr);
}

}  // namespace paean
