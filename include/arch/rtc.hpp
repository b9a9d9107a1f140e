// The clock on the board that runs while the machine is off: date and time of day, read once at boot.
// Context: boot, or any thread; takes up to 2 ms while the clock updates itself.
#pragma once

#include <optional>

#include "lib/types.hpp"

namespace paean::arch {

struct RtcTime {
  u32 year, month, day, hour, minute, second;  // month and day from 1
};

/// Of this century, because the clock knows none. nullopt if what it says is no date.
std::optional<RtcTime> read_rtc();

}  // namespace paean::arch
