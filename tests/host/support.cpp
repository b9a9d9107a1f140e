// The host's end of lib/assert.hpp: print, then abort, so that the sanitizers show the stack.
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "lib/assert.hpp"

#ifdef PAEAN_HOST_TESTS
#include "support.hpp"
#endif

namespace paean {

namespace {

class TextSink final : public Sink {
 public:
  void write(std::string_view text) override { text_ += text; }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

#ifdef PAEAN_HOST_TESTS
int expected_panics = 0;
#endif

[[noreturn]] void stop(SourceLine where, const std::string& message) {
#ifdef PAEAN_HOST_TESTS
  if (expected_panics > 0) throw host::Panic(message);
#endif
  std::fprintf(stderr, "PANIC: %s at %s:%u\n", message.c_str(), where.file, where.line);
  std::abort();
}

}  // namespace

void panic_at(SourceLine where, const char* format, FormatArgs args) {
  TextSink sink;
  vformat_to(sink, format, args);
  stop(where, sink.text());
}

void assert_failed(SourceLine where, const char* condition) {
  stop(where, std::string{"assertion failed: "} + condition);
}

#ifdef PAEAN_HOST_TESTS
namespace host {

ExpectPanic::ExpectPanic() { ++expected_panics; }
ExpectPanic::~ExpectPanic() { --expected_panics; }

}  // namespace host
#endif

}  // namespace paean
