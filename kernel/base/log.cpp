#include "lib/log.hpp"

#include "arch/tsc.hpp"
#include "kernel/spinlock.hpp"

namespace paean {

namespace {

constexpr u32 kRingSize = 64 * 1024;  // a boot at 256 GB says about 12 KiB
constexpr u32 kMaxLine = 256;
constexpr u32 kMaxSinks = 4;

/// Bytes of the last lines; the oldest fall out.
class Ring {
 public:
  void write(std::string_view text) {
    for (const char c : text) {
      bytes_[written_ % kRingSize] = c;
      ++written_;
    }
  }
  void dump(Sink& out) const {
    u32 from = written_ > kRingSize ? written_ - kRingSize : 0;
    if (from != 0) {
      while (from < written_ && bytes_[from % kRingSize] != '\n') ++from;  // a line that lost its beginning
      ++from;
    }
    while (from < written_) {
      const u32 at = from % kRingSize;
      const u32 here = kRingSize - at < written_ - from ? kRingSize - at : written_ - from;
      out.write({bytes_ + at, here});
      from += here;
    }
  }

 private:
  char bytes_[kRingSize]{};
  u32 written_ = 0;
};

/// Every console device; text passes through unchanged.
class AllSinks final : public Sink {
 public:
  void write(std::string_view text) override {
    for (u32 i = 0; i < count_; ++i) sinks_[i]->write(text);
  }
  void add(Sink& sink) {
    if (count_ < kMaxSinks) sinks_[count_++] = &sink;
  }

 private:
  Sink* sinks_[kMaxSinks]{};
  u32 count_ = 0;
};

constinit SpinLock log_lock{LockRank::LogRing};
constinit Ring ring GUARDED_BY(log_lock);
constinit AllSinks all_sinks;

class ConsoleSink final : public Sink {
 public:
  void write(std::string_view text) override {
    const SpinGuard<IrqSave> guard{log_lock};
    all_sinks.write(text);
  }
};
constinit ConsoleSink locked_sinks;

constinit LogLevel console_level = LogLevel::Info;
constinit const char* line_prefix = "";

}  // namespace

void vlog(LogLevel level, std::string_view format, FormatArgs args) {
  char text[kMaxLine];
  BufferSink line{text};
  const u64 now = arch::microseconds_since_entry();
  format_to(line, "[{:>5}.{:06}] ", now / 1'000'000, now % 1'000'000);
  vformat_to(line, format, args);
  const SpinGuard<IrqSave> guard{log_lock};
  ring.write(line.view());
  ring.write("\n");
  if (level > console_level) return;
  all_sinks.write(line_prefix);
  all_sinks.write(line.view());
  all_sinks.write("\n");
}

Sink& console_sink() { return locked_sinks; }
Sink& panic_sink() { return all_sinks; }
void set_console_loglevel(LogLevel level) { console_level = level; }
void set_log_prefix(const char* prefix) { line_prefix = prefix; }
void add_console_sink(Sink& sink) { all_sinks.add(sink); }

void dump_log(Sink& out) {
  // Without the lock: the reader prints slowly, and a line that changes meanwhile costs one garbled line.
  [&]() NO_THREAD_SAFETY_ANALYSIS { ring.dump(out); }();
}

}  // namespace paean
