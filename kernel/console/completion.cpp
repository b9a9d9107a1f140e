#include "kernel/console/completion.hpp"

#include <algorithm>

#include "kernel/console/text.hpp"

namespace paean {

void Candidates::add(std::string_view word) {
  if (!word.starts_with(typed_) || word.size() > kMaxWord) return;
  if (count_ == 0) {
    std::copy(word.begin(), word.end(), common_.begin());
    common_length_ = word.size();
  } else {
    const auto [differs, unused] =
        std::mismatch(word.begin(), word.end(), common_.begin(), common_.begin() + common_length_);
    common_length_ = static_cast<usize>(differs - word.begin());
  }
  ++count_;
  if (list_ == nullptr) return;
  constexpr usize kWidth = 80;
  if (column_ != 0 && column_ + word.size() > kWidth) {
    list_->write("\n");
    column_ = 0;
  }
  format_to(*list_, "{}  ", word);
  column_ += word.size() + 2;
}

std::string_view last_word(std::string_view before_cursor) {
  const auto is_separator = [](char c) { return c == ' ' || c == ';' || c == '"'; };
  usize begin = before_cursor.size();
  while (begin > 0 && !is_separator(before_cursor[begin - 1])) --begin;
  return tail(before_cursor, begin);
}

}  // namespace paean
