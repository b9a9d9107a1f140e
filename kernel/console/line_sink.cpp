#include "kernel/console/line_sink.hpp"

namespace paean {

void LineSink::write(std::string_view text) {
  for (const char c : text) {
    buffer_[length_++] = c;
    if (c == '\n' || length_ == buffer_.size()) flush();
  }
}

void LineSink::flush() {
  if (length_ != 0) out_.write({buffer_.data(), length_});
  length_ = 0;
}

}  // namespace paean
