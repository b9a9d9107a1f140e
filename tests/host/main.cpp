// Runs the host tests and reports them as TAP, one line a case, so that scripts count them like all other tests.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>
#include <string>

namespace {

int case_number = 0;

class TapListener : public doctest::IReporter {
 public:
  explicit TapListener(const doctest::ContextOptions& options) : list_only_(options.list_test_cases) {}

  void report_query(const doctest::QueryData&) override {}
  void test_run_start() override {}
  void test_run_end(const doctest::TestRunStats&) override {
    if (!list_only_) std::printf("1..%d\n", case_number);
  }
  void test_case_start(const doctest::TestCaseData& data) override {
    name_ = std::string{data.m_test_suite} + "." + data.m_name;
  }
  void test_case_reenter(const doctest::TestCaseData&) override {}
  void test_case_end(const doctest::CurrentTestCaseStats& stats) override {
    const bool passed = stats.failure_flags == 0;
    std::printf("%s %d host.%s\n", passed ? "ok" : "not ok", ++case_number, name_.c_str());
    std::fflush(stdout);
  }
  void test_case_exception(const doctest::TestCaseException&) override {}
  void subcase_start(const doctest::SubcaseSignature&) override {}
  void subcase_end() override {}
  void log_assert(const doctest::AssertData&) override {}
  void log_message(const doctest::MessageData&) override {}
  void test_case_skipped(const doctest::TestCaseData&) override {}

 private:
  bool list_only_;
  std::string name_;
};

DOCTEST_REGISTER_LISTENER("tap", 1, TapListener);

}  // namespace

int main(int argc, char** argv) {
  doctest::Context context;
  context.setOption("no-intro", true);
  context.setOption("no-version", true);
  context.applyCommandLine(argc, argv);
  return context.run();
}
