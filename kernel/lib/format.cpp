// Formatting without allocation. Numbers are turned into digits with 32-bit divisions only: a 64-bit division would be
// a library call on this machine.
#include "lib/format.hpp"

#include <array>
#include <optional>

namespace paean {

namespace {

constexpr u32 kMaxWidth = 256;    // wider columns are mistakes; also keeps a bad format from printing for ever
constexpr usize kMaxDigits = 24;  // 20 decimal digits hold 2^64 - 1

enum class Align : u8 { Default, Left, Right };
enum class Style : u8 { Default, Hex, Decimal, Char };

struct Spec {
  Align align = Align::Default;
  bool prefix = false;
  bool zeros = false;
  u32 width = 0;
  Style style = Style::Default;
};

/// The text between ':' and '}'. nullopt if it is not in the grammar that the header gives.
std::optional<Spec> parse_spec(std::string_view text) {
  Spec spec;
  const auto take = [&text](char wanted) {
    if (text.empty() || text.front() != wanted) return false;
    text.remove_prefix(1);
    return true;
  };
  if (take('<'))
    spec.align = Align::Left;
  else if (take('>'))
    spec.align = Align::Right;
  spec.prefix = take('#');
  spec.zeros = take('0');
  while (!text.empty() && text.front() >= '0' && text.front() <= '9') {
    spec.width = spec.width * 10 + static_cast<u32>(text.front() - '0');
    if (spec.width > kMaxWidth) spec.width = kMaxWidth;
    text.remove_prefix(1);
  }
  if (take('x'))
    spec.style = Style::Hex;
  else if (take('d'))
    spec.style = Style::Decimal;
  else if (take('c'))
    spec.style = Style::Char;
  if (!text.empty()) return std::nullopt;
  return spec;
}

/// Digits are made from the last one backwards, at the end of an array.
class Digits {
 public:
  void put(char digit) { text_[--begin_] = digit; }
  std::string_view view() const { return {text_.data() + begin_, text_.size() - begin_}; }

