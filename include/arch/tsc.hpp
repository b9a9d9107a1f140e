// The time-stamp counter: the clock of log lines, delays and benchmarks.
//
// Under QEMU's `-icount shift=0` the counter advances by exactly one for each guest instruction, so a difference of
// two readings is an instruction count that repeats to the last digit. calibrate_tsc() finds out by running loops of
// known length; clock_unit() tells benchmarks what to print.
#pragma once

#include "lib/types.hpp"

namespace paean::arch {

enum class ClockUnit : u8 { Cycles, Instructions };

/// Any context.
inline u64 read_tsc() {
  u32 low, high;
  asm volatile("rdtsc" : "=a"(low), "=d"(high)::"memory");
  return (u64{high} << 32) | low;
}

/// Measures the counter against the PIT (1 ms, up to 20 on a busy host) and detects instruction counting. Boot CPU,
/// interrupts off, once.
void calibrate_tsc();

ClockUnit clock_unit();

/// Counter ticks in a millisecond; 0 before calibrate_tsc().
u32 tsc_khz();

/// The counter at kernel entry: time zero of the log.
u64 tsc_at_entry();
void set_tsc_at_entry(u64 value);

/// Since entry. 0 before calibrate_tsc().
u64 microseconds_since_entry();

/// Busy-waits; any context after calibrate_tsc().
void delay_microseconds(u32 microseconds);

}  // namespace paean::arch
