// The console's parts on private instances. Also compiled into the host tests.
#include <algorithm>
#include <array>
#include <iterator>

#include "kernel/console/console.hpp"
#include "kernel/console/line_sink.hpp"
#include "kernel/console/text.hpp"
#include "kernel/test/ktest.hpp"

namespace paean {

namespace {

constinit std::array<char, 4096> buffer{};
constinit u32 calls = 0;

CommandStatus count(Args& args, Sink& out) {
  ++calls;
  format_to(out, "{};", args.rest());
  return CommandStatus::Ok;
}

CommandStatus fail(Args&, Sink&) { return CommandStatus::Failed; }

CommandStatus read(Args& args, Sink& out) {
  const auto number = args.number("N", 1000);
  if (!number) return CommandStatus::Usage;
  const auto size = args.size_or("SIZE", 4096);
  if (!size) return CommandStatus::Usage;
  if (args.more()) {
    const auto address = args.virt_address("VA");
    if (!address || !args.end()) return CommandStatus::Usage;
    format_to(out, "{} {} {:#x}\n", *number, *size, *address);
    return CommandStatus::Ok;
  }
  format_to(out, "{} {}\n", *number, *size);
  return CommandStatus::Ok;
}

CommandStatus again(Args& args, Sink& out) { return args.interpreter().run_line("again", out); }

void offer_sizes(CommandInterpreter&, std::string_view, Candidates& candidates) {
  candidates.add("4096");
  candidates.add("4M");
}

constexpr Command kCommands[] = {
    {"count", "[TEXT]", "counts", count},
    {"fail", "", "fails", fail},
    {"read", "N [SIZE] [VA]", "reads", read, offer_sizes},
    {"again", "", "calls itself", again},
    {"readme", "", "nothing", fail},
};

constinit CommandInterpreter commands{std::begin(kCommands), std::end(kCommands)};

std::string_view output_of(std::string_view line, CommandStatus& status) {
  BufferSink sink{buffer};
  status = commands.run_line(line, sink);
  return sink.view();
}

std::string_view completion_of(std::string_view line, u32& count) {
  static constinit std::array<char, 64> text{};
  Candidates candidates{last_word(line)};
  commands.complete(line, candidates);
  count = candidates.count();
  BufferSink sink{text};
  sink.write(candidates.common());
  return sink.view();
}

}  // namespace

KTEST(console, lists_run_in_order_with_quotes) {
  CommandStatus status;
  calls = 0;
  EXPECT_EQ(output_of("count a;count \"b;c\" d ;; ; count", status), "a;\"b;c\" d;;");
  EXPECT_EQ(calls, 3);
  EXPECT_EQ(status, CommandStatus::Ok);
  output_of("fail; count", status);
  EXPECT_EQ(calls, 4);
  EXPECT_EQ(status, CommandStatus::Failed);
}

KTEST(console, mistyped_command_is_guessed) {
  CommandStatus status;
  EXPECT_EQ(output_of("cuont", status), "console: no command 'cuont'; did you mean 'count'?\n");
  EXPECT_EQ(status, CommandStatus::Failed);
  EXPECT_EQ(output_of("\x01zzzzzz", status), "console: no command '\\x01zzzzzz'; 'help' lists them all\n");
}

KTEST(console, tables_are_walked_by_name) {
  struct Entry {
    const char* name;
  };
  constexpr Entry kEntries[] = {{"b"}, {"a"}, {"b"}, {"ab"}};
  const Entry* entry = nullptr;
  for (const u32 expected : {1, 3, 0, 2}) {
    entry = next_by_name(std::begin(kEntries), std::end(kEntries), entry);
    REQUIRE(entry != nullptr);
    EXPECT_EQ(entry - kEntries, expected);
  }
  EXPECT(next_by_name(std::begin(kEntries), std::end(kEntries), entry) == nullptr);
}

KTEST(console, distance_counts_slips) {
  EXPECT_EQ(edit_distance("meminfo", "meminfo"), 0);
  EXPECT_EQ(edit_distance("memifno", "meminfo"), 1);
  EXPECT_EQ(edit_distance("mminfoo", "meminfo"), 2);
  EXPECT_EQ(edit_distance("", "map"), 3);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3);
  EXPECT_EQ(edit_distance("a-word-of-more-than-thirty-two-characters", "a"), 32);
}

