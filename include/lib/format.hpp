// Type-safe text formatting without allocation, checked at compile time.
//
//   format_to(sink, "{} pages at {:#x}, {:>8} kB\n", count, addr, kib);
//
// Placeholders: {} or {:[<|>][#][0][width][x|d|c]}. `<` pads right (left-aligned), `>` pads left; numbers default to
// right alignment when a width is given, text to left. `#` puts 0x before hexadecimal. `{{` and `}}` are braces.
// Zeros go between sign or prefix and digits, and only where no alignment is asked for. The number of arguments is
// checked when the program is compiled; a placeholder outside this grammar prints {?}.
//
// Arguments: integers (printed in full 64 bits), bool, char, C strings, std::string_view, pointers, and the address
// types, which print in hexadecimal (PhysAddr, VirtAddr, Pfn) or decimal (PageCount).
// Context: any; takes no locks. Source: the syntax is a subset of std::format.
#pragma once

#include <concepts>
#include <span>
#include <string_view>
#include <type_traits>

#include "lib/addr.hpp"

namespace paean {

/// Somewhere that text goes. Implementations say what happens when they are full.
class Sink {
 public:
  virtual void write(std::string_view text) = 0;

 protected:
  ~Sink() = default;
};

/// Text into a caller's array; what does not fit is dropped and truncated() says so. Always NUL-terminated.
class BufferSink final : public Sink {
 public:
  explicit BufferSink(std::span<char> buffer) : buffer_(buffer) { terminate(); }
  void write(std::string_view text) override;
  std::string_view view() const { return {buffer_.data(), length_}; }
  bool truncated() const { return truncated_; }
  void clear() {
    length_ = 0;
    truncated_ = false;
    terminate();
  }

 private:
  void terminate() {
    if (!buffer_.empty()) buffer_[length_] = '\0';
  }
  std::span<char> buffer_;
  usize length_ = 0;
  bool truncated_ = false;
};

/// One argument, type-erased.
struct FormatArg {
  enum class Kind : u8 { None, Unsigned, Signed, Hex, Char, Text };

  constexpr FormatArg() = default;
  template <typename T>
    requires std::integral<T>
  constexpr explicit FormatArg(T value) {
    if constexpr (std::same_as<T, bool>) {
      kind = Kind::Text;
      text = value ? "true" : "false";
    } else if constexpr (std::same_as<T, char>) {
      kind = Kind::Char;
      number = static_cast<u8>(value);
    } else if constexpr (std::signed_integral<T>) {
      kind = Kind::Signed;
      number = static_cast<u64>(static_cast<i64>(value));
    } else {
      kind = Kind::Unsigned;
      number = value;
    }
  }
  constexpr explicit FormatArg(std::string_view value) : kind(Kind::Text), text(value) {}
  constexpr explicit FormatArg(const char* value) : kind(Kind::Text), text(value == nullptr ? "(null)" : value) {}
  constexpr explicit FormatArg(PhysAddr value) : kind(Kind::Hex), number(value.raw()) {}
  constexpr explicit FormatArg(VirtAddr value) : kind(Kind::Hex), number(value.raw()) {}
  constexpr explicit FormatArg(Pfn value) : kind(Kind::Hex), number(value.raw()) {}
  constexpr explicit FormatArg(PageCount value) : kind(Kind::Unsigned), number(value.count()) {}
  constexpr explicit FormatArg(Order value) : kind(Kind::Unsigned), number(value.value()) {}
  explicit FormatArg(const void* value) : kind(Kind::Hex), number(reinterpret_cast<std::uintptr_t>(value)) {}

  Kind kind = Kind::None;
  u64 number = 0;
  std::string_view text{};
};

using FormatArgs = std::span<const FormatArg>;

/// Never defined and not constexpr: a call makes the compiler refuse the format, and `why` stands in its message.
void malformed_format(const char* why);

/// Counts the placeholders of a format; used at compile time. A stray brace does not compile.
consteval usize count_placeholders(std::string_view format) {
  usize count = 0;
  for (usize i = 0; i < format.size(); ++i) {
    if (format[i] == '{') {
      if (i + 1 < format.size() && format[i + 1] == '{') {
        ++i;
        continue;
      }
      while (i < format.size() && format[i] != '}') ++i;
      if (i == format.size()) malformed_format("unterminated placeholder");
      ++count;
    } else if (format[i] == '}') {
      if (i + 1 >= format.size() || format[i + 1] != '}') malformed_format("stray closing brace");
      ++i;
    }
  }
  return count;
}

/// A format whose placeholders were counted against its arguments by the compiler.
template <typename... Args>
struct FormatString {
  template <usize N>
  consteval FormatString(const char (&literal)[N]) : text(literal) {  // NOLINT(google-explicit-constructor)
    if (count_placeholders({literal, N - 1}) != sizeof...(Args)) malformed_format("arguments and placeholders differ");
  }
  const char* text;
};

/// The type-erased core. A placeholder without an argument prints `{?}`.
void vformat_to(Sink& sink, std::string_view format, FormatArgs args);

template <typename... Args>
void format_to(Sink& sink, FormatString<std::type_identity_t<Args>...> format, const Args&... args) {
  const FormatArg packed[] = {FormatArg{args}..., FormatArg{}};
  vformat_to(sink, format.text, FormatArgs{packed, sizeof...(Args)});
}

/// Text that may hold anything, safe to print on one line: bytes outside printable ASCII as \xNN, a backslash doubled,
/// and "..." after the first `limit` bytes.
void write_escaped(Sink& sink, std::string_view text, usize limit = 64);

}  // namespace paean
