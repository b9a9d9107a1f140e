// In-kernel tests that register themselves: adding one touches one file.
//
//   KTEST(buddy, lowest_address_first) {
//     REQUIRE(buddy.add(range));                     // fails and leaves the test
//     EXPECT_EQ(buddy.free_pages(), 1024);           // fails and goes on; prints both values
//     if (!machine_has_two_zones()) SKIP("one zone");
//   }
//   KTEST(death, double_free, .flags = TestFlag::Death) {
//     KTEST_EXPECT_PANIC("double free of pfn");      // prints `# expect: double free of pfn`
//     ...
//   }
//
// The body gets `TestContext& test`, which the macros use by that name; a helper with checks of its own takes
// `TestContext& test` as a parameter. test.random() repeats with `selftest.seed=`; test.note() writes a diagnostic.
// A lambda that checks captures by reference. REQUIRE and SKIP return, so they stand where `return;` may stand.
//
// Around each test the runner (runner.hpp) compares what the kernel owns before and after, so tests give back what they
// take, and prefer private instances of the classes to the live ones.
// Context: a kernel thread, interrupts on, may sleep; 30 s (Slow: 120 s), then the watchdog panics with its name.
#pragma once

#include <string_view>
#include <type_traits>
#include <utility>

#include "lib/assert.hpp"
#include "lib/format.hpp"

namespace paean {

enum class TestFlag : u8 {
  Death = 1 << 0,         // must end in a panic; runs only when named in full
  Slow = 1 << 1,          // gets four times the watchdog's patience
  NeedsHighmem = 1 << 2,  // skipped on machines without highmem
  NeedsSmp = 1 << 3,      // skipped on one CPU
  ByName = 1 << 4,        // runs only when named in full: it needs something done from outside
};

/// A set of TestFlag.
class TestFlags {
 public:
  constexpr TestFlags() = default;
  constexpr TestFlags(TestFlag flag) : bits_(static_cast<u8>(flag)) {}  // NOLINT(google-explicit-constructor)
  constexpr bool has(TestFlag flag) const { return (bits_ & static_cast<u8>(flag)) != 0; }
  constexpr TestFlags operator|(TestFlags other) const { return TestFlags(static_cast<u8>(bits_ | other.bits_)); }
  constexpr bool operator==(const TestFlags&) const = default;

 private:
  constexpr explicit TestFlags(u8 bits) : bits_(bits) {}
  u8 bits_ = 0;
};

constexpr TestFlags operator|(TestFlag a, TestFlag b) { return TestFlags{a} | TestFlags{b}; }

class TestContext;

struct TestOptions {
  TestFlags flags{};
};

/// One entry of linker section `ktests`. The alignment keeps the linker's concatenation an array; the macro
/// repeats it, because g++ would align a variable of 32 bytes to 32.
struct alignas(16) TestCase {
  const char* name;  // suite.name
  void (*body)(TestContext& test);
  TestOptions options{};
};

/// Numbers that repeat: xorshift64*, seeded from the run's seed and the test's name, so that a test draws the same
/// numbers whichever tests ran before it.
class TestRandom {
 public:
  TestRandom(u64 seed, std::string_view name);
  u32 next();
  /// Below `bound`, which must not be 0. The bias (bound / 2^32) is of no matter to tests.
  u32 below(u32 bound) { return static_cast<u32>((u64{next()} * bound) >> 32); }

