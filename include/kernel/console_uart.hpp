// The serial console's two ends. Output works from init_console_output() on, in any context; input is interrupt-driven
// and read by one thread.
#pragma once

#include <optional>

#include "lib/types.hpp"

namespace paean {

/// Log lines and print() appear on COM1 from here on.
void init_console_output();
/// 1 to 115200.
void set_console_baud(u32 baud);
/// Needs interrupt controllers.
void init_console_input();

/// A byte that was typed, if there is one.
std::optional<u8> console_try_read();
/// Sleeps until a byte is there.
void console_wait();

}  // namespace paean
