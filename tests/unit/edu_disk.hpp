// QEMU's `edu` device as a disk: a DMA engine with a mask that the command line of QEMU sets. Its buffer holds
// what is on its way between memory and the platter, which is memory that it reaches, so each piece is moved twice:
//
//   write   memory --DMA--> buffer --DMA--> platter        read   platter --DMA--> buffer --DMA--> memory
//
// Each of the two ends in an interrupt, a tenth of a second later (QEMU's own choice). An address above the mask is cut
// by the device, which says so on QEMU's side (`-d guest_errors`), and the data are then somebody else's.
#pragma once

#include "arch/pci.hpp"
#include "kernel/block/device.hpp"
#include "kernel/spinlock.hpp"
#include "mm/page.hpp"

namespace paean {

class EduDisk final : public BlockDevice {
 public:
  static constexpr u32 kPages = 128;

  static constexpr u32 kPatientMs = 100'000;

  /// `bits` is what QEMU was told.
  explicit EduDisk(u32 bits, u32 timeout_ms = kPatientMs);
  ~EduDisk();
  EduDisk(const EduDisk&) = delete;
  EduDisk& operator=(const EduDisk&) = delete;

  /// Finds the device and registers under the name "edu". NotFound.
  [[nodiscard]] Result<> connect();
  u32 interrupts() const { return __atomic_load_n(&interrupts_, __ATOMIC_RELAXED); }

  void start(BlockCommand& command) override;
  void abort(BlockCommand& command) override;

 private:
  static bool on_interrupt(void* owner);
  void begin_step() REQUIRES(lock_);
  BlockCommand* end_step() REQUIRES(lock_);
  bool acknowledge() REQUIRES(lock_);
  void take_back(const BlockCommand& command);
  void write(u32 offset, u32 value) { registers_[offset / sizeof(u32)] = value; }
  u32 read(u32 offset) const { return registers_[offset / sizeof(u32)]; }

  arch::PciDevice* device_ = nullptr;
  volatile u32* registers_ = nullptr;
  bool registered_ = false;
  Page* platter_[kPages]{};
  u32 taken_ = 0;
  // The command that runs, and how far it is.
  SpinLock lock_{LockRank::BlockDriver};
  BlockCommand* command_ GUARDED_BY(lock_) = nullptr;
  u32 piece_ GUARDED_BY(lock_) = 0, byte_ GUARDED_BY(lock_) = 0;
  u32 disk_byte_ GUARDED_BY(lock_) = 0, length_ GUARDED_BY(lock_) = 0;
  bool in_buffer_ GUARDED_BY(lock_) = false;
  u32 interrupts_ = 0;
  u32 finishing_ = 0;  // interrupts that have taken a command from here and not yet given it back to its queue
};

}  // namespace paean
