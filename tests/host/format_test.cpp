#include "lib/format.hpp"

#include <cinttypes>
#include <cstdio>
#include <random>

#include "support.hpp"

namespace paean::host {

TEST_SUITE("format") {
  TEST_CASE("text and numbers without a specification") {
    CHECK(formatted("nothing") == "nothing");
    CHECK(formatted("") == "");
    CHECK(formatted("{}", 0) == "0");
    CHECK(formatted("{} {} {}", 1u, -1, 'x') == "1 -1 x");
    CHECK(formatted("{}{}", true, false) == "truefalse");
    CHECK(formatted("a{}b", "text") == "atextb");
    CHECK(formatted("{}", std::string_view{"view"}) == "view");
    CHECK(formatted("{}", static_cast<const char*>(nullptr)) == "(null)");
  }

  TEST_CASE("all 64 bits are printed") {
    CHECK(formatted("{}", ~u64{0}) == "18446744073709551615");
    CHECK(formatted("{}", std::int64_t{INT64_MIN}) == "-9223372036854775808");
    CHECK(formatted("{:x}", ~u64{0}) == "ffffffffffffffff");
    CHECK(formatted("{}", 68719476736ull) == "68719476736");
    CHECK(formatted("{}", 10000000000000000000ull) == "10000000000000000000");
    CHECK(formatted("{}", u64{0x100000000}) == "4294967296");
  }

  TEST_CASE("addresses are hexadecimal, counts decimal") {
    CHECK(formatted("{}", PhysAddr{0x1234567890}) == "1234567890");
    CHECK(formatted("{:#x}", PhysAddr{0x1234567890}) == "0x1234567890");
    CHECK(formatted("{:d}", Pfn{16}) == "16");
    CHECK(formatted("{:08x}", VirtAddr{0xc0100}) == "000c0100");
    CHECK(formatted("{} {}", PageCount{17}, Order{3}) == "17 3");
  }

  TEST_CASE("widths and alignment") {
    CHECK(formatted("[{:5}]", 42) == "[   42]");
    CHECK(formatted("[{:<5}]", 42) == "[42   ]");
    CHECK(formatted("[{:>5}]", "ab") == "[   ab]");
    CHECK(formatted("[{:5}]", "ab") == "[ab   ]");
    CHECK(formatted("[{:1}]", 12345) == "[12345]");
    CHECK(formatted("[{:05}]", -42) == "[-0042]");
    CHECK(formatted("[{:#010x}]", 0xbeefu) == "[0x0000beef]");
    CHECK(formatted("[{:#8x}]", 0xbeefu) == "[  0xbeef]");
    CHECK(formatted("[{:<08x}]", 0xbeefu) == "[beef    ]");
    CHECK(formatted("[{:3c}]", 65) == "[A  ]");
    CHECK(formatted("{:x}", -255) == "-ff");
    CHECK(formatted("[{:40}]", 7).size() == 42);
  }

  TEST_CASE("braces") {
    CHECK(formatted("{{}}") == "{}");
    CHECK(formatted("{{{}}}", 5) == "{5}");
    CHECK(formatted("a{{b") == "a{b");
  }

  TEST_CASE("formats that were not checked print something and never fail") {
    const auto raw = [](std::string_view format) {
      StringSink sink;
      const FormatArg arg{42};
      vformat_to(sink, format, {&arg, 1});
      return sink.text();
    };
    CHECK(raw("{} {}") == "42 {?}");
    CHECK(raw("{:q}") == "{?}");
    CHECK(raw("{5}") == "{?}");
    CHECK(raw("open {") == "open {");
    CHECK(raw("close } {}") == "close } 42");
    CHECK(raw("{:99999999999999999999}").size() == 256);
  }

  TEST_CASE("decimal digits equal the C library's") {
    std::mt19937_64 random{1};
    for (int i = 0; i < 20000; ++i) {
      const u64 value = random() >> (random() % 64);
      char expected[64];
      std::snprintf(expected, sizeof expected, "%" PRIu64 " %" PRIx64, value, value);
      REQUIRE(formatted("{} {:x}", value, value) == expected);
    }
  }

  TEST_CASE("a buffer keeps what fits and says that it is full") {
    char storage[8];
    BufferSink sink{storage};
    format_to(sink, "{}", "12345");
    CHECK(sink.view() == "12345");
    CHECK_FALSE(sink.truncated());
    format_to(sink, "{}", 6789);
    CHECK(sink.view() == "1234567");
    CHECK(sink.truncated());
    CHECK(storage[7] == '\0');
    sink.clear();
    CHECK(sink.view().empty());
    CHECK_FALSE(sink.truncated());
    BufferSink none{std::span<char>{}};
    none.write("x");
    CHECK(none.truncated());
    CHECK(none.view().empty());
  }

  TEST_CASE("escaping makes any bytes one printable line") {
    StringSink sink;
    write_escaped(sink, std::string_view{"a\n\x00\xff\\z\x1b[2J", 10});
    CHECK(sink.text() == "a\\x0a\\x00\\xff\\\\z\\x1b[2J");
    StringSink shortened;
    write_escaped(shortened, "abcdef", 3);
    CHECK(shortened.text() == "abc...");
    StringSink exact;
    write_escaped(exact, "abc", 3);
    CHECK(exact.text() == "abc");
  }
}

}  // namespace paean::host
