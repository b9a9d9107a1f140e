// A virtio disk: one queue, up to 32 commands at once, DMA to any 64-bit address.
//
//   start() --> pending --room in the ring--> in flight --interrupt--> finish()
//                  ^                             |
//                  +----- abort() of another ----+      the device is reset, the rest begins anew
//
// Its time is what a command has been in flight for; who begins anew after a reset has all of it again.
//
// Devices merge commands that they find side by side, and then one bad sector fails all of them. So a command that
// fails is done once more with nothing else in flight, and that answer counts.
//
// A device that misbehaves (see virtio_ring.hpp), asks for a reset, or does not come out of one is reset and given up:
// every command ends with Io, then and later.
// Features: VERSION_1 where the device is not a legacy one, SIZE_MAX, SEG_MAX, RO, BLK_SIZE, FLUSH. Changes of its
// configuration are logged and otherwise ignored. Disks with blocks of more than 512 bytes are not supported.
// Source: VIRTIO 1.1, sections 3.1 and 5.2.
#pragma once

#include <atomic>

#include "kernel/block/deferred.hpp"
#include "kernel/block/device.hpp"
#include "kernel/block/virtio_pci.hpp"
#include "kernel/block/virtio_ring.hpp"
#include "kernel/spinlock.hpp"
#include "mm/page.hpp"

namespace paean {

class VirtioDisk final : public BlockDevice {
 public:
  static constexpr u32 kMostCommands = 32, kMostPieces = 126;
  static constexpr u32 kMostDescriptors = 256;  // of modern devices, which take fewer than they have

  explicit VirtioDisk(VirtioTransport& transport) : transport_(transport), fail_call_(fail_all, this) {}

  /// Sets the device up, and name and limits from what it says. OutOfMemory, NotSupported, TimedOut. May sleep.
  Result<> init(char letter, u32 timeout_ms = BlockLimits{}.timeout_ms);
  void start(BlockCommand& command) override;
  void end_of_starts() override;
  void abort(BlockCommand& command) override;
  /// True if the interrupt was this device's. Only after init().
  static bool on_interrupt(void* disk);
  /// Gives its memory back. Nobody uses it, or init() has refused it. May sleep.
  void release();

 private:
  /// What the device reads and writes of a command beside its pages.
  struct Wire {
    u32 type, reserved;
    Sector sector;
    u8 identity[20];  // asked for in place of a flush, where the device has none
    u8 status;
    u8 padding[27];
  };
  static_assert(sizeof(Wire) == 64);

  enum class State : u8 { Free, Pending, InFlight };
  struct Slot {
    BlockCommand* command = nullptr;
    State state = State::Free;
    bool alone = false;  // it failed in company
  };
  struct Done {
    BlockCommand* command;
    Result<> result;
  };
  struct DoneList {
    Done entries[kMostCommands];
    u32 count = 0;
    void add(BlockCommand& command, Result<> result) { entries[count++] = Done{&command, result}; }
  };

  Result<> set_up();
  Result<> reset();
  Result<> allocate(u32 size);
  Result<u64> read_capacity();
  Result<> read_limits();
  void pump() REQUIRES(lock_);
  bool send(u32 tag) REQUIRES(lock_);
  u32 type_of(const BlockCommand& command) const;
  Result<> result_of(const BlockCommand& command, u32 written) const;
  bool collect(DoneList& done) REQUIRES(lock_);
  void repeat_alone(u32 tag) REQUIRES(lock_);
  void give_up(DoneList& done, const char* why) REQUIRES(lock_);
  void complete();
  void note_config_change();
  void hand_back(const DoneList& done);
  void tell(const BlockCommand& command);
  bool take_back(const BlockCommand& command);
  static void fail_all(void* disk);

  VirtioTransport& transport_;
  DeferredCall fail_call_;
  VirtioRing ring_;
  std::span<VirtioRing::Record> records_{};
  Page* ring_page_ = nullptr;
  Order ring_order_{};
  void* ring_memory_ = nullptr;
  Page* wire_page_ = nullptr;
  Wire* wires_ = nullptr;
  u64 features_ = 0;  // agreed upon

  SpinLock lock_{LockRank::BlockDriver};
  Slot slots_[kMostCommands] GUARDED_BY(lock_){};
  u8 pending_[kMostCommands] GUARDED_BY(lock_){};  // tags, a ring
  u32 pending_first_ GUARDED_BY(lock_) = 0, pending_count_ GUARDED_BY(lock_) = 0;
  bool last_is_alone_ GUARDED_BY(lock_) = false;  // the command that was sent last
  bool resetting_ GUARDED_BY(lock_) = false;
  bool broken_ GUARDED_BY(lock_) = false;
  std::atomic<u32> finishing_{0};  // who has taken commands from here and not yet given them back to their queue
  std::atomic<u32> errors_told_{0};
};

}  // namespace paean
