// The 8254 programmable interval timer: the one clock of known speed on every PC.
// Channel 2 measures the other clocks at boot, channel 0 ticks on machines without a local APIC.
// Source: Intel 8254 data sheet.
#pragma once

#include "lib/types.hpp"

namespace paean::arch {

inline constexpr u32 kPitHz = 1193182;

/// Starts channel 2 counting down once from `count`; its speaker stays silent.
void start_pit_countdown(u16 count);
/// True when the count has run out.
bool pit_countdown_done();
/// Channel 0 as a periodic interrupt on IRQ 0.
void program_pit_tick(u32 hertz);

}  // namespace paean::arch
