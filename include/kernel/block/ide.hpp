// IDE disks behind a bus master: two channels, two disks on each.
//
//   queue of hda --start--> +---------+
//                           | channel | --one command--> disk --interrupt 14 / 15--> finish()
//   queue of hdb --start--> +---------+
//                            a command of the other disk waits here, and is next; its time begins when it has
//                            the channel
//
// The channel does one command at a time for its two disks; each queue hands over one. Memory is described to the bus
// master by a table of address, length pairs below 4 GiB; no entry crosses 64 KiB.
//
// An interrupt is believed only when the bus master has seen it and the disk is no longer busy. Where none comes,
// abort() looks for itself first: one that was lost costs its time and nothing else. A disk that never answers: abort()
// stops the bus master and resets the channel, which the other disk of the channel survives. A channel that stays busy
// after that is dead, and all commands end with Io.
// Ports are found at the legacy addresses or in the base registers, whichever mode each channel is in. Packet devices
// (CD-ROM) and disks without DMA are named in the log and left alone.
// Source: "Programming Interface for Bus Master IDE Controller", Intel 1994; 82371FB/SB (PIIX) data sheet.
#pragma once

#include <atomic>

#include "kernel/block/deferred.hpp"
#include "kernel/block/device.hpp"
#include "kernel/block/ide_identify.hpp"
#include "kernel/block/ide_ports.hpp"
#include "kernel/spinlock.hpp"
#include "mm/page.hpp"

namespace paean {

class IdeChannel;

class IdeDisk final : public BlockDevice {
 public:
  IdeDisk(IdeChannel& channel, u8 unit) : channel_(channel), unit_(unit) {}

  /// What it said of itself; name and limits follow from it.
  void describe(std::string_view name, const IdeIdentity& identity);
  void start(BlockCommand& command) override;
  void abort(BlockCommand& command) override;
  /// 0 master, 1 slave.
  u8 unit() const { return unit_; }

 private:
  friend class IdeChannel;
  IdeChannel& channel_;
  u8 unit_;
  bool lba48_ = false, flush_ = false;
  u32 errors_told_ = 0;
  BlockCommand* waiting_ = nullptr;  // the channel's lock: handed over and not begun
};

class IdeChannel {
 public:
  explicit IdeChannel(const IdePorts& ports)
      : ports_(ports), disks_{{*this, 0}, {*this, 1}}, fail_call_(fail_waiting, this) {}
  IdeChannel(const IdeChannel&) = delete;
  IdeChannel& operator=(const IdeChannel&) = delete;

  /// Memory for the table. OutOfMemory.
  Result<> init();
  /// Asks for a disk, without interrupts. NotFound, NotSupported for a packet device, TimedOut. May sleep.
  Result<IdeIdentity> identify(u8 unit);
  /// From here on disks interrupt; the handler is there. And no more.
  void allow_interrupts();
  void forbid_interrupts();
  /// Gives its memory back. Its disks are not registered, and its handler is gone.
  void release();
  IdeDisk& disk(u8 unit) { return disks_[unit]; }

  void hand_over(IdeDisk& disk, BlockCommand& command);
  void abort(IdeDisk& disk, BlockCommand& command);
  /// True if the interrupt was this channel's.
  static bool on_interrupt(void* channel);

 private:
  struct Entry {
    u32 address;
    u16 bytes;  // 0: 64 KiB
    u16 flags;
  };
  static_assert(sizeof(Entry) == 8);

  struct Finished {
    IdeDisk* disk = nullptr;
    BlockCommand* command = nullptr;
    Result<> result{};
    u8 status = 0, error = 0;
  };

  void begin_next() REQUIRES(lock_);
  void begin(IdeDisk& disk, BlockCommand& command) REQUIRES(lock_);
  void fill_table(std::span<const DmaPiece> pieces) REQUIRES(lock_);
  void write_task(const IdeDisk& disk, const BlockCommand& command) REQUIRES(lock_);
  bool take_finished(Finished& finished) REQUIRES(lock_);
  void look_for_answer();
  bool take_back(IdeDisk& disk, const BlockCommand& command);
  bool reset();
  bool wait_not_busy(u32 milliseconds);
  static void tell(Finished& finished);
  static void fail_waiting(void* channel);

  IdePorts ports_;
  IdeDisk disks_[2];
  DeferredCall fail_call_;
  Page* table_page_ = nullptr;  // of lowmem
  Entry* table_ = nullptr;
  PhysAddr table_address_{};
  SpinLock lock_{LockRank::BlockDriver};
  IdeDisk* active_disk_ GUARDED_BY(lock_) = nullptr;
  BlockCommand* active_ GUARDED_BY(lock_) = nullptr;
  bool given_ GUARDED_BY(lock_) = false;  // the disk was ready and has got `active_`
  u8 last_unit_ GUARDED_BY(lock_) = 1;
  bool resetting_ GUARDED_BY(lock_) = false;
  bool dead_ GUARDED_BY(lock_) = false;
  std::atomic<u32> finishing_{0};  // who has taken a command from here and not yet given it back to its queue
};

}  // namespace paean
