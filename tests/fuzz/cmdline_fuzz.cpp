// CommandLine against a splitter that works on copies of characters, and the readers against the C library.
//
// Bytes from 0x80 up stand for pieces of command lines, so that random inputs are full of options; the others are
// themselves, and 0x7f followed by any byte is that byte.
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "entry.hpp"
#include "kernel/cmdline.hpp"
#include "mm/memory_map.hpp"

namespace paean::fuzz {

namespace {

constexpr std::string_view kPieces[] = {" ",
                                        "=",
                                        "\"",
                                        "mem=",
                                        "64M",
                                        "memmap=",
                                        "exactmap",
                                        ",",
                                        "@1M",
                                        "$0x10",
                                        "1G#",
                                        "\t",
                                        "\n",
                                        "0x",
                                        "G",
                                        "18446744073709551615",
                                        "1677721",
                                        "a/b",
                                        "\\",
                                        "run=\"a; b\"",
                                        "quiet ",
                                        "18446744073709551616",
                                        "0x10000000000000000",
                                        "16777216T",
                                        "vmsplit=",
                                        "3.5G"};

std::string make_text(Input& input) {
  std::string text;
  while (!input.empty()) {
    const u32 byte = input.byte();
    if (byte == 0x7f) {
      text += static_cast<char>(input.byte());
    } else if (byte < 0x80) {
      text += static_cast<char>(byte);
    } else {
      const u32 piece = (byte - 0x80) % (std::size(kPieces) + kOptions.size());
      text += piece < std::size(kPieces) ? kPieces[piece] : kOptions[piece - std::size(kPieces)].name;
    }
  }
  return text;
}

struct Word {
  std::string text;
  std::string key;
  std::optional<std::string> value;
};

std::string without_quotes(const std::string& text) {
  const bool quoted = text.size() > 1 && text[0] == '"' && text[text.size() - 1] == '"';
  return quoted ? text.substr(1, text.size() - 2) : text;
}

std::vector<Word> split(const std::string& line) {
  std::vector<std::string> raw(1);
  int quotes = 0;
  for (const char c : line) {
    const bool blank = std::strchr(" \t\r\n", c) != nullptr && c != '\0';
    if (blank && quotes % 2 == 0) {
      raw.emplace_back();
      continue;
    }
    if (c == '"') ++quotes;
    raw.back() += c;
  }
  std::vector<Word> words;
  for (const std::string& text : raw) {
    if (text.empty()) continue;
    Word word;
    word.text = without_quotes(text);
    const usize equals = word.text.find('=');
    word.key = word.text.substr(0, equals);
    if (equals != std::string::npos) word.value = without_quotes(word.text.substr(equals + 1));
    words.push_back(word);
  }
  const auto known = [](const std::string& key) {
    return std::ranges::any_of(kOptions, [&](const Option& option) { return option.name == key; });
  };
  if (!words.empty() && words[0].key.find_first_of("./") != std::string::npos && !known(words[0].key)) {
    words.erase(words.begin());
  }
  return words;
}

/// What strtoull makes of all of the text, with a suffix if `suffixes` holds it.
std::optional<u64> reference_number(const std::string& text, std::string_view suffixes) {
  if (text.empty() || text[0] < '0' || text[0] > '9') return std::nullopt;
  char* end = nullptr;
  errno = 0;
  const u64 value = std::strtoull(text.c_str(), &end, 0);
  if (errno != 0) return std::nullopt;
  usize used = static_cast<usize>(end - text.c_str());
  u32 shift = 0;
  if (used < text.size()) {
    const usize at = suffixes.find(text[used]);
    if (at == std::string_view::npos) return std::nullopt;
    shift = 10 * static_cast<u32>(at / 2 + 1);
    ++used;
  }
  if (used != text.size() || (value << shift) >> shift != value) return std::nullopt;
  return value << shift;
}

void check_words(const std::string& text, const std::vector<Word>& expected) {
  std::string_view rest = text;
  std::vector<Word> words;
  while (const std::optional<OptionWord> word = take_option_word(rest)) {
    CHECK(word->text.data() >= text.data() && word->text.data() + word->text.size() <= text.data() + text.size());
    words.push_back({std::string{word->text}, std::string{word->key}, {}});
    if (word->value) words.back().value = std::string{*word->value};
  }
  CHECK(rest.empty());
  const usize skipped = words.size() - expected.size();
  CHECK(skipped <= 1);
  for (usize i = 0; i < expected.size(); ++i) {
    CHECK(words[i + skipped].text == expected[i].text);
    CHECK(words[i + skipped].key == expected[i].key);
    CHECK(words[i + skipped].value == expected[i].value);
  }
}

void check_options(const CommandLine& line, const std::vector<Word>& words) {
  for (const Option& option : kOptions) {
    std::vector<std::string> expected;
    for (const Word& word : words) {
      if (word.key == option.name) expected.push_back(word.value.value_or(""));
    }
    std::vector<std::string> values;
    line.for_each(OptionName{option}, [&](std::string_view value) { values.emplace_back(value); });
    CHECK(values == expected);
    CHECK(line.has(OptionName{option}) == !expected.empty());
    if (expected.empty()) continue;
    CHECK(line.get(OptionName{option}) == expected.back());
    const std::optional<u64> number = reference_number(expected.back(), "");
    const std::optional<u64> size = reference_number(expected.back(), "kKmMgGtT");
    StringSink complaints;
    CHECK(line.number(OptionName{option}, 77, complaints) == number.value_or(77));
    CHECK(complaints.text().empty() == number.has_value());
    StringSink more;
    CHECK(line.size(OptionName{option}, 78, more) == size.value_or(78));
    CHECK(more.text().empty() == size.has_value());
  }
}

/// Every key and value as if it were a number or a size.
void check_numbers(const std::vector<Word>& words) {
  for (const Word& word : words) {
    for (const std::string& text : {word.key, word.value.value_or("")}) {
      CHECK(parse_number(text) == reference_number(text, ""));
      CHECK(parse_size(text) == reference_number(text, "kKmMgGtT"));
    }
  }
}

/// One printable line, or nothing.
void check_line(const std::string& text) {
  for (usize i = 0; i + 1 < text.size(); ++i) CHECK(text[i] >= 0x20 && text[i] < 0x7f);
  CHECK(text.empty() || text.back() == '\n');
  CHECK(text.size() < 8192);
}

void check_unknown(const CommandLine& line, const std::vector<Word>& words) {
  bool unknown = false;
  for (const Word& word : words) unknown = unknown || !find_option(word.key);
  StringSink complaints;
  line.report_unknown(complaints);
  check_line(complaints.text());
  CHECK(complaints.text().empty() != unknown);
}

}  // namespace

void fuzz_one(Input& input) {
  const std::string text = make_text(input);
  const std::vector<Word> words = split(text);
  const CommandLine line{text};
  check_words(text, words);
  check_options(line, words);
  check_numbers(words);
  check_unknown(line, words);

  // Any value may come as memmap=: the map must stay in order, whatever it says.
  const auto map = std::make_unique<MemoryMap>();
  const E820Entry entry{0, 64 * kMiB, 1};
  map->load({&entry, 1});
  StringSink complaints;
  line.for_each("memmap", [&](std::string_view value) { apply_memmap_option(*map, value, complaints); });
  apply_memmap_option(*map, text, complaints);
  PhysAddr last{0};
  for (const MemoryMap::Entry& range : map->ranges()) {
    CHECK(range.begin >= last && range.begin < range.end && range.end <= kPhysTop);
    last = range.end;
  }
  CHECK(map->kind_at(PhysAddr{0}) != MemoryKind::Usable);
}

}  // namespace paean::fuzz