 private:
  u64 state_;
};

/// How EXPECT_EQ shows a value: as format_to does; enums by number; anything else by a placeholder.
template <typename T>
constexpr FormatArg test_value(const T& value) {
  if constexpr (std::is_same_v<T, std::nullptr_t>) {
    return FormatArg{std::string_view{"nullptr"}};
  } else if constexpr (std::is_enum_v<T>) {
    return FormatArg{std::to_underlying(value)};
  } else if constexpr (requires { FormatArg{value}; }) {
    return FormatArg{value};
  } else {
    return FormatArg{std::string_view{"(not printable)"}};
  }
}

template <typename T>
inline constexpr bool kIsPlainInteger = std::is_integral_v<T> && !std::is_same_v<T, bool> && !std::is_same_v<T, char>;

/// Equality as a person means it: integers by value whatever their signs and widths, C strings by their text.
template <typename A, typename B>
constexpr bool test_equal(const A& a, const B& b) {
  if constexpr (kIsPlainInteger<A> && kIsPlainInteger<B>) {
    return std::cmp_equal(a, b);
  } else if constexpr (!std::is_same_v<A, std::nullptr_t> && !std::is_same_v<B, std::nullptr_t> &&
                       std::is_convertible_v<const A&, std::string_view> &&
                       std::is_convertible_v<const B&, std::string_view>) {
    return std::string_view{a} == std::string_view{b};
  } else {
    return a == b;
  }
}

/// What a running test knows. Made by the runner, one for each test.
class TestContext {
 public:
  TestContext(const TestCase& test, u64 seed, Sink& out) : name_(test.name), random_(seed, test.name), out_(out) {}

  std::string_view name() const { return name_; }
  u32 random() { return random_.next(); }
  u32 random_below(u32 bound) { return random_.below(bound); }

  /// Writes one diagnostic line, `# ` in front, the line end added.
  template <typename... Values>
  void note(FormatString<std::type_identity_t<Values>...> format, const Values&... values) {
    const FormatArg packed[] = {FormatArg{values}..., FormatArg{}};
    write_note(format.text, FormatArgs{packed, sizeof...(Values)});
  }

  // What the macros call.
  void fail(SourceLine where, const char* condition);
  void skip(const char* why) { skip_reason_ = why; }
  void expect_panic(std::string_view text);
  template <typename A, typename B>
  bool expect_equal(SourceLine where, const char* texts, const A& actual, const B& expected) {
    if (test_equal(actual, expected)) [[likely]]
      return true;
    fail_equal(where, texts, test_value(actual), test_value(expected));
    return false;
  }

  // What the runner asks.
  u32 failures() const { return failures_; }
  const char* skip_reason() const { return skip_reason_; }
  bool panic_expected() const { return panic_expected_; }

 private:
  static constexpr u32 kShownFailures = 16;  // a check in a loop must not fill the log

  void write_note(const char* format, FormatArgs args);
  void fail_equal(SourceLine where, const char* texts, FormatArg actual, FormatArg expected);
  bool shows_failure(SourceLine where);

  std::string_view name_;
  TestRandom random_;
  Sink& out_;
  u32 failures_ = 0;
  const char* skip_reason_ = nullptr;
  bool panic_expected_ = false;
};

}  // namespace paean

#define KTEST(suite, test_name, ...)                                                                 \
  static void ktest_##suite##_##test_name(::paean::TestContext& test);                               \
  [[gnu::used, gnu::section("ktests"),                                                               \
    gnu::aligned(16)]] static constinit const ::paean::TestCase ktest_case_##suite##_##test_name = { \
      .name = #suite "." #test_name, .body = ktest_##suite##_##test_name, .options = {__VA_ARGS__}}; \
  static void ktest_##suite##_##test_name([[maybe_unused]] ::paean::TestContext& test)

#define EXPECT(...)                                                     \
  do {                                                                  \
    if (!(__VA_ARGS__)) [[unlikely]]                                    \
      test.fail(::paean::SourceLine{__FILE__, __LINE__}, #__VA_ARGS__); \
  } while (false)

#define EXPECT_EQ(actual, expected) \
  (void)test.expect_equal(::paean::SourceLine{__FILE__, __LINE__}, #actual " == " #expected, actual, expected)

#define REQUIRE(...)                                                    \
  do {                                                                  \
    if (!(__VA_ARGS__)) [[unlikely]] {                                  \
      test.fail(::paean::SourceLine{__FILE__, __LINE__}, #__VA_ARGS__); \
      return;                                                           \
    }                                                                   \
  } while (false)

#define REQUIRE_EQ(actual, expected)                                                                             \
  do {                                                                                                           \
    if (!test.expect_equal(::paean::SourceLine{__FILE__, __LINE__}, #actual " == " #expected, actual, expected)) \
      return;                                                                                                    \
  } while (false)

#define SKIP(why)   \
  do {              \
    test.skip(why); \
    return;         \
  } while (false)

#define KTEST_EXPECT_PANIC(text) test.expect_panic(text)
