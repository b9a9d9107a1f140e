#include "kernel/console/console.hpp"

#include "kernel/console/line_sink.hpp"

namespace paean {

namespace {

constexpr u8 kCtrlC = 0x03;

}  // namespace

std::optional<u8> TypeAhead::try_read() {
  if (count_ == 0) return source_.try_read();
  const u8 byte = ring_[first_];
  first_ = (first_ + 1) % kRingBytes;
  --count_;
  return byte;
}

void TypeAhead::wait() {
  if (count_ == 0) source_.wait();
}

bool TypeAhead::requested() {
  while (count_ < kRingBytes) {
    const std::optional<u8> byte = source_.try_read();
    if (!byte) return false;
    if (*byte == kCtrlC) {
      count_ = 0;
      return true;
    }
    ring_[(first_ + count_) % kRingBytes] = *byte;
    ++count_;
  }
  return false;
}

void Console::feed(u8 byte, Sink& out) {
  const LineEditor::Event event = editor_.feed(byte, out);
  if (event == LineEditor::Event::None) return;
  if (event == LineEditor::Event::Line) {
    LineSink lines{out};
    commands_.run_line(editor_.line(), lines);
  }
  editor_.begin(out);
}

}  // namespace paean
