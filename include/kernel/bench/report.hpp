// How a measurement is written: BENCH kmap_hit 34.00 insn/op. Integers only; the kernel has no floating point.
#pragma once

#include <string_view>

#include "lib/format.hpp"

namespace paean {

/// A value with two decimals, kept in hundredths.
class BenchValue {
 public:
  static constexpr BenchValue whole(u64 value) { return BenchValue{value * 100}; }
  static constexpr BenchValue hundredths(u64 value) { return BenchValue{value}; }
  /// total / count, rounded to the nearest hundredth. `count` must not be 0; total below 2^57.
  static BenchValue ratio(u64 total, u32 count);
  constexpr u64 in_hundredths() const { return hundredths_; }
  constexpr bool operator==(const BenchValue&) const = default;

 private:
  constexpr explicit BenchValue(u64 hundredths) : hundredths_(hundredths) {}
  u64 hundredths_ = 0;
};

void write_bench_line(Sink& out, std::string_view name, BenchValue value, std::string_view unit);

}  // namespace paean
