// The kernel command line: words `key` or `key=value` between blanks, as the boot loader hands them over.
//
//   CommandLine line{text};
//   u64 size = line.size("vmalloc", 120 * kMiB, complaints);
//   if (line.has("nosmp")) ...
//
// kOptions below is the documentation: a name that is not in it does not compile. Values may be quoted, `run="a; b"` or
// `"run=a; b"` (GRUB's way). A key given twice: the last one wins, except for lists. The first word is skipped if it
// looks like the path of the image, which QEMU puts there.
//
// The text may hold any bytes, quotes without a partner, and be of any length; nothing here fails on it. Pure, no
// memory but the caller's text, which must outlive the object. Every query is one pass over the text. Complaints are
// one line each, ending in a newline.
#pragma once

#include <array>
#include <optional>
#include <span>
#include <string_view>

#include "lib/format.hpp"
#include "lib/parse.hpp"

namespace paean {

enum class OptionKind : u8 {
  Flag,    // the word alone
  Number,  // decimal, 0x, 0 octal
  Size,    // a number with K, M, G or T
  Choice,  // one of some words
  Text,    // anything
  List,    // may be given several times, all count
};

struct Option {
  std::string_view name;
  OptionKind kind;
  std::string_view help;
};

inline constexpr std::array kOptions{
    Option{"mem", OptionKind::Size, "use no memory from this address on"},
    Option{"memmap", OptionKind::List, "nn@ss usable, nn#ss ACPI data, nn$ss reserved, exactmap; comma lists"},
    Option{"highmem", OptionKind::Size, "how much memory to treat as highmem; 0 for none"},
    Option{"vmalloc", OptionKind::Size, "address space for vmalloc in total"},
    Option{"vmalloc_upper", OptionKind::Size, "part of it that stays above the direct map"},
    Option{"vmsplit", OptionKind::Choice, "user address space: 3G, 3.5G, 2G or 1G"},
    Option{"pkmap", OptionKind::Number, "slots for persistent kmaps"},
    Option{"kmap", OptionKind::Choice, "force: map lowmem pages too"},
    Option{"ukva", OptionKind::Choice, "off: reach page tables of programs by kmap"},
    Option{"pte", OptionKind::Choice, "low: page tables of programs in lowmem"},
    Option{"vfallback", OptionKind::Choice, "always: no contiguous blocks where virtual ones will do"},
    Option{"nosmp", OptionKind::Flag, "start no other CPU"},
    Option{"maxcpus", OptionKind::Number, "use at most so many CPUs"},
    Option{"console", OptionKind::Text, "ttyS0[,baud]"},
    Option{"quiet", OptionKind::Flag, "warnings and errors only"},
    Option{"loglevel", OptionKind::Number, "messages above this level stay off the console"},
    Option{"panic", OptionKind::Text, "after a panic: 0 wait, n reboot in n seconds, exit power off with status"},
    Option{"ramdisk", OptionKind::Size, "make a disk in memory, ram0, of that size"},
    Option{"bouncepool", OptionKind::Number, "pages of each emergency pool for devices that do not reach all memory"},
    Option{"root", OptionKind::Text, "device of the root file system"},
    Option{"rootfstype", OptionKind::Text, "its type; each is tried without"},
    Option{"ro", OptionKind::Flag, "mount the root file system read-only"},
    Option{"init", OptionKind::Text, "first program"},
    Option{"selftest", OptionKind::Text, "run these self-tests after boot: glob,glob or all"},
    Option{"selftest.seed", OptionKind::Number, "seed of the self-tests' random numbers"},
    Option{"selftest.rounds", OptionKind::Number, "iterations of a race of two CPUs, 1000000 unless told"},
    Option{"bench", OptionKind::Text, "run these benchmarks after boot: glob,glob or all"},
    Option{"fault", OptionKind::List, "site:n, let the n-th call fail there"},
    Option{"run", OptionKind::List, "console commands after boot, quoted, with ; between them"},
    Option{"exit", OptionKind::Flag, "power off with a status when selftest, bench and run are done"},
};

/// The option's place in kOptions. (An index: under -fsanitize=undefined a pointer is no constant to g++ 12.)
constexpr std::optional<usize> find_option(std::string_view name) {
  for (usize i = 0; i < kOptions.size(); ++i) {
    if (kOptions[i].name == name) return i;
  }
  return std::nullopt;
}

/// Never defined and not constexpr: a call makes the compiler refuse the name.
void no_such_option();

/// The name of an option in kOptions, checked by the compiler.
class OptionName {
 public:
  template <usize N>
  consteval OptionName(const char (&literal)[N]) : text_(literal, N - 1) {  // NOLINT(google-explicit-constructor)
    if (!find_option(text_)) no_such_option();
  }
  constexpr explicit OptionName(const Option& option) : text_(option.name) {}
  constexpr std::string_view text() const { return text_; }

 private:
  std::string_view text_;
};

/// One word of the line. `key` alone has no value, `key=` an empty one.
struct OptionWord {
  std::string_view key;
  std::optional<std::string_view> value;
  std::string_view text;  // the whole word as typed, without outer quotes
};

/// Splits the next word off the front of a command line. nullopt at its end.
std::optional<OptionWord> take_option_word(std::string_view& line);

class CommandLine {
 public:
  constexpr CommandLine() = default;
  explicit CommandLine(std::string_view text);

  /// All of it, as given.
  std::string_view text() const { return text_; }

  /// The last value of the option; empty for a word without '='. nullopt if the option is not there.
  std::optional<std::string_view> get(OptionName name) const;
  bool has(OptionName name) const { return get(name).has_value(); }

  /// fn(std::string_view value) for each time the option is given, in order.
  template <typename Fn>
  void for_each(OptionName name, Fn fn) const {
    std::string_view rest = words_;
    while (const std::optional<OptionWord> word = take_option_word(rest)) {
      if (word->key == name.text()) fn(word->value.value_or(std::string_view{}));
    }
  }

  /// The value of a Size or Number option, or `fallback` if it is missing; also, with a complaint, if it is malformed.
  u64 size(OptionName name, u64 fallback, Sink& complaints) const;
  u64 number(OptionName name, u64 fallback, Sink& complaints) const;
  /// The same, and a value outside [least, most] is malformed too.
  u64 number_in(OptionName name, u64 least, u64 most, u64 fallback, Sink& complaints) const;
  /// Which of the words the value is; `fallback` (an index) if it is missing or, with a complaint, none of them.
  usize choice(OptionName name, std::span<const std::string_view> words, usize fallback, Sink& complaints) const;

  /// One line with all words that are not in kOptions, each once; nothing if there is none.
  void report_unknown(Sink& complaints) const;

 private:
  std::string_view text_;
  std::string_view words_;  // without the path of the image
};

/// A size as a person would type it: 120M, 3584K, 4097.
void write_size(Sink& sink, u64 bytes);

}  // namespace paean
