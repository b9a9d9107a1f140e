// Descriptors of the serial console: text out, lines in.
#include <memory>

#include "kernel/console/line_sink.hpp"
#include "kernel/console_uart.hpp"
#include "kernel/process/process.hpp"
#include "lib/bytes.hpp"
#include "lib/log.hpp"
#include "mm/kmalloc.hpp"

namespace paean {

namespace {

constexpr u8 kEndOfFile = 4, kBackspace = 8, kDelete = 127;

/// What a person types, a line at a time, with an echo.
class LineInput {
 public:
  /// Takes what was typed by now. True if a line, or the end, is there.
  bool look() {
    while (!ready_) {
      const auto byte = console_try_read();
      if (!byte) break;
      feed(*byte);
    }
    return ready_;
  }

  Answer read(std::span<u8> into) {
    while (!look()) {
      if (interrupted()) return err::kRestart;
      thread_sleep_ms(kLookMs);
    }
    u32 count = 0;
    while (count < into.size() && taken_ < length_) into[count++] = line_[taken_++];
    if (taken_ == length_) ready_ = false, taken_ = length_ = 0;
    return static_cast<Answer>(count);
  }

 private:
  static constexpr u32 kLookMs = 10;

  void feed(u8 byte) {
    if (byte == '\r') byte = '\n';
    if (byte == kEndOfFile) {
      ready_ = true;
      return;
    }
    if (byte == kBackspace || byte == kDelete) {
      if (length_ == 0) return;
      --length_;
      return console_sink().write("\b \b");
    }
    if (length_ == sizeof line_ - 1 && byte != '\n') return;
    const char shown = static_cast<char>(byte);
    console_sink().write({&shown, 1});
    line_[length_++] = byte;
    ready_ = byte == '\n';
  }

  u8 line_[256]{};
  u32 length_ = 0, taken_ = 0;
  bool ready_ = false;
};

class ConsoleFile final : public FileObject {
 public:
  ConsoleFile() : FileObject(kOpenReadWrite) {}
  Answer read(CopyTarget into) override {
    constexpr u32 kLookMs = 10;
    while (!turn_.try_down()) {
      if (interrupted()) return err::kRestart;
      thread_sleep_ms(kLookMs);
    }
    const Answer answer = input_.read(into.kernel_bytes());
    turn_.up();
    return answer;
  }
  Answer write(CopySource from) override {
    const std::span<const u8> bytes = from.kernel_bytes();
    LineSink{console_sink()}.write({chars_at(bytes.data()), bytes.size()});
    return static_cast<Answer>(from.size());
  }
  bool is_terminal() const override { return true; }
  /// Looks at what was typed, unless somebody reads: then it is not there for others.
  u32 ready() override {
    if (!turn_.try_down()) return kReadyWrite;
    const bool line = input_.look();
    turn_.up();
    return kReadyWrite | (line ? kReadyRead : 0);
  }
  FileStatus status() const override {
    FileStatus status{};
    status.type = FileType::CharDevice;
    status.permissions = 0620;
    status.links = 1;
    status.device = 4 << 8 | 64;  // ttyS0
    return status;
  }

 private:
  void end() override {
    std::destroy_at(this);
    kfree(this);
  }
  LineInput input_;
  Semaphore turn_{1};  // several tasks may read
};

}  // namespace

Result<FileRef> open_console() {
  void* const place = TRY(kmalloc(sizeof(ConsoleFile), AllocFlags::Kernel));
  return FileRef{new (place) ConsoleFile};
}

}  // namespace paean
