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

/// What is known of the counter's ticks in one millisecond of the PIT.
struct Bounds {
  u64 least = 0, most = ~u64{0};
  u64 width() const { return most - least; }
};

/// The count begins between two readings, and ends between two: a virtual machine that loses its CPU in between knows
/// less, and nothing wrong.
Bounds time_a_millisecond() {
  constexpr u32 kGiveUp = 10'000'000;  // polls; a machine without a PIT must not hang here
  const u64 before = read_tsc();
  start_pit_countdown(kPitHz / 1000);
  const u64 started = read_tsc();
  u64 still_counting = started;
  for (u32 polls = 0; polls < kGiveUp; ++polls) {
    const u64 now = read_tsc();
    if (pit_countdown_done()) break;
    still_counting = now;
    cpu_relax();
  }
  return {still_counting - started, read_tsc() - before};
}

}  // namespace

void calibrate_tsc() {
  if (!cpu_features().tsc) {  // an i586 without one has no PAE either; kept so that nothing divides by zero
    khz = 1000;
    return;
  }
  constexpr u32 kRounds = 20;     // on a host that is busy enough, none is good
  constexpr u32 kGoodness = 128;  // bounds that lie so close: an error of 0.4 % at most
  const IrqsOffGuard guard;
  Bounds best;
  for (u32 round = 0; round < kRounds && best.width() > best.most / kGoodness; ++round) {
    const Bounds bounds = time_a_millisecond();
    if (bounds.width() < best.width()) best = bounds;
  }
  khz = static_cast<u32>(best.least + best.width() / 2);
  if (khz == 0) khz = 1;
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
