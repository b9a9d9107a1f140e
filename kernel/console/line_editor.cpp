// Typing: what each key does to the line. Drawing, history and completion are in line_editor_view.cpp.
#include "kernel/console/line_editor.hpp"

#include <algorithm>

#include "kernel/console/text.hpp"

namespace paean {

namespace {

constexpr u8 control(char letter) { return static_cast<u8>(letter & 0x1f); }

constexpr u8 kEscape = 0x1b;
constexpr u8 kDelete = 0x7f;
constexpr u8 kLongestCsi = 16;  // real ones have at most 8 bytes; more is noise

}  // namespace

void LineEditor::begin(Sink& echo) {
  state_ = State::Ground;
  too_long_ = false;
  length_ = 0;
  cursor_ = 0;
  history_back_ = 0;
  echo.write(prompt_);
}

LineEditor::Event LineEditor::feed(u8 byte, Sink& echo) {
  const bool second_half = last_was_cr_ && byte == '\n';
  last_was_cr_ = byte == '\r';
  if (second_half) return Event::None;
  // A control byte cannot be part of a sequence: it ends a broken one and keeps its own meaning, so that a line end
  // is never swallowed by noise.
  if (state_ != State::Ground && byte >= 0x20) {
    escape_key(byte, echo);
    return Event::None;
  }
  state_ = State::Ground;
  return ground(byte, echo);
}

LineEditor::Event LineEditor::ground(u8 byte, Sink& echo) {
  switch (byte) {
    case '\r':
    case '\n': return finish(echo);
    case control('C'): echo.write("^C\n"); return Event::Dropped;
    case kEscape: state_ = State::Escape; return Event::None;
    default: break;
  }
  if (is_printable(byte)) {
    const char c = static_cast<char>(byte);
    insert({&c, 1}, echo);
  } else {
    edit_key(byte, echo);
  }
  return Event::None;
}

void LineEditor::edit_key(u8 byte, Sink& echo) {
  switch (byte) {
    case control('H'):
    case kDelete:
      if (cursor_ > 0) erase(cursor_ - 1, cursor_, echo);
      break;
    case control('A'): move_to(0, echo); break;
    case control('E'): move_to(length_, echo); break;
    case control('B'): move_to(cursor_ > 0 ? cursor_ - 1 : 0, echo); break;
    case control('F'): move_to(std::min(cursor_ + 1, length_), echo); break;
    case control('D'): erase(cursor_, std::min(cursor_ + 1, length_), echo); break;
    case control('K'): erase(cursor_, length_, echo); break;
    case control('U'): erase(0, cursor_, echo); break;
    case control('W'): erase_word(echo); break;
    case control('P'): walk_history(history_back_ + 1, echo); break;
    case control('N'):
      if (history_back_ > 0) walk_history(history_back_ - 1, echo);
      break;
    case control('L'): redraw(echo); break;
    case '\t': complete(echo); break;
    default: break;  // noise
  }
}

void LineEditor::escape_key(u8 byte, Sink& echo) {
  switch (state_) {
    case State::Escape:
      csi_length_ = 0;
      csi_parameter_ = 0;
      state_ = byte == '[' ? State::Csi : byte == 'O' ? State::Ss3 : State::Ground;
      return;
    case State::Csi:
      if (byte >= 0x40 || ++csi_length_ > kLongestCsi) break;
      // Only the first parameter's single digit means anything to us; two digits make another key of it.
      if (byte >= '0' && byte <= '9') csi_parameter_ = csi_length_ == 1 ? static_cast<u8>(byte - '0') : 0;
      return;
    case State::Ss3:
    case State::Ground: break;
  }
  const bool final = byte >= 0x40 && byte < 0x7f;
  state_ = State::Ground;
  if (final) csi_key(byte, echo);
}

void LineEditor::csi_key(u8 final, Sink& echo) {
  switch (final) {
    case 'A': edit_key(control('P'), echo); break;
    case 'B': edit_key(control('N'), echo); break;
    case 'C': edit_key(control('F'), echo); break;
    case 'D': edit_key(control('B'), echo); break;
    case 'H': edit_key(control('A'), echo); break;
    case 'F': edit_key(control('E'), echo); break;
    case '~':
      if (csi_parameter_ == 1 || csi_parameter_ == 7) edit_key(control('A'), echo);
      if (csi_parameter_ == 4 || csi_parameter_ == 8) edit_key(control('E'), echo);
      if (csi_parameter_ == 3) edit_key(control('D'), echo);
      break;
    default: break;
  }
}

LineEditor::Event LineEditor::finish(Sink& echo) {
  echo.write("\n");
  if (too_long_) {
    format_to(echo, "console: a line has at most {} characters; this one was dropped\n", kMaxLine);
    return Event::TooLong;
  }
  remember();
  return Event::Line;
}

void LineEditor::insert(std::string_view text, Sink& echo) {
  if (too_long_) return;
  if (text.size() > kMaxLine - length_) {
    too_long_ = true;
    echo.write("\a");
    return;
  }
  std::copy_backward(text_.begin() + cursor_, text_.begin() + length_, text_.begin() + length_ + text.size());
  std::copy(text.begin(), text.end(), text_.begin() + cursor_);
  length_ += text.size();
  echo.write({text_.data() + cursor_, length_ - cursor_});
  const usize wanted = cursor_ + text.size();
  cursor_ = length_;
  move_to(wanted, echo);
}

void LineEditor::erase_word(Sink& echo) {
  usize from = cursor_;
  while (from > 0 && text_[from - 1] == ' ') --from;
  while (from > 0 && text_[from - 1] != ' ') --from;
  erase(from, cursor_, echo);
}

}  // namespace paean
