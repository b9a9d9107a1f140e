// After boot: self-tests, benchmarks and commands that the command line asks for, then the prompt.
#pragma once

#include "kernel/cmdline.hpp"

namespace paean {

/// selftest=, bench= and run= in this order; `exit` then leaves with "fail" if any test or command failed, else "pass".
/// Without `exit` the console prompts for ever. Interrupts are on.
[[noreturn]] void run_session(const CommandLine& options);

/// The clock when the prompt was ready, less the clock at entry: what the `boot` benchmark reports.
u64 boot_cost();

}  // namespace paean
