// The line editor against a model of a line and a model of a terminal: whatever is typed, the screen shows the line.
#include "kernel/console/line_editor.hpp"

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "support.hpp"

namespace paean::host {

namespace {

/// A terminal that knows what the editor may send, and complains about everything else.
class Terminal final : public Sink {
 public:
  void write(std::string_view text) override {
    log += text;
    for (const char c : text) put(c);
  }

  std::string row;  // the row of the cursor, without blanks at its end
  usize column = 0;
  u32 bells = 0;
  std::string log;

  std::string visible() const {
    const usize end = row.find_last_not_of(' ');
    return end == std::string::npos ? "" : row.substr(0, end + 1);
  }

 private:
  void put(char c) {
    if (!escape_.empty()) {
      escape_ += c;
      if (escape_ == "\x1b[H" || escape_ == "\x1b[2J") {
        row.clear();
        column = 0;
        escape_.clear();
      }
      CHECK(escape_.size() < 4);
      return;
    }
    switch (c) {
      case '\n':
        row.clear();
        column = 0;
        return;
      case '\b':
        CHECK(column > 0);
        --column;
        return;
      case '\a': ++bells; return;
      case '\x1b': escape_ = "\x1b"; return;
      default: break;
    }
    CHECK(c >= 0x20);
    CHECK(c < 0x7f);
    if (column >= row.size()) row.resize(column + 1, ' ');
    row[column++] = c;
  }

  std::string escape_;
};

class Words final : public Completer {
 public:
  void complete(std::string_view before, Candidates& candidates) override {
    seen = before;
    for (const char* word : {"meminfo", "memory", "map", "zoneinfo"}) candidates.add(word);
  }
  std::string seen;
};

/// An editor with its terminal; type() returns the lines that were finished.
class Session {
 public:
  explicit Session(Completer* completer = nullptr) : editor_("> ", completer) { editor_.begin(terminal); }

  std::vector<std::string> type(std::string_view keys) {
    std::vector<std::string> lines;
    for (const char c : keys) {
      const LineEditor::Event event = editor_.feed(static_cast<u8>(c), terminal);
      if (event == LineEditor::Event::None) continue;
      if (event == LineEditor::Event::Line) lines.emplace_back(editor_.line());
      editor_.begin(terminal);
    }
    return lines;
  }
  std::string line() const { return std::string{editor_.line()}; }
  bool shows(const std::string& text, usize cursor) const {
    std::string expected = "> " + text;
    while (!expected.empty() && expected.back() == ' ') expected.pop_back();
    return terminal.visible() == expected && terminal.column == cursor + 2;
  }

  Terminal terminal;