KTEST(console, arguments_are_read_or_explained) {
  CommandStatus status;
  EXPECT_EQ(output_of("read 0x10", status), "16 4096\n");
  EXPECT_EQ(output_of("read 1 2M c0100000", status), "1 2097152 0xc0100000\n");
  EXPECT_EQ(output_of("read 1 1 0xffffffff", status), "1 1 0xffffffff\n");
  EXPECT_EQ(status, CommandStatus::Ok);
  EXPECT_EQ(output_of("read", status), "read: N is missing\nusage: read N [SIZE] [VA]\n");
  EXPECT_EQ(status, CommandStatus::Usage);
  EXPECT_EQ(output_of("read ten", status), "read: N 'ten' is not a number\nusage: read N [SIZE] [VA]\n");
  EXPECT_EQ(output_of("read 1001", status), "read: N '1001' is too large, at most 0x3e8\nusage: read N [SIZE] [VA]\n");
  EXPECT(output_of("read 1 2X", status).starts_with("read: SIZE '2X' is not a size"));
  EXPECT(output_of("read 1 1 100000000", status).starts_with("read: VA '100000000' is too large"));
  EXPECT(output_of("read 1 1 0x", status).starts_with("read: VA '0x' is not a hexadecimal address"));
  EXPECT(output_of("read 1 1 11112222333344445", status).starts_with("read: VA '11112222333344445' is not a hex"));
  EXPECT(output_of("read 1 1 1 \x80", status).starts_with("read: '\\x80' is one word too many"));
}

KTEST(console, recursion_is_bounded) {
  CommandStatus status;
  EXPECT_EQ(output_of("again", status), "console: commands within commands, more than 4 deep\n");
  EXPECT_EQ(status, CommandStatus::Failed);
  EXPECT_EQ(output_of("count x", status), "x;");
}

KTEST(console, completion_offers_commands_and_arguments) {
  u32 count = 0;
  EXPECT_EQ(completion_of("co", count), "count");
  EXPECT_EQ(count, 1);
  EXPECT_EQ(completion_of("count x; re", count), "read");
  EXPECT_EQ(count, 2);
  completion_of("", count);
  EXPECT_EQ(count, 5);
  EXPECT_EQ(completion_of("read 4", count), "4");
  EXPECT_EQ(completion_of("read 40", count), "4096");
  completion_of("fail x", count);
  EXPECT_EQ(count, 0);
}

namespace {

/// The same through the kernel's own table, which has the console's commands.
std::string_view kernel_output_of(std::string_view line, CommandStatus& status) {
  BufferSink sink{buffer};
  status = run_command_line(line, sink);
  return sink.view();
}

}  // namespace

KTEST(console, echo_writes_safely) {
  CommandStatus status;
  EXPECT_EQ(kernel_output_of("echo  a  b ", status), "a  b\n");
  EXPECT_EQ(kernel_output_of("echo \"a;b\x1b\"; echo", status), "a;b\\x1b\n\n");
}

KTEST(console, repeat_repeats_and_stops) {
  CommandStatus status;
  EXPECT_EQ(kernel_output_of("repeat 2 \"echo a; echo b\"", status), "a\nb\na\nb\n");
  EXPECT_EQ(kernel_output_of("repeat 0 echo a", status), "");
  EXPECT_EQ(status, CommandStatus::Ok);
  EXPECT(kernel_output_of("repeat 9 repeat", status).ends_with("repeat: stopped after 1 of 9\n"));
  EXPECT_EQ(status, CommandStatus::Failed);
  EXPECT(kernel_output_of("repeat 2", status).starts_with("repeat: the command is missing\nusage: repeat N"));
  EXPECT(kernel_output_of("repeat x echo", status).starts_with("repeat: N 'x' is not a number\n"));
}

