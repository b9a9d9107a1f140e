// What a handler finds on the user's stack, and what brings the program back from it. The layout is Linux's on i386.
#pragma once

#include "kernel/process/process.hpp"

namespace paean {

/// Saves the frame on the user's stack and makes it begin the handler. `blocked` is the mask to come back to.
Result<> push_signal_frame(arch::TrapFrame& frame, Task& task, u32 signal, const SignalAction& action,
                           SignalSet blocked);

}  // namespace paean
