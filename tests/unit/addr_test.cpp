// Address types in the kernel as it is compiled: widths beyond 32 bits of bytes.
#include "access.hpp"
#include "lib/parse.hpp"

namespace paean {

namespace {

constexpr u32 kWidths[] = {0xfffff, 0x100000, 0xffffff, 0x1000000, 1u << 28, 0xffffffff};

}  // namespace

KTEST(addr, frame_to_byte_keeps_all_bits) {
  for (const u32 frame : kWidths) {
    const PhysAddr byte = to_phys(Pfn{frame});
    EXPECT_EQ(number(byte), u64{frame} * 4096);
    EXPECT_EQ(number(to_pfn(byte)), frame);
    EXPECT_EQ(number(to_pfn(byte + 4095)), frame);
    EXPECT(byte.is_aligned(kPageSize));
    EXPECT_EQ((byte + 7).page_offset(), 7);
    EXPECT_EQ(number((byte + 7).align_down(kPageSize)), u64{frame} * 4096);
  }
}

KTEST(addr, page_counts_have_64_bit_bytes) {
  EXPECT_EQ(PageCount{1u << 20}.bytes(), u64{4} * kGiB);
  EXPECT_EQ(PageCount{0xffffffff}.bytes(), u64{0xffffffff} * 4096);
  EXPECT_EQ(PageCount{1u << 24}.kib(), u64{64} * kMiB);
  EXPECT_EQ(PageCount{1u << 24}.mib(), 65536);
  EXPECT_EQ(pages_for(64 * kGiB + 1).count(), (1u << 24) + 1);
}

KTEST(addr, alignment_above_4_gib) {
  const PhysAddr odd{64 * kGiB + 0x1234567};
  EXPECT_EQ(number(odd.align_down(kLargePageSize)), 64 * kGiB + 0x1200000);
  EXPECT_EQ(number(odd.align_up(kLargePageSize)), 64 * kGiB + 0x1400000);
  EXPECT_EQ(number(odd.align_up(kPageSize)), 64 * kGiB + 0x1235000);
  EXPECT_EQ(number(PhysAddr{~u64{0}}.align_up(kPageSize)), ~u64{0} - 4095);
}

KTEST(addr, random_frames_survive_the_round_trip) {
  for (u32 i = 0; i < 10'000; ++i) {
    const Pfn pfn{test.random()};
    REQUIRE_EQ(number(to_pfn(to_phys(pfn) + test.random_below(kPageSize))), number(pfn));
    const Order order{test.random_below(kOrderCount)};
    REQUIRE(pfn.align_down(order).is_aligned(order));
    REQUIRE((pfn - pfn.align_down(order)).count() < order.pages());
  }
}

KTEST(format, numbers_of_64_bits_print_in_full) {
  char text[96];
  BufferSink sink{text};
  format_to(sink, "{} {:#x} {:016x}", ~u64{0}, PhysAddr{64 * kGiB}, u64{0x8000000123456067});
  EXPECT_EQ(sink.view(), "18446744073709551615 0x1000000000 8000000123456067");
  sink.clear();
  format_to(sink, "{:>8}|{:<8}|{}", PageCount{1u << 24}, "left", i64{-5'000'000'000});
  EXPECT_EQ(sink.view(), "16777216|left    |-5000000000");
  EXPECT(!sink.truncated());
}

KTEST(parse, sizes_beyond_32_bits) {
  EXPECT_EQ(parse_size("64G").value_or(0), 64 * kGiB);
  EXPECT_EQ(parse_size("0x1000000000").value_or(0), 64 * kGiB);
  EXPECT(!parse_size("18446744073709551616"));
  EXPECT(!parse_size("16777216T"));  // 2^64
  EXPECT_EQ(parse_number("0777").value_or(0), 0777);
}

}  // namespace paean
