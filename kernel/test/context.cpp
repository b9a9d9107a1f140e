// What a test can say and ask while it runs.
#include "kernel/test/ktest.hpp"

namespace paean {

namespace {

/// FNV-1a: spreads a name over 64 bits.
u64 hash_name(std::string_view name) {
  u64 hash = 0xcbf29ce484222325;
  for (const char c : name) hash = (hash ^ static_cast<u8>(c)) * 0x100000001b3;
  return hash;
}

}  // namespace

TestRandom::TestRandom(u64 seed, std::string_view name) : state_(seed * 0x9e3779b97f4a7c15 ^ hash_name(name)) {
  if (state_ == 0) state_ = 1;  // the one state that xorshift cannot leave
}

u32 TestRandom::next() {
  state_ ^= state_ >> 12;
  state_ ^= state_ << 25;
  state_ ^= state_ >> 27;
  return static_cast<u32>((state_ * 0x2545f4914f6cdd1d) >> 32);
}

void TestContext::write_note(const char* format, FormatArgs args) {
  out_.write("# ");
  vformat_to(out_, format, args);
  out_.write("\n");
}

bool TestContext::shows_failure(SourceLine where) {
  if (failures_++ > kShownFailures) return false;
  if (failures_ > kShownFailures) {
    out_.write("# further failures of this test are not shown\n");
    return false;
  }
  format_to(out_, "# {}:{}: ", where.file, where.line);
  return true;
}

void TestContext::fail(SourceLine where, const char* condition) {
  if (shows_failure(where)) format_to(out_, "failed: {}\n", condition);
}

void TestContext::fail_equal(SourceLine where, const char* texts, FormatArg actual, FormatArg expected) {
  if (!shows_failure(where)) return;
  const FormatArg args[] = {FormatArg{texts}, actual, expected};
  vformat_to(out_, "failed: {}: {} against {}\n", args);
}

void TestContext::expect_panic(std::string_view text) {
  panic_expected_ = true;
  note("expect: {}", text);
}

}  // namespace paean
