#include "kernel/cmdline.hpp"

#include <vector>

#include "support.hpp"

namespace paean::host {

TEST_SUITE("cmdline") {
  TEST_CASE("an empty line has nothing") {
    const CommandLine line{""};
    StringSink complaints;
    CHECK_FALSE(line.has("mem"));
    CHECK(line.size("vmalloc", 120 * kMiB, complaints) == 120 * kMiB);
    line.report_unknown(complaints);
    CHECK(complaints.text().empty());
    CHECK_FALSE(CommandLine{}.has("exit"));
  }

  TEST_CASE("flags and values, the last one wins") {
    const CommandLine line{"nosmp mem=1G quiet mem=2G root="};
    CHECK(line.has("nosmp"));
    CHECK(line.get("mem") == "2G");
    CHECK(line.get("root") == "");
    CHECK(line.get("quiet") == "");
    CHECK_FALSE(line.has("exit"));
  }

  TEST_CASE("quotes in both places") {
    CHECK(CommandLine{"run=\"meminfo; zoneinfo\" exit"}.get("run") == "meminfo; zoneinfo");
    CHECK(CommandLine{"\"run=meminfo; zoneinfo\" exit"}.get("run") == "meminfo; zoneinfo");
    CHECK(CommandLine{"\"run=meminfo; zoneinfo\" exit"}.has("exit"));
    CHECK(CommandLine{"run=\"never closed exit"}.get("run") == "\"never closed exit");
    CHECK_FALSE(CommandLine{"run=\"never closed exit"}.has("exit"));
    CHECK(CommandLine{"run=\"\""}.get("run") == "");
  }

  TEST_CASE("lists keep all values in order") {
    std::vector<std::string> values;
    CommandLine{"memmap=1M@0 x memmap=2M$4G,exactmap memmap"}.for_each(
        "memmap", [&](std::string_view value) { values.emplace_back(value); });
    CHECK(values == std::vector<std::string>{"1M@0", "2M$4G,exactmap", ""});
  }

  TEST_CASE("the image's path is no option") {
    for (const char* text : {"build/kernel.elf nosmp", "kernel.elf nosmp", "/a=b/kernel nosmp", "\"/a b/k\" nosmp"}) {
      CAPTURE(text);
      StringSink complaints;
      CommandLine{text}.report_unknown(complaints);
      CHECK(complaints.text() == "");
      CHECK(CommandLine{text}.has("nosmp"));
    }
    CHECK(CommandLine{"selftest.seed=5"}.has("selftest.seed"));
    StringSink complaints;
    CommandLine{"quiet a/b"}.report_unknown(complaints);
    CHECK(complaints.text() == "cmdline: unknown words ignored: a/b\n");
  }

  TEST_CASE("a malformed size is named with what is used instead") {
    StringSink complaints;
    const CommandLine line{"vmalloc=foo mem vmalloc_upper=12Q"};
    CHECK(line.size("vmalloc", 120 * kMiB, complaints) == 120 * kMiB);
    CHECK(complaints.text() == "cmdline: vmalloc=foo is not a size, using 120M instead\n");
    StringSink more;
    CHECK(line.size("mem", 5, more) == 5);
    CHECK(line.size("vmalloc_upper", 0, more) == 0);
    CHECK(more.text() ==
          "cmdline: mem= is not a size, using 5 instead\n"
          "cmdline: vmalloc_upper=12Q is not a size, using 0 instead\n");
  }

  TEST_CASE("numbers and their bounds") {
    StringSink complaints;
    const CommandLine line{"maxcpus=99 loglevel=0x7 pkmap=-1"};
    CHECK(line.number("loglevel", 4, complaints) == 7);
    CHECK(line.number_in("maxcpus", 1, 32, 32, complaints) == 32);
    CHECK(line.number("pkmap", 1024, complaints) == 1024);
    CHECK(complaints.text() ==
          "cmdline: maxcpus=99 is not in 1..32, using 32 instead\n"
          "cmdline: pkmap=-1 is not a number, using 1024 instead\n");
  }

  TEST_CASE("choices") {
    constexpr std::string_view kSplits[] = {"3G", "3.5G", "2G", "1G"};
    StringSink complaints;
    CHECK(CommandLine{"vmsplit=2G"}.choice("vmsplit", kSplits, 0, complaints) == 2);
    CHECK(CommandLine{"quiet"}.choice("vmsplit", kSplits, 0, complaints) == 0);
    CHECK(complaints.text().empty());
    CHECK(CommandLine{"vmsplit=4G"}.choice("vmsplit", kSplits, 0, complaints) == 0);
    CHECK(complaints.text() == "cmdline: vmsplit=4G is none of 3G 3.5G 2G 1G, using 3G instead\n");
    constexpr std::string_view kForce[] = {"force"};
    StringSink other;
    CHECK(CommandLine{"kmap=f"}.choice("kmap", kForce, 1, other) == 1);
    CHECK(other.text() == "cmdline: kmap=f is none of force, ignored\n");
  }

  TEST_CASE("unknown words are listed once, escaped and bounded") {
    StringSink complaints;
    CommandLine{"foo bar=1 foo quiet \x01\xff"}.report_unknown(complaints);
    CHECK(complaints.text() == "cmdline: unknown words ignored: foo bar=1 \\x01\\xff\n");

    std::string many = "quiet";
    for (int i = 0; i < 100; ++i) many += " w" + std::to_string(i);
    StringSink bounded;
    CommandLine{many}.report_unknown(bounded);
    CHECK(bounded.text().ends_with(" w15 and 84 more\n"));

    const std::string long_word(70000, 'z');
    StringSink shortened;
    CommandLine{long_word}.report_unknown(shortened);
    CHECK(shortened.text().size() < 120);
  }

  TEST_CASE("NUL bytes and noise are bytes like others") {
    const std::string text{"mem=1\0G quiet\0 exit", 19};
    const CommandLine line{text};
    StringSink complaints;
    CHECK(line.size("mem", 7, complaints) == 7);
    CHECK(complaints.text() == "cmdline: mem=1\\x00G is not a size, using 7 instead\n");
    CHECK_FALSE(line.has("quiet"));
    CHECK(line.has("exit"));
  }

  TEST_CASE("every option is documented and named once") {
    for (usize i = 0; i < kOptions.size(); ++i) {
      CHECK_FALSE(kOptions[i].help.empty());
      CHECK(find_option(kOptions[i].name) == i);
    }
    CHECK_FALSE(find_option("").has_value());
  }

  TEST_CASE("sizes are written with the largest unit that is exact") {
    const auto written = [](u64 bytes) {
      StringSink sink;
      write_size(sink, bytes);
      return sink.text();
    };
    CHECK(written(0) == "0");
    CHECK(written(120 * kMiB) == "120M");
    CHECK(written(kTiB) == "1T");
    CHECK(written(3 * kGiB + kGiB / 2) == "3584M");
    CHECK(written(4097) == "4097");
    CHECK(written(~u64{0}) == "18446744073709551615");
  }
}

}  // namespace paean::host