 private:
  LineEditor editor_;
};

using Lines = std::vector<std::string>;

}  // namespace

TEST_SUITE("line_editor") {
  TEST_CASE("every kind of line end ends one line") {
    CHECK(Session().type("a\nb\rc\r\nd\r\n") == Lines{"a", "b", "c", "d"});
    CHECK(Session().type("\n\r\r\n") == Lines{"", "", ""});
  }

  TEST_CASE("editing keys") {
    CHECK(Session().type("helo\x1b[Dl\n") == Lines{"hello"});
    CHECK(Session().type("ab\x7f\x08x\n") == Lines{"x"});
    CHECK(Session().type("world\x01hello \x05!\n") == Lines{"hello world!"});
    CHECK(Session().type("one two  \x17x\n") == Lines{"one x"});
    CHECK(Session().type("one two\x02\x02\x0b\n") == Lines{"one t"});
    CHECK(Session().type("one two\x02\x02\x15\n") == Lines{"wo"});
    CHECK(Session().type("abc\x01\x04\n") == Lines{"bc"});
    CHECK(Session().type("abc\x1b[H\x1b[3~\x1b[F!\n") == Lines{"bc!"});
    CHECK(Session().type("abc\x1bOH\x1b[1;5Cx\x1b[4~y\n") == Lines{"axbcy"});
    CHECK(Session().type("lost\x03kept\n") == Lines{"kept"});
    CHECK(Session().type("\x04\x7f\x17\x15\x0b\x02\x06"
                         "a\n") == Lines{"a"});
  }

  TEST_CASE("clearing the screen keeps line and cursor") {
    Session session;
    session.type("abc\x02\x0c");
    CHECK(session.shows("abc", 2));
  }

  TEST_CASE("history walks back, forth and to the draft") {
    Session session;
    session.type("one\ntwo\n\ntwo\n");
    CHECK(session.type("\x1b[A\n") == Lines{"two"});
    CHECK(session.type("\x1b[A\x1b[A\n") == Lines{"one"});
    CHECK(session.type("dra\x10\x10\x10\x10\x10\x0e\x0e\x0e\x0e"
                       "ft\n") == Lines{"draft"});
  }

  TEST_CASE("history keeps sixteen lines") {
    Session session;
    for (u32 i = 0; i < 20; ++i) session.type("line" + std::to_string(i) + "\n");
    std::string up;
    for (u32 i = 0; i < 30; ++i) up += "\x1b[A";
    CHECK(session.type(up + "\n") == Lines{"line4"});
  }

  TEST_CASE("completion") {
    Words words;
    Session session{&words};
    session.type("help z\t");
    CHECK(session.line() == "help zoneinfo ");
    CHECK(words.seen == "help z");
    session.type("\x15me\t");
    CHECK(session.line() == "mem");
    CHECK(session.terminal.log.find("memory") == std::string::npos);
    session.type("\t");
    CHECK(session.terminal.log.find("meminfo  memory  \n") != std::string::npos);
    CHECK(session.shows("mem", 3));
    session.type("\x15xyz\t");
    CHECK(session.terminal.bells == 1);
    session.type(
        "\x15"
        "ap\x01m\t");
    CHECK(session.line() == "map");
    CHECK(session.shows("map", 1));
  }

  TEST_CASE("a line of 512 characters is kept and one of 513 dropped") {
    const std::string longest(512, 'x');
    CHECK(Session().type(longest + "\n") == Lines{longest});
    CHECK(Session().type(longest + "x\n").empty());
    Session session;
    CHECK(session.type(longest + "xyz\x7f\x10\x15\nok\n") == Lines{"ok"});
    CHECK(session.terminal.bells == 1);
    CHECK(session.terminal.log.find("at most 512 characters") != std::string::npos);
    CHECK(session.type(std::string(100'000, 'y') + "\r\nfine\r\n") == Lines{"fine"});
  }

  TEST_CASE("broken escape sequences do not swallow a line end") {
    CHECK(Session().type("a\x1b\nb\x1b[\nc\x1b[12;\nd\x1bO\n") == Lines{"a", "b", "c", "d"});
    CHECK(Session().type("\x1b\x1b\x1b[Da\x1b[99999999999999999999\nz\n").back() == "z");
    CHECK(Session().type("a\x1b[\xff"
                         "b\x80\xfe\n") == Lines{"ab"});
  }

  TEST_CASE("noise is never echoed") {
    std::mt19937 random{1};
    Words words;
    Session session{&words};  // its terminal checks every byte
    std::string noise;
    for (u32 i = 0; i < 300'000; ++i) noise += static_cast<char>(random());
    session.type(noise);
    CHECK(session.type("\x03"
                       "after\n") == Lines{"after"});
  }

  TEST_CASE("random keys leave the screen as a model has it") {
    std::mt19937 random{2};
    Session session;
    std::string text;
    usize cursor = 0;
    for (u32 step = 0; step < 100'000; ++step) {
      std::string key;
      switch (random() % 12) {
        case 0:
          key = "\x7f";
          if (cursor > 0) text.erase(--cursor, 1);
          break;
        case 1:
          key = "\x1b[D";
          if (cursor > 0) --cursor;
          break;
        case 2:
          key = "\x1b[C";
          cursor = std::min(cursor + 1, text.size());
          break;
        case 3:
          key = "\x01";
          cursor = 0;
          break;
        case 4:
          key = "\x1b[F";
          cursor = text.size();
          break;
        case 5:
          key = "\x04";
          if (cursor < text.size()) text.erase(cursor, 1);
          break;
        case 6:
          if (random() % 8 != 0) break;
          key = "\x0b";
          text.resize(cursor);
          break;
        case 7:
          if (random() % 8 != 0) break;
          key = "\x15";
          text.erase(0, cursor);
          cursor = 0;
          break;
        default:
          if (text.size() == 512) break;
          key = std::string(1, static_cast<char>(' ' + random() % 95));
          text.insert(cursor++, key);
          break;
      }
      session.type(key);
      REQUIRE(session.line() == text);
      REQUIRE(session.shows(text, cursor));
    }
  }
}

}  // namespace paean::host
