// TAB completion: who offers words, and what became of them.
//
// A Completer offers every word that could stand at the cursor; Candidates keeps those that begin with what was typed.
// Nothing is stored but the common beginning, so any number of words may be offered.
// Context: the console's; no allocation.
#pragma once

#include <array>
#include <string_view>

#include "lib/format.hpp"

namespace paean {

/// The words that fit, seen as a whole: how many, and how far they agree.
class Candidates {
 public:
  /// Words are compared with `typed`; those that fit are also written to `list`, if there is one, in lines of at most
  /// 80 columns.
  explicit Candidates(std::string_view typed, Sink* list = nullptr) : typed_(typed), list_(list) {}

  /// One word that could stand here. Words that do not begin with what was typed are dropped.
  void add(std::string_view word);

  u32 count() const { return count_; }
  std::string_view typed() const { return typed_; }
  /// What all fitting words begin with; at least typed() when count() > 0.
  std::string_view common() const { return {common_.data(), common_length_}; }

 private:
  static constexpr usize kMaxWord = 64;  // longer than any command, test or bench name; the rest is typed by hand

  std::string_view typed_;
  Sink* list_;
  usize column_ = 0;
  u32 count_ = 0;
  usize common_length_ = 0;
  std::array<char, kMaxWord> common_{};
};

/// Knows which words can follow.
class Completer {
 public:
  /// Offers the words that may replace the last word of `before_cursor`, which is the line up to the cursor.
  virtual void complete(std::string_view before_cursor, Candidates& candidates) = 0;

 protected:
  ~Completer() = default;
};

/// The last word of a line: what stands after the last blank, `;` or quote.
std::string_view last_word(std::string_view before_cursor);

}  // namespace paean