KTEST(console, help_lists_and_explains) {
  CommandStatus status;
  EXPECT(kernel_output_of("help echo", status).starts_with("echo [TEXT]\n    "));
  EXPECT(kernel_output_of("help ehco", status).starts_with("help: no command 'ehco'; did you mean this?\necho "));
  EXPECT_EQ(kernel_output_of("help \x01", status), "help: no command '\\x01'\n");
  EXPECT_EQ(status, CommandStatus::Failed);
  u32 seen = 0;
  for (const Command* command = kernel_commands().next(nullptr); command != nullptr;
       command = kernel_commands().next(command)) {
    EXPECT_EQ(kernel_commands().find(command->name), command);  // no name stands twice
    ++seen;
  }
  EXPECT(seen >= 3);
}

KTEST(console, arguments_complete_to_commands) {
  for (const std::string_view line : {"help ech", "repeat 3 ech", "repeat 3 \"echo x; ech"}) {
    Candidates candidates{last_word(line)};
    kernel_commands().complete(line, candidates);
    EXPECT_EQ(candidates.common(), "echo");
  }
}

KTEST(console, candidates_are_listed_in_columns) {
  BufferSink sink{buffer};
  Candidates candidates{"a-word-of", &sink};
  for (u32 i = 0; i < 4; ++i) candidates.add("a-word-of-thirty-characters-xx");
  candidates.add("another");
  EXPECT_EQ(sink.view(),
            "a-word-of-thirty-characters-xx  a-word-of-thirty-characters-xx  \n"
            "a-word-of-thirty-characters-xx  a-word-of-thirty-characters-xx  ");
}

namespace {

/// A wire on which everything has already arrived.
class FixedSource final : public ByteSource {
 public:
  explicit FixedSource(std::string_view text) : text_(text) {}
  std::optional<u8> try_read() override {
    if (text_.empty()) return std::nullopt;
    const u8 byte = static_cast<u8>(text_.front());
    text_.remove_prefix(1);
    return byte;
  }
  void wait() override {}

 private:
  std::string_view text_;
};

}  // namespace

KTEST(console, typed_ahead_is_not_lost) {
  FixedSource wire{"ab"};
  TypeAhead ahead{wire};
  EXPECT(!ahead.requested());
  EXPECT_EQ(ahead.try_read().value_or(0), u8{'a'});
  EXPECT(!ahead.requested());
  EXPECT_EQ(ahead.try_read().value_or(0), u8{'b'});
  EXPECT(!ahead.try_read().has_value());
}

KTEST(console, ctrl_c_stops_and_forgets) {
  FixedSource wire{"ab\x03z"};
  TypeAhead ahead{wire};
  EXPECT(ahead.requested());
  EXPECT_EQ(ahead.try_read().value_or(0), u8{'z'});
  EXPECT(!ahead.requested());
}

KTEST(console, prompt_runs_lines_of_a_pipe) {
  static constinit Console console{commands};
  BufferSink sink{buffer};
  console.start(sink);
  for (const char c : std::string_view{"count 1\ncount 2\r\ncount 3\rx\x7f\n"}) console.feed(static_cast<u8>(c), sink);
  EXPECT_EQ(sink.view(), "paean> count 1\n1;paean> count 2\n2;paean> count 3\n3;paean> x\b \b\npaean> ");
}

KTEST(console, line_sink_keeps_lines_whole) {
  BufferSink sink{buffer};
  {
    LineSink lines{sink};
    lines.write("one");
    EXPECT_EQ(sink.view(), "");
    lines.write(" line\nrest");
    EXPECT_EQ(sink.view(), "one line\n");
  }
  EXPECT_EQ(sink.view(), "one line\nrest");
}

}  // namespace paean
