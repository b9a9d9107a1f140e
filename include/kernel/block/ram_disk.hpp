// A disk in memory: `ram0`, made by `ramdisk=SIZE`. Its pages come from highmem; it reaches all memory, so nothing is
// ever bounced for it. A thread of its own does the copying and completes the commands, up to four at a time.
//
// Contents are zeros at first and are lost with the disk.
#pragma once

#include "kernel/block/device.hpp"
#include "kernel/wait.hpp"

namespace paean {

class RamDisk final : public BlockDevice {
 public:
  /// Registers it. TooLarge above 1 TiB or 2^28 pages, InvalidArgument for less than a page. May sleep.
  static Result<RamDisk*> create(std::string_view name, u64 bytes);
  /// Busy while it is open. May sleep.
  static Result<> destroy(RamDisk* disk);

  void start(BlockCommand& command) override;
  void abort(BlockCommand& command) override;

 private:
  static constexpr u32 kDepth = 4;

  RamDisk() = default;
  Result<> take_pages(u32 pages);
  void give_pages();
  void leave();
  static void serve(void* disk);
  BlockCommand* next();
  void carry_out(const BlockCommand& command);
  void copy_piece(BlockOp op, u64 disk_byte, const DmaPiece& piece);

  std::span<Page*> pages_{};
  Thread* thread_ = nullptr;
  // Written by start(), which the queue's lock serializes, and by the thread.
  BlockCommand* ring_[kDepth]{};
  u32 started_ = 0, ended_ = 0;
  u32 leaving_ = 0;
  WaitQueue work_;
};

}  // namespace paean