 private:
  std::array<char, kMaxDigits> text_{};
  usize begin_ = kMaxDigits;
};

void put_hex(Digits& digits, u64 value) {
  do {
    digits.put("0123456789abcdef"[static_cast<u32>(value) & 15]);
    value >>= 4;
  } while (value != 0);
}

/// Divides by 10,000 in four 16-bit limbs: every partial dividend is below 10,000 * 65,536 and fits 32 bits.
u32 divide_by_10000(u64& value) {
  u64 quotient = 0;
  u32 rest = 0;
  for (int shift = 48; shift >= 0; shift -= 16) {
    const u32 part = (rest << 16) | (static_cast<u32>(value >> shift) & 0xffff);
    quotient |= u64{part / 10000} << shift;
    rest = part % 10000;
  }
  value = quotient;
  return rest;
}

void put_decimal(Digits& digits, u64 value) {
  while ((value >> 32) != 0) {
    u32 group = divide_by_10000(value);
    for (int i = 0; i < 4; ++i) {
      digits.put(static_cast<char>('0' + group % 10));
      group /= 10;
    }
  }
  u32 rest = static_cast<u32>(value);
  do {
    digits.put(static_cast<char>('0' + rest % 10));
    rest /= 10;
  } while (rest != 0);
}

void repeat(Sink& sink, std::string_view blanks, usize count) {
  while (count > 0) {
    const usize part = count < blanks.size() ? count : blanks.size();
    sink.write({blanks.data(), part});
    count -= part;
  }
}

constexpr std::string_view kSpaces = "                ";
constexpr std::string_view kZeros = "0000000000000000";

void write_padded(Sink& sink, std::string_view head, std::string_view body, const Spec& spec, Align default_align) {
  const usize length = head.size() + body.size();
  const usize padding = spec.width > length ? spec.width - length : 0;
  const Align align = spec.align == Align::Default ? default_align : spec.align;
  const bool zeros = spec.zeros && spec.align == Align::Default && default_align == Align::Right;
  if (align == Align::Right && !zeros) repeat(sink, kSpaces, padding);
  if (!head.empty()) sink.write(head);
  if (zeros) repeat(sink, kZeros, padding);
  if (!body.empty()) sink.write(body);
  if (align == Align::Left) repeat(sink, kSpaces, padding);
}

void write_number(Sink& sink, const FormatArg& arg, const Spec& spec) {
  const bool negative = arg.kind == FormatArg::Kind::Signed && static_cast<i64>(arg.number) < 0;
  const u64 magnitude = negative ? ~arg.number + 1 : arg.number;
  const bool hex = spec.style == Style::Hex || (spec.style == Style::Default && arg.kind == FormatArg::Kind::Hex);
  Digits digits;
  if (hex)
    put_hex(digits, magnitude);
  else
    put_decimal(digits, magnitude);
  const bool prefix = hex && spec.prefix;
  const std::string_view head = negative ? (prefix ? "-0x" : "-") : (prefix ? "0x" : "");
  write_padded(sink, head, digits.view(), spec, Align::Right);
}

void write_argument(Sink& sink, const FormatArg& arg, const Spec& spec) {
  const bool as_char = spec.style == Style::Char || (spec.style == Style::Default && arg.kind == FormatArg::Kind::Char);
  if (arg.kind == FormatArg::Kind::Text) {
    write_padded(sink, {}, arg.text, spec, Align::Left);
  } else if (as_char) {
    const char letter = static_cast<char>(arg.number);
    write_padded(sink, {}, {&letter, 1}, spec, Align::Left);
  } else {
    write_number(sink, arg, spec);
  }
}

/// The text between the braces of one placeholder.
void write_placeholder(Sink& sink, std::string_view inside, const FormatArg* arg) {
  std::optional<Spec> spec = Spec{};
  if (!inside.empty()) {
    spec.reset();
    if (inside.front() == ':') {
      inside.remove_prefix(1);
      spec = parse_spec(inside);
    }
  }
  if (arg == nullptr || arg->kind == FormatArg::Kind::None || !spec) {
    sink.write("{?}");
  } else {
    write_argument(sink, *arg, *spec);
  }
}

}  // namespace

void BufferSink::write(std::string_view text) {
  const usize room = buffer_.empty() ? 0 : buffer_.size() - 1 - length_;
  const usize part = text.size() < room ? text.size() : room;
  for (usize i = 0; i < part; ++i) buffer_[length_ + i] = text[i];
  length_ += part;
  if (part < text.size()) truncated_ = true;
  terminate();
}

void vformat_to(Sink& sink, std::string_view format, FormatArgs args) {
  usize next_arg = 0;
  usize literal = 0;  // where the text not yet written begins
  usize i = 0;
  const auto flush = [&](usize end) {
    if (end > literal) sink.write({format.data() + literal, end - literal});
  };
  while (i < format.size()) {
    const char c = format[i];
    if (c != '{' && c != '}') {
      ++i;
      continue;
    }
    if (i + 1 < format.size() && format[i + 1] == c) {  // a doubled brace: write one of the two
      flush(i + 1);
      i += 2;
      literal = i;
      continue;
    }
    usize end = i + 1;
    while (c == '{' && end < format.size() && format[end] != '}') ++end;
    if (c == '}' || end == format.size()) {  // stray; only formats that were not checked at compile time come here
      ++i;
      continue;
    }
    flush(i);
    write_placeholder(sink, {format.data() + i + 1, end - i - 1}, next_arg < args.size() ? &args[next_arg] : nullptr);
    ++next_arg;
    i = end + 1;
    literal = i;
  }
  flush(format.size());
}

void write_escaped(Sink& sink, std::string_view text, usize limit) {
  const usize shown = text.size() < limit ? text.size() : limit;
  usize clean = 0;  // printable bytes not yet written begin here
  for (usize i = 0; i < shown; ++i) {
    const u8 byte = static_cast<u8>(text[i]);
    if (byte >= 0x20 && byte < 0x7f && byte != '\\') continue;
    if (i > clean) sink.write({text.data() + clean, i - clean});
    clean = i + 1;
    if (byte == '\\')
      sink.write("\\\\");
    else
      format_to(sink, "\\x{:02x}", byte);
  }
  if (shown > clean) sink.write({text.data() + clean, shown - clean});
  if (shown < text.size()) sink.write("...");
}

}  // namespace paean
