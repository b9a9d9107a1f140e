#include "arch/tsc.hpp"

#include <initializer_list>

#include "arch/cpu.hpp"
#include "arch/irq.hpp"
#include "arch/pit.hpp"

namespace paean::arch {

namespace {

constinit u64 entry_tsc = 0;
constinit u32 khz = 0;
constinit ClockUnit unit = ClockUnit::Cycles;

/// Ticks that `count` rounds of a two-instruction loop take, with the cost of reading the clock.
/// Never inlined: every call must cost the same.
[[gnu::noinline, gnu::noclone]] u64 time_loop(u32 count) {
  const u64 start = read_tsc();
  asm volatile("1: decl %0; jnz 1b" : "+r"(count));
  return read_tsc() - start;
}

/// Instruction counting shows as exactly two ticks a round, for every length, every time.
bool counts_instructions() {
  const u64 base = time_loop(1000);
  for (u32 extra : {1000u, 5000u, 9000u}) {
    if (time_loop(1000 + extra) - base != u64{extra} * 2) return false;
  }
  return true;
}

}  // namespace

void calibrate_tsc() {
  if (!cpu_features().tsc) {  // an i586 without one has no PAE either; kept so that nothing divides by zero
    khz = 1000;
    return;
  }
  // The shortest of three: a virtual machine may lose its CPU between the end of the count and the reading.
  constexpr u32 kRounds = 3;
  constexpr u32 kGiveUp = 10'000'000;  // polls; a machine without a PIT must not hang here
  const IrqsOffGuard guard;
  u64 shortest = ~u64{0};
  for (u32 round = 0; round < kRounds; ++round) {
    start_pit_countdown(kPitHz / 1000);  // one millisecond
    const u64 start = read_tsc();
    for (u32 polls = 0; !pit_countdown_done() && polls < kGiveUp; ++polls) cpu_relax();
    const u64 ticks = read_tsc() - start;
    if (ticks < shortest) shortest = ticks;
  }
  khz = shortest == 0 ? 1 : static_cast<u32>(shortest);
  unit = counts_instructions() ? ClockUnit::Instructions : ClockUnit::Cycles;
}

ClockUnit clock_unit() { return unit; }
u32 tsc_khz() { return khz; }
u64 tsc_at_entry() { return entry_tsc; }
void set_tsc_at_entry(u64 value) { entry_tsc = value; }

u64 microseconds_since_entry() {
  if (khz == 0) return 0;
  return (read_tsc() - entry_tsc) * 1000 / khz;
}

void delay_microseconds(u32 microseconds) {
  const u64 end = read_tsc() + u64{microseconds} * khz / 1000;
  while (read_tsc() < end) cpu_relax();
}

}  // namespace paean::arch
