#include "kernel/bench/report.hpp"

namespace paean {

namespace {

/// Bit by bit: the kernel links no library for 64-bit division, and a report may take its time.
u64 divide(u64 value, u32 divisor) {
  u64 quotient = 0;
  u64 rest = 0;
  for (u32 bit = 64; bit-- > 0;) {
    rest = (rest << 1) | ((value >> bit) & 1);
    quotient <<= 1;
    if (rest < divisor) continue;
    rest -= divisor;
    quotient |= 1;
  }
  return quotient;
}

}  // namespace

BenchValue BenchValue::ratio(u64 total, u32 count) { return BenchValue{divide(total * 100 + count / 2, count)}; }

void write_bench_line(Sink& out, std::string_view name, BenchValue value, std::string_view unit) {
  const u64 whole = divide(value.in_hundredths(), 100);
  const u32 rest = static_cast<u32>(value.in_hundredths() - whole * 100);
  format_to(out, "BENCH {} {}.{:02} {}\n", name, whole, rest, unit);
}

}  // namespace paean
