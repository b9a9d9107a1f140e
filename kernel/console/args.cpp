#include <algorithm>
#include <array>

#include "kernel/console/command.hpp"
#include "lib/parse.hpp"

namespace paean {

namespace {

/// Hexadecimal with or without its 0x: addresses are copied from output, where both are seen.
std::optional<u64> parse_address(std::string_view text) {
  constexpr std::string_view kPrefix = "0x";
  if (text.starts_with("0x") || text.starts_with("0X")) return parse_number(text);
  std::array<char, kPrefix.size() + 16> prefixed{};  // 16 digits are 64 bits
  if (text.size() > prefixed.size() - kPrefix.size()) return std::nullopt;
  std::copy(text.begin(), text.end(), std::copy(kPrefix.begin(), kPrefix.end(), prefixed.begin()));
  return parse_number({prefixed.data(), kPrefix.size() + text.size()});
}

}  // namespace

bool Args::more() const { return !trim(rest_).empty(); }

u32 Args::count() const {
  std::string_view words = rest_;
  u32 count = 0;
  while (!take_word(words).empty()) ++count;
  return count;
}

std::optional<std::string_view> Args::next() {
  const std::string_view word = take_word(rest_);
  if (word.empty()) return std::nullopt;
  return unquote(word);
}

std::string_view Args::rest() {
  const std::string_view rest = trim(rest_);
  rest_ = {};
  return rest;
}

std::optional<std::string_view> Args::word(std::string_view what) {
  const std::optional<std::string_view> word = next();
  if (!word) format_to(out_, "{}: {} is missing\n", command_, what);
  return word;
}

std::optional<u64> Args::value(std::string_view what, Expected kind, u64 max) {
  const std::optional<std::string_view> text = word(what);
  if (!text) return std::nullopt;
  const std::optional<u64> value = kind == Expected::Number ? parse_number(*text)
                                   : kind == Expected::Size ? parse_size(*text)
                                                            : parse_address(*text);
  if (value && *value <= max) return value;
  format_to(out_, "{}: {} '", command_, what);
  write_escaped(out_, *text);
  if (value) {
    format_to(out_, "' is too large, at most {:#x}\n", max);
  } else {
    out_.write(kind == Expected::Number ? "' is not a number\n"
               : kind == Expected::Size ? "' is not a size such as 64K, 2M or 1G\n"
                                        : "' is not a hexadecimal address\n");
  }
  return std::nullopt;
}

std::optional<u64> Args::number(std::string_view what, u64 max) { return value(what, Expected::Number, max); }

std::optional<u64> Args::size(std::string_view what) { return value(what, Expected::Size, ~u64{0}); }

std::optional<u64> Args::address(std::string_view what, u64 max) { return value(what, Expected::Address, max); }

std::optional<VirtAddr> Args::virt_address(std::string_view what) {
  const std::optional<u64> value = address(what, ~u32{0});
  if (!value) return std::nullopt;
  return VirtAddr{static_cast<u32>(*value)};
}

std::optional<PhysAddr> Args::phys_address(std::string_view what) {
  const std::optional<u64> value = address(what);
  if (!value) return std::nullopt;
  return PhysAddr{*value};
}

std::optional<u64> Args::number_or(std::string_view what, u64 fallback, u64 max) {
  return more() ? number(what, max) : fallback;
}

std::optional<u64> Args::size_or(std::string_view what, u64 fallback) { return more() ? size(what) : fallback; }

bool Args::end() {
  const std::optional<std::string_view> word = next();
  if (!word) return true;
  format_to(out_, "{}: '", command_);
  write_escaped(out_, *word);
  out_.write("' is one word too many\n");
  return false;
}

}  // namespace paean
