#include "lib/parse.hpp"

#include <random>

#include "support.hpp"

namespace paean::host {

TEST_SUITE("parse") {
  TEST_CASE("numbers in three bases") {
    CHECK(parse_number("0") == 0u);
    CHECK(parse_number("42") == 42u);
    CHECK(parse_number("0x2A") == 42u);
    CHECK(parse_number("0X2a") == 42u);
    CHECK(parse_number("052") == 42u);
    CHECK(parse_number("18446744073709551615") == ~u64{0});
    CHECK(parse_number("0xffffffffffffffff") == ~u64{0});
  }

  TEST_CASE("what is not a number") {
    for (const char* text : {"", " ", "x", "-1", "+1", "08", "0x", "0xg", "1 ", "12a", "18446744073709551616",
                             "0x10000000000000000", "99999999999999999999999999999"}) {
      CAPTURE(text);
      CHECK_FALSE(parse_number(text).has_value());
    }
  }

  TEST_CASE("taking a number leaves the rest, failing leaves everything") {
    std::string_view text = "10@20";
    CHECK(take_number(text) == 10u);
    CHECK(text == "@20");
    CHECK_FALSE(take_number(text).has_value());
    CHECK(text == "@20");
    std::string_view octal = "09";
    CHECK(take_number(octal) == 0u);
    CHECK(octal == "9");
    std::string_view huge = "18446744073709551616";
    CHECK_FALSE(take_number(huge).has_value());
    CHECK(huge.size() == 20);
  }

  TEST_CASE("sizes") {
    CHECK(parse_size("64G") == 64 * kGiB);
    CHECK(parse_size("1t") == kTiB);
    CHECK(parse_size("4k") == 4096u);
    CHECK(parse_size("0x10M") == 16u * kMiB);
    CHECK(parse_size("7") == 7u);
    CHECK(parse_size("16777215T") == 16777215 * kTiB);
    CHECK_FALSE(parse_size("16777216T").has_value());
    CHECK_FALSE(parse_size("64GB").has_value());
    CHECK_FALSE(parse_size("G").has_value());
    std::string_view text = "99999999999999T";
    CHECK_FALSE(take_size(text).has_value());
    CHECK(text.size() == 15);
  }

  TEST_CASE("words and quotes") {
    std::string_view text = "  one\ttwo=\"a; b\" \"x y\"z \"open end";
    CHECK(take_word(text) == "one");
    CHECK(take_word(text) == "two=\"a; b\"");
    CHECK(take_word(text) == "\"x y\"z");
    CHECK(take_word(text) == "\"open end");
    CHECK(take_word(text).empty());
    CHECK(text.empty());
    std::string_view blanks = " \t\r\n ";
    CHECK(take_word(blanks).empty());
  }

  TEST_CASE("unquote takes one pair only") {
    CHECK(unquote("\"a b\"") == "a b");
    CHECK(unquote("\"\"") == "");
    CHECK(unquote("\"") == "\"");
    CHECK(unquote("\"a") == "\"a");
    CHECK(unquote("plain") == "plain");
    CHECK(unquote("\"\"x\"\"") == "\"x\"");
  }

  TEST_CASE("trim") {
    CHECK(trim(" \t a b \r\n") == "a b");
    CHECK(trim("   ") == "");
    CHECK(trim("") == "");
  }

  TEST_CASE("globs") {
    CHECK(glob_match("mm.*", "mm.buddy"));
    CHECK(glob_match("*", ""));
    CHECK(glob_match("", ""));
    CHECK_FALSE(glob_match("", "a"));
    CHECK(glob_match("a*b*c", "a-b-b-c"));
    CHECK_FALSE(glob_match("a*b*c", "a-b-b-d"));
    CHECK(glob_match("?m", "mm"));
    CHECK_FALSE(glob_match("?", ""));
    CHECK(glob_match("**x", "x"));
    const std::string many_stars(200, '*');
    const std::string many_a(2000, 'a');
    CHECK_FALSE(glob_match(many_stars + "b", many_a));
  }

  TEST_CASE("globs equal a recursive definition") {
    struct Reference {
      static bool match(std::string_view p, std::string_view t) {
        if (p.empty()) return t.empty();
        if (p[0] == '*') return match(p.substr(1), t) || (!t.empty() && match(p, t.substr(1)));
        return !t.empty() && (p[0] == '?' || p[0] == t[0]) && match(p.substr(1), t.substr(1));
      }
    };
    std::mt19937 random{7};
    for (int i = 0; i < 20000; ++i) {
      std::string pattern, text;
      for (u32 n = random() % 7; n > 0; --n) pattern += "ab?*"[random() % 4];
      for (u32 n = random() % 7; n > 0; --n) text += "ab"[random() % 2];
      CAPTURE(pattern);
      CAPTURE(text);
      REQUIRE(glob_match(pattern, text) == Reference::match(pattern, text));
    }
  }

  TEST_CASE("lists of globs") {
    CHECK(glob_list_match("all", "anything"));
    CHECK(glob_list_match("x,mm.*", "mm.zone"));
    CHECK(glob_list_match(" mm.* , x", "x"));
    CHECK_FALSE(glob_list_match("", "x"));
    CHECK_FALSE(glob_list_match(",,", ""));
    CHECK_FALSE(glob_list_match("a,b", "c"));
  }
}

}  // namespace paean::host
