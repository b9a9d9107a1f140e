// One line of input, edited: bytes in, echo out, finished lines back.
//
//   LineEditor editor;                         // constinit: 17 lines of 512 bytes, no allocation
//   editor.begin(sink);                        // shows the prompt
//   if (editor.feed(byte, sink) == LineEditor::Event::Line) use(editor.line());
//
// Keys: printable ASCII inserts; Backspace and DEL delete backwards; Left, Right, Home, End, Ctrl-A, E, B, F move;
// Ctrl-D and Delete delete forwards; Ctrl-K, U, W delete to the end, to the start, a word; Up, Down, Ctrl-P, N walk the
// history of 16 lines; TAB completes; Ctrl-L clears the screen; Ctrl-C drops the line. CR, LF or CR LF end it.
// Everything else - bytes from 0x80 up, other control bytes, unknown or broken escape sequences - is swallowed and
// never echoed, so noise on the wire can move the cursor at worst. Only backspaces move the cursor back, so the echo is
// as readable in a pipe's log as on a terminal.
//
// A line of more than 512 bytes is dropped as a whole: a bell when it grows too long, one message when it ends.
// Running the first 512 bytes of something else would be worse than running nothing.
// Context: one thread at a time; pure apart from the two interfaces it is given.
#pragma once

#include <array>
#include <string_view>

#include "kernel/console/completion.hpp"
#include "lib/format.hpp"

namespace paean {

class LineEditor {
 public:
  static constexpr usize kMaxLine = 512;
  static constexpr u32 kHistoryLines = 16;

  enum class Event : u8 {
    None,     // still editing
    Line,     // line() is complete
    TooLong,  // the line was dropped, and the message has been written
    Dropped,  // Ctrl-C
  };

  constexpr explicit LineEditor(std::string_view prompt = "", Completer* completer = nullptr)
      : prompt_(prompt), completer_(completer) {}

  /// Starts an empty line and shows the prompt.
  void begin(Sink& echo);
  /// One byte of input. After any event but None, call begin() before the next byte.
  Event feed(u8 byte, Sink& echo);
  /// The text of the last Event::Line, without its end; valid until begin().
  std::string_view line() const { return {text_.data(), length_}; }

 private:
  enum class State : u8 { Ground, Escape, Csi, Ss3 };
  struct StoredLine {
    u16 length = 0;
    std::array<char, kMaxLine> text{};
  };

  Event ground(u8 byte, Sink& echo);
  void edit_key(u8 byte, Sink& echo);
  void escape_key(u8 byte, Sink& echo);
  void csi_key(u8 final, Sink& echo);
  Event finish(Sink& echo);
  void insert(std::string_view text, Sink& echo);
  void erase(usize from, usize to, Sink& echo);
  void erase_word(Sink& echo);
  void move_to(usize position, Sink& echo);
  void replace_line(std::string_view text, Sink& echo);
  void redraw(Sink& echo);
  void remember();
  void walk_history(u32 steps_back, Sink& echo);
  void complete(Sink& echo);
  const StoredLine& stored(u32 steps_back) const;

  std::string_view prompt_;
  Completer* completer_;
  State state_ = State::Ground;
  bool last_was_cr_ = false;
  bool too_long_ = false;
  u8 csi_length_ = 0;
  u8 csi_parameter_ = 0;  // the first number of the sequence: 3 in ESC [ 3 ~
  usize length_ = 0;
  usize cursor_ = 0;
  std::array<char, kMaxLine> text_{};
  StoredLine draft_{};     // what was being typed when the walk through the history began
  u32 history_count_ = 0;  // lines kept, at most kHistoryLines
  u32 history_next_ = 0;   // where the next one goes
  u32 history_back_ = 0;   // 0: the draft, 1: the newest line, ...
  std::array<StoredLine, kHistoryLines> history_{};
};

}  // namespace paean
