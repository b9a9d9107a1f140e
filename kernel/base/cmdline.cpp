#include "kernel/cmdline.hpp"

namespace paean {

namespace {

constexpr usize kMaxReported = 16;  // unknown words named; a line of noise must not bury the boot log

/// QEMU's -kernel puts the image's path in front. No option has a slash or, if unknown, a dot in its key.
bool looks_like_image(const OptionWord& word) {
  if (find_option(word.key)) return false;
  for (const char c : word.key) {
    if (c == '/' || c == '.') return true;
  }
  return false;
}

/// "cmdline: key=value" with both made printable.
void begin_complaint(Sink& complaints, OptionName name, std::string_view value) {
  format_to(complaints, "cmdline: {}=", name.text());
  write_escaped(complaints, value);
}

}  // namespace

void write_size(Sink& sink, u64 bytes) {
  constexpr std::string_view kSuffixes = "TGMK";
  u32 shift = 40;
  for (const char suffix : kSuffixes) {
    const u64 count = bytes >> shift;
    if (count != 0 && count << shift == bytes) {
      format_to(sink, "{}{}", count, suffix);
      return;
    }
    shift -= 10;
  }
  format_to(sink, "{}", bytes);
}

std::optional<OptionWord> take_option_word(std::string_view& line) {
  const std::string_view raw = take_word(line);
  if (raw.empty()) return std::nullopt;
  OptionWord word;
  word.text = unquote(raw);
  usize equals = 0;
  while (equals < word.text.size() && word.text[equals] != '=') ++equals;
  word.key = {word.text.data(), equals};
  if (equals < word.text.size()) {
    std::string_view value = word.text;
    value.remove_prefix(equals + 1);
    word.value = unquote(value);
  }
  return word;
}

CommandLine::CommandLine(std::string_view text) : text_(text), words_(text) {
  std::string_view rest = text;
  const std::optional<OptionWord> first = take_option_word(rest);
  if (first && looks_like_image(*first)) words_ = rest;
}

std::optional<std::string_view> CommandLine::get(OptionName name) const {
  std::optional<std::string_view> last;
  for_each(name, [&last](std::string_view value) { last = value; });
  return last;
}

u64 CommandLine::size(OptionName name, u64 fallback, Sink& complaints) const {
  const std::optional<std::string_view> value = get(name);
  if (!value) return fallback;
  const std::optional<u64> bytes = parse_size(*value);
  if (bytes) return *bytes;
  begin_complaint(complaints, name, *value);
  complaints.write(" is not a size, using ");
  write_size(complaints, fallback);
  complaints.write(" instead\n");
  return fallback;
}

u64 CommandLine::number(OptionName name, u64 fallback, Sink& complaints) const {
  return number_in(name, 0, ~u64{0}, fallback, complaints);
}

u64 CommandLine::number_in(OptionName name, u64 least, u64 most, u64 fallback, Sink& complaints) const {
  const std::optional<std::string_view> value = get(name);
  if (!value) return fallback;
  const std::optional<u64> number = parse_number(*value);
  if (number && least <= *number && *number <= most) return *number;
  begin_complaint(complaints, name, *value);
  if (number)
    format_to(complaints, " is not in {}..{}, using {} instead\n", least, most, fallback);
  else
    format_to(complaints, " is not a number, using {} instead\n", fallback);
  return fallback;
}

usize CommandLine::choice(OptionName name, std::span<const std::string_view> words, usize fallback,
                          Sink& complaints) const {
  const std::optional<std::string_view> value = get(name);
  if (!value) return fallback;
  for (usize i = 0; i < words.size(); ++i) {
    if (words[i] == *value) return i;
  }
  begin_complaint(complaints, name, *value);
  complaints.write(" is none of");
  for (const std::string_view word : words) format_to(complaints, " {}", word);
  if (fallback < words.size())
    format_to(complaints, ", using {} instead\n", words[fallback]);
  else
    complaints.write(", ignored\n");
  return fallback;
}

void CommandLine::report_unknown(Sink& complaints) const {
  std::array<std::string_view, kMaxReported> reported{};
  usize count = 0;
  u32 more = 0;
  std::string_view rest = words_;
  while (const std::optional<OptionWord> word = take_option_word(rest)) {
    if (find_option(word->key)) continue;
    bool repeated = false;
    for (usize i = 0; i < count; ++i) repeated = repeated || reported[i] == word->text;
    if (repeated) continue;
    if (count == kMaxReported) {
      ++more;
      continue;
    }
    complaints.write(count == 0 ? "cmdline: unknown words ignored: " : " ");
    write_escaped(complaints, word->text);
    reported[count++] = word->text;
  }
  if (more != 0) format_to(complaints, " and {} more", more);
  if (count != 0) complaints.write("\n");
}

}  // namespace paean
