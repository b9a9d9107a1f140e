// How measurements are written. Also compiled into the host tests.
#include <array>

#include "kernel/bench/report.hpp"
#include "kernel/test/ktest.hpp"

namespace paean {

KTEST(bench, ratio_rounds_to_hundredths) {
  EXPECT_EQ(BenchValue::ratio(680'000, 20'000).in_hundredths(), 3400);
  EXPECT_EQ(BenchValue::ratio(2, 3).in_hundredths(), 67);
  EXPECT_EQ(BenchValue::ratio(1, 3).in_hundredths(), 33);
  EXPECT_EQ(BenchValue::ratio(0, 1).in_hundredths(), 0);
  EXPECT_EQ(BenchValue::ratio(u64{1} << 56, 1).in_hundredths(), (u64{1} << 56) * 100);
  EXPECT_EQ(BenchValue::ratio(u64{1} << 56, ~u32{0}).in_hundredths(), 1677721600);
}

KTEST(bench, lines_have_two_decimals) {
  std::array<char, 128> buffer{};
  BufferSink sink{buffer};
  write_bench_line(sink, "kmap_hit", BenchValue::whole(34), "insn/op");
  write_bench_line(sink, "boot", BenchValue::hundredths(3'123'456'705), "insn/op");
  EXPECT_EQ(sink.view(), "BENCH kmap_hit 34.00 insn/op\nBENCH boot 31234567.05 insn/op\n");
}

}  // namespace paean
