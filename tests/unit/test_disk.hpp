// A disk in memory that does what a test tells it: reaches little, is held up, fails, never answers, answers too late,
// finishes in an interrupt. It looks at every piece that it is given: inside its reach, not over its boundary, sizes as
// its limits say.
#pragma once

#include "kernel/block/device.hpp"
#include "kernel/sync.hpp"
#include "kernel/wait.hpp"

namespace paean {

class TestDisk final : public BlockDevice {
 public:
  enum class Finish : u8 { InThread, InInterrupt };
  enum class Abort : u8 { Silent, AnswersFirst };
  enum class Clock : u8 { FromStart, FromThread };

  explicit TestDisk(BlockLimits limits, u32 sectors = 4096);
  ~TestDisk();
  TestDisk(const TestDisk&) = delete;
  TestDisk& operator=(const TestDisk&) = delete;

  /// With its thread and its memory, under the name "test". It begins to misbehave when it is connected.
  [[nodiscard]] bool connect();
  /// What a test may do to it while it works.
  void hold() { __atomic_store_n(&held_, 1, __ATOMIC_SEQ_CST); }
  void let_go();
  /// A test has unregistered it.
  void disconnected() { connected_ = false; }
  void refuse_writes() { read_only_ = true; }
  u8* contents() const { return contents_; }

  void (*fill)(u8* contents) = nullptr;  // before the device is registered
  bool table_is_bad = false;             // sector 0 fails while the device is registered
  Finish finish = Finish::InThread;
  Abort on_abort = Abort::Silent;
  Clock clock = Clock::FromStart;  // FromThread: the thread is its hardware, what is held up waits in the driver
  Sector bad_first = ~Sector{0}, bad_last = ~Sector{0};  // sectors that fail
  u32 mute = 0;                                          // so many commands are never answered
  // What it saw.
  u32 commands = 0, violations = 0, aborts = 0, flushes = 0, ends_of_starts = 0;
  u32 most_sectors = 0;
  Sector order[64]{};  // first sectors of the first commands

  void start(BlockCommand& command) override;
  void end_of_starts() override { ++ends_of_starts; }
  void abort(BlockCommand& command) override;

 private:
  static void serve(void* disk);
  bool wait_for_work();
  BlockCommand* take();
  void look_at(const BlockCommand& command);
  Result<> carry_out(const BlockCommand& command);
  void answer(BlockCommand& command, Result<> result);

  u8* contents_ = nullptr;
  Thread* thread_ = nullptr;
  bool connected_ = false;
  SpinLock lock_{LockRank::Bounce};
  BlockCommand* waiting_[256] GUARDED_BY(lock_){};
  u32 first_ GUARDED_BY(lock_) = 0, last_ GUARDED_BY(lock_) = 0;
  u32 held_ = 0, leaving_ = 0;
  WaitQueue work_;
};

}  // namespace paean
