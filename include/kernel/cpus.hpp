// Bringing up the machine's other CPUs.
#pragma once

#include "kernel/cmdline.hpp"

namespace paean {

/// Starts what nosmp and maxcpus= allow. After interrupts and memory are up.
void start_cpus(const CommandLine& options);

}  // namespace paean
