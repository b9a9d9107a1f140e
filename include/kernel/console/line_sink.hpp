// Collects text into whole lines, so that a log line from an interrupt never lands inside one.
#pragma once

#include <array>
#include <string_view>

#include "lib/format.hpp"

namespace paean {

/// Passes text on at each line end, when its buffer is full, and at its own end. One user at a time.
class LineSink final : public Sink {
 public:
  explicit LineSink(Sink& out) : out_(out) {}
  ~LineSink() { flush(); }
  LineSink(const LineSink&) = delete;
  LineSink& operator=(const LineSink&) = delete;

  void write(std::string_view text) override;

 private:
  void flush();

  Sink& out_;
  usize length_ = 0;
  std::array<char, 256> buffer_;  // as long as a log line may be
};

}  // namespace paean
