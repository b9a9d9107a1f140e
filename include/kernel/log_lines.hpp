// A Sink for code that complains in lines: each line becomes a log line of one level.
#pragma once

#include "lib/log.hpp"

namespace paean {

class LogLines final : public Sink {
 public:
  explicit LogLines(LogLevel level) : level_(level) {}
  ~LogLines() {
    if (length_ != 0) flush();
  }
  LogLines(const LogLines&) = delete;
  LogLines& operator=(const LogLines&) = delete;

  void write(std::string_view text) override {
    for (const char c : text) {
      if (c == '\n' || length_ == sizeof buffer_) flush();
      if (c != '\n') buffer_[length_++] = c;
    }
  }

 private:
  void flush() {
    log(level_, "{}", std::string_view{buffer_, length_});
    length_ = 0;
  }

  LogLevel level_;
  usize length_ = 0;
  char buffer_[220]{};
};

}  // namespace paean
