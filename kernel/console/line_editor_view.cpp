// The editor's drawing, history and completion. Keys are in line_editor.cpp.
#include <algorithm>

#include "kernel/console/line_editor.hpp"
#include "kernel/console/text.hpp"

namespace paean {

void LineEditor::move_to(usize position, Sink& echo) {
  for (; cursor_ > position; --cursor_) echo.write("\b");
  echo.write({text_.data() + cursor_, position - cursor_});
  cursor_ = position;
}

void LineEditor::erase(usize from, usize to, Sink& echo) {
  if (too_long_ || from == to) return;
  move_to(from, echo);
  std::copy(text_.begin() + to, text_.begin() + length_, text_.begin() + from);
  length_ -= to - from;
  // The tail moves left; blanks cover what stays of it on the screen.
  echo.write({text_.data() + from, length_ - from});
  for (usize i = from; i < to; ++i) echo.write(" ");
  for (usize i = from; i < to + (length_ - from); ++i) echo.write("\b");
}

void LineEditor::replace_line(std::string_view text, Sink& echo) {
  move_to(length_, echo);
  erase(0, length_, echo);
  insert(text, echo);
}

void LineEditor::redraw(Sink& echo) {
  echo.write("\x1b[H\x1b[2J");
  echo.write(prompt_);
  const usize wanted = cursor_;
  echo.write({text_.data(), length_});
  cursor_ = length_;
  move_to(wanted, echo);
}

const LineEditor::StoredLine& LineEditor::stored(u32 steps_back) const {
  if (steps_back == 0) return draft_;
  return history_[(history_next_ + kHistoryLines - steps_back) % kHistoryLines];
}

void LineEditor::remember() {
  if (length_ == 0) return;
  const StoredLine& newest = stored(1);
  if (history_count_ > 0 && line() == std::string_view{newest.text.data(), newest.length}) return;
  StoredLine& slot = history_[history_next_];
  std::copy_n(text_.begin(), length_, slot.text.begin());
  slot.length = static_cast<u16>(length_);
  history_next_ = (history_next_ + 1) % kHistoryLines;
  history_count_ = std::min(history_count_ + 1, kHistoryLines);
}

void LineEditor::walk_history(u32 steps_back, Sink& echo) {
  if (too_long_ || steps_back > history_count_) return;
  if (history_back_ == 0) {
    std::copy_n(text_.begin(), length_, draft_.text.begin());
    draft_.length = static_cast<u16>(length_);
  }
  history_back_ = steps_back;
  const StoredLine& line = stored(steps_back);
  replace_line({line.text.data(), line.length}, echo);
}

void LineEditor::complete(Sink& echo) {
  if (completer_ == nullptr || too_long_) return;
  const std::string_view before{text_.data(), cursor_};
  Candidates candidates{last_word(before)};
  completer_->complete(before, candidates);
  if (candidates.count() == 0) {
    echo.write("\a");
    return;
  }
  const std::string_view addition = tail(candidates.common(), candidates.typed().size());
  if (!addition.empty()) insert(addition, echo);
  if (candidates.count() == 1) {
    insert(" ", echo);
  } else if (addition.empty()) {
    // Nothing can be added without a choice: show what there is and draw the line again below.
    echo.write("\n");
    Candidates listed{last_word(before), &echo};
    completer_->complete(before, listed);
    echo.write("\n");
    echo.write(prompt_);
    const usize wanted = cursor_;
    echo.write({text_.data(), length_});
    cursor_ = length_;
    move_to(wanted, echo);
  }
}

}  // namespace paean
