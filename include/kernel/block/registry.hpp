// The list of block devices, partitions behind their device. For the block layer; everybody else uses device.hpp.
//
// Locking: one spinning lock, of the rank of a queue's; they are never held together. A visitor keeps the device in its
// place in the list without using it.
#pragma once

#include "kernel/block/device.hpp"
#include "kernel/fault.hpp"
#include "kernel/spinlock.hpp"

namespace paean {

class BlockRegistry {
 public:
  constexpr BlockRegistry() = default;

  Result<> insert(BlockDevice& device, BlockQueue* queue);
  /// A whole device. Nobody finds it afterwards; its queue still works. The partitions, which are gone as well, as a
  /// chain for free_partitions(). Busy. May sleep.
  Result<BlockDevice*> remove(BlockDevice& device);
  void forget_queue(BlockDevice& device);
  BlockDevice* find(std::string_view name);
  Result<BlockDevice*> open(std::string_view name, DeviceUse use);
  void close(BlockDevice& device, DeviceUse use);
  /// The device behind `previous` (nullptr: the first), which is let go; the new one stays until the next call.
  BlockDevice* visit_next(BlockDevice* previous);
  /// In a chain of removed ones.
  static BlockDevice* behind(const BlockDevice& device) { return device.next_; }

 private:
  struct Removal {
    bool done = false;
    BlockDevice* partitions = nullptr;
  };
  Result<> try_remove(BlockDevice& device, Removal& removal);
  BlockDevice* find_locked(std::string_view name) REQUIRES(lock_);
  bool has_owner_locked(BlockDevice& device) REQUIRES(lock_);

  SpinLock lock_{LockRank::BlockQueue};
  BlockDevice* first_ GUARDED_BY(lock_) = nullptr;
};
BlockRegistry& block_registry();

}  // namespace paean
