// The log ring: the newest lines are there, whole and in order. Debug lines stay off the console.
#include "lib/log.hpp"

#include <array>
#include <utility>

#include "access.hpp"
#include "lib/symbols.hpp"
#include "threads.hpp"

namespace paean {

namespace {

/// Looks at the ring's lines one by one, without keeping them.
class LineReader : public Sink {
 public:
  void write(std::string_view text) override {
    for (const char c : text) {
      if (c != '\n') {
        if (length_ < sizeof line_) line_[length_] = c;
        ++length_;
        continue;
      }
      longest = length_ > longest ? length_ : longest;
      ++lines;
      look({line_, length_ < sizeof line_ ? length_ : sizeof line_});
      length_ = 0;
    }
  }
  virtual void look(std::string_view line) = 0;
  usize longest = 0;
  u32 lines = 0;

 protected:
  ~LineReader() = default;

 private:
  char line_[512]{};
  usize length_ = 0;
};

constexpr std::string_view kMark = "log-test line ";

/// Finds `log-test line N` lines and whether N rises by one.
class CountingReader final : public LineReader {
 public:
  void look(std::string_view line) override {
    if (!line.starts_with('[')) ++broken;
    const usize at = position_of(kMark, line);
    if (at == line.size()) return;
    line.remove_prefix(at + kMark.size());
    u32 number = 0;
    for (const char c : line) {
      if (c < '0' || c > '9') break;
      number = number * 10 + static_cast<u32>(c - '0');
    }
    if (found++ != 0 && number != last + 1) ++broken;
    last = number;
  }
  u32 found = 0, last = 0, broken = 0;
};

class Finder final : public LineReader {
 public:
  explicit Finder(std::string_view what) : what_(what) {}
  void look(std::string_view line) override {
    if (!contains(line, what_)) return;
    ++found;
    size = line.size();
  }
  u32 found = 0;
  usize size = 0;

 private:
  std::string_view what_;
};

constexpr std::string_view kPrinted = "# whole-line printed end\n", kLogged = "whole-line logged end";
constexpr u32 kWholeLines = 100;

/// Sees what the console shows while `watching`, line by line.
class ConsoleWatch final : public Sink {
 public:
  void write(std::string_view text) override {
    if (load(watching) == 0) return;
    for (const char c : text) {
      if (length_ < line_.size()) line_[length_++] = c;
      if (c == '\n') end_line();
    }
  }
  u32 watching = 0, printed = 0, logged = 0, broken = 0;

 private:
  void end_line() {
    const std::string_view line{line_.data(), length_};
    length_ = 0;
    if (!contains(line, "whole-line")) return;
    if (line == kPrinted)
      ++printed;
    else if (line.starts_with("# [") && line.substr(0, line.size() - 1).ends_with(kLogged))
      ++logged;
    else
      ++broken;
  }
  std::array<char, 256> line_{};
  usize length_ = 0;
};
constinit ConsoleWatch console_watch;

void print_whole_lines(void*) {
  for (u32 i = 0; i < kWholeLines; ++i) console_sink().write(kPrinted);
}

}  // namespace

// Two CPUs at once: what one call writes stays together.
KTEST(log, no_line_lands_in_another) {
  static constinit bool added = false;
  if (!std::exchange(added, true)) add_console_sink(console_watch);
  console_watch.printed = console_watch.logged = console_watch.broken = 0;
  {
    Crew<1> crew;
    store(console_watch.watching, 1);
    REQUIRE(crew.add("print", print_whole_lines, nullptr, elsewhere()));
    for (u32 i = 0; i < kWholeLines; ++i) log_info("{}", kLogged);
  }
  store(console_watch.watching, 0);
  EXPECT_EQ(console_watch.broken, 0u);
  EXPECT_EQ(console_watch.printed, kWholeLines);
  EXPECT_EQ(console_watch.logged, kWholeLines);
}

KTEST(log, the_newest_lines_are_kept_in_order) {
  constexpr u32 kLines = 4000;  // more than the ring holds
  for (u32 i = 0; i < kLines; ++i) log(LogLevel::Debug, "{}{}", kMark, i);
  CountingReader reader;
  dump_log(reader);
  EXPECT_EQ(reader.last, kLines - 1);
  EXPECT_EQ(reader.broken, 0);
  EXPECT(reader.found > 500 && reader.found < kLines);
}

KTEST(log, long_lines_are_cut_and_harm_nobody) {
  char text[601];
  for (char& c : text) c = 'y';
  text[600] = '\0';
  log(LogLevel::Debug, "cut-test before");
  log(LogLevel::Debug, "cut-test {} end-of-cut-test", std::string_view{text, 600});
  log(LogLevel::Debug, "cut-test after");
  Finder all{"cut-test "}, end{"end-of-cut-test"}, last{"cut-test after"};
  dump_log(all);
  dump_log(end);
  dump_log(last);
  EXPECT(all.found >= 3);
  EXPECT_EQ(end.found, 0);
  EXPECT(last.found >= 1);
  EXPECT(all.longest <= 256);
}

KTEST(log, lines_carry_the_time) {
  log(LogLevel::Debug, "time-test");
  Finder finder{"time-test"};
  dump_log(finder);
  EXPECT(finder.found >= 1);
  EXPECT_EQ(finder.size, std::string_view{"[    0.000000] time-test"}.size());
}

KTEST(symbols, functions_have_names) {
  const Symbol here = find_symbol(address_of(__builtin_return_address(0)));
  EXPECT(contains(here.name, "TestRunner"));
  EXPECT(here.offset < here.size);
  EXPECT(find_symbol(VirtAddr{0}).name.empty());
  EXPECT(find_symbol(VirtAddr{0xc0000000}).name.empty());
  EXPECT(find_symbol(image_rodata().start).name.empty());
  const VirtAddr main = find_symbol_address("kernel_main");
  EXPECT(image_text().contains(main));
  EXPECT_EQ(find_symbol(main + 1).name, "kernel_main");
  EXPECT_EQ(number(find_symbol_address("no such function")), 0);
}

}  // namespace paean
