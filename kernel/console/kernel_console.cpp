// The kernel's own console: one interpreter over linker section `kcommands`, one prompt.
#include "kernel/console/console.hpp"

// Provided by the linker script; weak, so that a program without any command links too.
extern "C" {
[[gnu::weak]] extern const paean::Command __start_kcommands[];
[[gnu::weak]] extern const paean::Command __stop_kcommands[];
}

namespace paean {

namespace {

constinit CommandInterpreter commands{__start_kcommands, __stop_kcommands};
constinit Console kernel_console{commands};

}  // namespace

CommandInterpreter& kernel_commands() { return commands; }

CommandStatus run_command_line(std::string_view line, Sink& out) { return commands.run_line(line, out); }

void console_run(ByteSource& input, Sink& out) {
  TypeAhead source{input};
  commands.set_stop_request(&source);
  kernel_console.start(out);
  while (true) {
    const std::optional<u8> byte = source.try_read();
    if (byte)
      kernel_console.feed(*byte, out);
    else
      source.wait();
  }
}

}  // namespace paean
