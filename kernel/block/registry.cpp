// Which block devices there are.
#include "kernel/block/registry.hpp"

#include "kernel/block/dma_pieces.hpp"
#include "kernel/block/partitions.hpp"
#include "kernel/block/queue.hpp"

namespace paean {

namespace {

FAULT_SITE(block_register, "room for one more block device");

constinit BlockRegistry registry;

}  // namespace

BlockRegistry& block_registry() { return registry; }

BlockDevice* BlockRegistry::find_locked(std::string_view name) {
  BlockDevice* device = first_;
  while (device != nullptr && device->name() != name) device = device->next_;
  return device;
}

Result<> BlockRegistry::insert(BlockDevice& device, BlockQueue* queue) {
  if (must_fail(fault_block_register)) return std::unexpected(Error::OutOfMemory);
  const SpinGuard<IrqSave> guard{lock_};
  if (device.name().empty()) return std::unexpected(Error::InvalidArgument);
  if (find_locked(device.name()) != nullptr) return std::unexpected(Error::Exists);
  device.queue_ = queue;
  device.users_ = device.visitors_ = 0;
  device.owned_ = false;
  BlockDevice** place = &first_;
  while (*place != nullptr) place = &(*place)->next_;
  if (!device.is_whole()) {
    place = &device.whole().next_;
    while (*place != nullptr && &(*place)->whole() == &device.whole()) place = &(*place)->next_;
  }
  device.next_ = *place;
  *place = &device;
  return {};
}

/// Busy if somebody opened it, or one of its partitions.
Result<> BlockRegistry::try_remove(BlockDevice& device, Removal& removal) {
  const SpinGuard<IrqSave> guard{lock_};
  if (device.users_ != 0) return std::unexpected(Error::Busy);
  BlockDevice* last = &device;
  u32 visitors = device.visitors_;
  while (last->next_ != nullptr && &last->next_->whole() == &device) {
    last = last->next_;
    visitors += last->visitors_;
  }
  if (visitors != 0) return {};
  BlockDevice** place = &first_;
  while (*place != &device) place = &(*place)->next_;
  *place = last->next_;
  last->next_ = nullptr;
  removal = {true, device.next_};
  return {};
}

Result<BlockDevice*> BlockRegistry::remove(BlockDevice& device) {
  Removal removal;
  while (true) {
    TRY(try_remove(device, removal));
    if (removal.done) return removal.partitions;
    thread_sleep_ms(1);  // visits are short
  }
}

void BlockRegistry::forget_queue(BlockDevice& device) { device.queue_ = nullptr; }

BlockDevice* BlockRegistry::find(std::string_view name) {
  const SpinGuard<IrqSave> guard{lock_};
  return find_locked(name);
}

/// Of any sector of it: the device itself, a part of it, or the whole of it.
bool BlockRegistry::has_owner_locked(BlockDevice& device) {
  if (device.whole().owned_ || device.owned_) return true;
  if (!device.is_whole()) return false;
  for (BlockDevice* part = device.next_; part != nullptr && &part->whole() == &device; part = part->next_) {
    if (part->owned_) return true;
  }
  return false;
}

Result<BlockDevice*> BlockRegistry::open(std::string_view name, DeviceUse use) {
  const SpinGuard<IrqSave> guard{lock_};
  BlockDevice* device = find_locked(name);
  if (device == nullptr) return std::unexpected(Error::NotFound);
  if (use == DeviceUse::Owning) {
    if (has_owner_locked(*device)) return std::unexpected(Error::Busy);
    device->owned_ = true;
  }
  ++device->users_;
  if (!device->is_whole()) ++device->whole().users_;
  return device;
}

void BlockRegistry::close(BlockDevice& device, DeviceUse use) {
  const SpinGuard<IrqSave> guard{lock_};
  ASSERT(device.users_ != 0 && (use == DeviceUse::Reading || device.owned_));
  if (use == DeviceUse::Owning) device.owned_ = false;
  --device.users_;
  if (!device.is_whole()) --device.whole().users_;
}

BlockDevice* BlockRegistry::visit_next(BlockDevice* previous) {
  const SpinGuard<IrqSave> guard{lock_};
  BlockDevice* next = first_;
  if (previous != nullptr) {
    --previous->visitors_;
    next = previous->next_;
  }
  if (next != nullptr) ++next->visitors_;
  return next;
}

Result<> register_block_device(BlockDevice& device) {
  if (!are_sane(device.limits()) || device.sectors() == 0) return std::unexpected(Error::InvalidArgument);
  BlockQueue* queue = TRY(BlockQueue::create(device));
  const Result<> inserted = registry.insert(device, queue);
  if (!inserted) {
    BlockQueue::destroy(queue);
    return inserted;
  }
  add_partitions(device);
  return {};
}

Result<> unregister_block_device(BlockDevice& device) {
  BlockQueue* queue = device.queue();
  free_partitions(TRY(registry.remove(device)));
  queue->stop();
  registry.forget_queue(device);
  BlockQueue::destroy(queue);
  return {};
}

BlockDevice* find_block_device(std::string_view name) { return registry.find(name); }
Result<BlockDevice*> open_block_device(std::string_view name, DeviceUse use) { return registry.open(name, use); }
void close_block_device(BlockDevice& device, DeviceUse use) { registry.close(device, use); }

void for_each_block_device(void (*visit)(void* context, BlockDevice& device), void* context) {
  for (BlockDevice* device = nullptr; (device = registry.visit_next(device)) != nullptr;) visit(context, *device);
}

BlockStatistics block_statistics(const BlockDevice& device) {
  return device.queue() == nullptr ? BlockStatistics{} : device.queue()->statistics();
}

void finish(BlockDevice& device, BlockCommand& command, Result<> result) { device.queue()->finish(command, result); }

}  // namespace paean
