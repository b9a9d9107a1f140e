// Time as files have it: seconds since 1970, UTC, from the board's clock at boot and the ticks since then.
#pragma once

#include "lib/format.hpp"

namespace paean {

/// Boot, once, after init_threads(): reads the board's clock.
void init_file_time();
u32 file_time_now();

struct CivilTime {
  u32 year, month, day, hour, minute, second;
};
CivilTime civil_time(u32 seconds);
u32 seconds_of(const CivilTime& time);
/// 2026-11-21 17:40
void write_time(Sink& out, u32 seconds);

}  // namespace paean
