#include "lib/parse.hpp"

namespace paean {

namespace {

constexpr bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

/// The value of a digit, or 255: larger than every base.
constexpr u32 digit_value(char c) {
  if (c >= '0' && c <= '9') return static_cast<u32>(c - '0');
  if (c >= 'a' && c <= 'f') return static_cast<u32>(c - 'a' + 10);
  if (c >= 'A' && c <= 'F') return static_cast<u32>(c - 'A' + 10);
  return 255;
}

/// The power of two that a size suffix means; 0 if the letter is none.
constexpr u32 suffix_shift(char c) {
  switch (c) {
    case 'k':
    case 'K': return 10;
    case 'm':
    case 'M': return 20;
    case 'g':
    case 'G': return 30;
    case 't':
    case 'T': return 40;
    default: return 0;
  }
}

}  // namespace

std::optional<u64> take_number(std::string_view& text) {
  u32 base = 10;
  usize i = 0;
  if (!text.empty() && text[0] == '0') {
    const bool hex = text.size() > 2 && (text[1] == 'x' || text[1] == 'X') && digit_value(text[2]) < 16;
    base = hex ? 16 : 8;
    i = hex ? 2 : 0;
  }
  const usize first = i;
  u64 value = 0;
  for (; i < text.size() && digit_value(text[i]) < base; ++i) {
    // Multiplying in two halves shows an overflow without a 64-bit division.
    const u64 low = u64{static_cast<u32>(value)} * base + digit_value(text[i]);
    const u64 high = (value >> 32) * base + (low >> 32);
    if ((high >> 32) != 0) return std::nullopt;
    value = (high << 32) | static_cast<u32>(low);
  }
  if (i == first) return std::nullopt;
  text.remove_prefix(i);
  return value;
}

std::optional<u64> take_size(std::string_view& text) {
  std::string_view rest = text;
  const std::optional<u64> number = take_number(rest);
  if (!number) return std::nullopt;
  const u32 shift = rest.empty() ? 0 : suffix_shift(rest.front());
  if (shift != 0) {
    if ((*number >> (64 - shift)) != 0) return std::nullopt;
    rest.remove_prefix(1);
  }
  text = rest;
  return *number << shift;
}

std::optional<u64> parse_number(std::string_view text) {
  const std::optional<u64> value = take_number(text);
  return text.empty() ? value : std::nullopt;
}

std::optional<u64> parse_size(std::string_view text) {
  const std::optional<u64> value = take_size(text);
  return text.empty() ? value : std::nullopt;
}

std::string_view take_word(std::string_view& text) {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  usize end = 0;
  bool quoted = false;
  while (end < text.size() && (quoted || !is_blank(text[end]))) {
    if (text[end] == '"') quoted = !quoted;
    ++end;
  }
  const std::string_view word{text.data(), end};
  text.remove_prefix(end);
  return word;
}

std::string_view unquote(std::string_view text) {
  if (text.size() >= 2 && text.front() == '"' && text.back() == '"') {
    text.remove_prefix(1);
    text.remove_suffix(1);
  }
  return text;
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

bool glob_match(std::string_view pattern, std::string_view text) {
  usize p = 0;
  usize t = 0;
  // After a mismatch the last * swallows one more character. Earlier ones never need to be tried again: whatever they
  // could still take, the last one can take as well.
  std::optional<usize> star;
  usize star_text = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      star_text = t;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t])) {
      ++p;
      ++t;
    } else if (star) {
      p = *star + 1;
      t = ++star_text;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

bool glob_list_match(std::string_view globs, std::string_view text) {
  while (!globs.empty()) {
    usize end = 0;
    while (end < globs.size() && globs[end] != ',') ++end;
    const std::string_view glob = trim({globs.data(), end});
    if (glob == "all" || (!glob.empty() && glob_match(glob, text))) return true;
    globs.remove_prefix(end < globs.size() ? end + 1 : end);
  }
  return false;
}

}  // namespace paean
