// What every fuzzer needs: the input as numbers, and a check that stops the run with the line that failed.
//
// Each fuzzer turns its input into operations, does them on the real class and on a model that is too simple to be
// wrong, and compares everything that can be seen after every step.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <string>

#include "lib/format.hpp"

namespace paean::fuzz {

/// Numbers from the front of the input; zeros when it is used up.
class Input {
 public:
  Input(const u8* data, usize size) : data_(data), size_(size) {}

  bool empty() const { return size_ == 0; }
  u32 byte() {
    if (size_ == 0) return 0;
    --size_;
    return *data_++;
  }
  u32 word() { return byte() | (byte() << 8); }
  u64 wide() {
    u64 value = 0;
    for (int i = 0; i < 4; ++i) value = (value << 16) | word();
    return value;
  }
  /// 0 .. limit - 1.
  u32 below(u32 limit) { return (limit > 256 ? word() : byte()) % limit; }
  /// All that is left.
  std::string rest() {
    const char* begin = reinterpret_cast<const char*>(data_);
    std::string text(begin, size_);
    size_ = 0;
    return text;
  }

 private:
  const u8* data_;
  usize size_;
};

class StringSink final : public Sink {
 public:
  void write(std::string_view text) override { text_ += text; }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

}  // namespace paean::fuzz

#define CHECK(condition)                                                            \
  do {                                                                              \
    if (!(condition)) {                                                             \
      std::fprintf(stderr, "%s:%d: %s is false\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                 \
    }                                                                               \
  } while (false)
