// Programs that the kernel starts: `exec` at the console, and `init=`.
#pragma once

#include "kernel/cmdline.hpp"
#include "kernel/console/command.hpp"
#include "kernel/process/arguments.hpp"

namespace paean {

/// Runs it with the console as its three descriptors and waits for its end; says why, if that was not exit(0).
/// False from `go_on` interrupts it. `path` may be relative to `/`.
CommandStatus run_program(std::string_view path, const ArgumentPages& arguments, Sink& out, bool (*go_on)(void*),
                          void* context);
/// The program that init= names, if it does.
void run_init(const CommandLine& options);

}  // namespace paean
