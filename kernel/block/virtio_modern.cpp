// Version 1.0: four groups of registers, each somewhere in a memory region.
#include <new>

#include "kernel/block/virtio_pci.hpp"
#include "mm/kmalloc.hpp"
#include "mm/vmalloc.hpp"

namespace paean {

namespace {

constexpr u8 kVendorCapability = 9;
enum class Group : u8 { Common = 1, Notify = 2, Interrupt = 3, Config = 4 };

/// The common group, as the device lays it out.
struct CommonRegisters {
  u32 device_feature_select, device_feature;
  u32 driver_feature_select, driver_feature;
  u16 config_vector, queue_count;
  u8 status, generation;
  u16 queue_select, queue_size, queue_vector, queue_enable, queue_notify_offset;
  u32 descriptors_low, descriptors_high, available_low, available_high, used_low, used_high;
};
static_assert(sizeof(CommonRegisters) == 56);

constexpr u32 kConfigBytes = 24;  // up to the block size, the last that is read

struct Registers {
  volatile u8* common = nullptr;
  volatile u8* notify = nullptr;
  volatile u8* interrupt = nullptr;
  volatile u8* config = nullptr;
  u32 notify_multiplier = 0;
  u32 notify_bytes = 0;
};

void unmap(const Registers& registers) {
  for (volatile u8* group : {registers.common, registers.notify, registers.interrupt, registers.config}) {
    if (group != nullptr) iounmap(const_cast<u8*>(group));
  }
}

class ModernVirtio final : public VirtioTransport {
 public:
  ModernVirtio(const arch::PciDevice& device, const Registers& registers)
      : device_(device),
        common_(*reinterpret_cast<volatile CommonRegisters*>(registers.common)),
        registers_(registers) {}

  bool is_modern() const override { return true; }
  u64 device_features() override {
    common_.device_feature_select = 0;
    const u32 low = common_.device_feature;
    common_.device_feature_select = 1;
    return low | u64{common_.device_feature} << 32;
  }
  void accept_features(u64 features) override {
    common_.driver_feature_select = 0;
    common_.driver_feature = static_cast<u32>(features);
    common_.driver_feature_select = 1;
    common_.driver_feature = static_cast<u32>(features >> 32);
  }
  u8 status() override { return common_.status; }
  void set_status(u8 status) override { common_.status = status; }
  u32 queue_size() override {
    common_.queue_select = 0;
    // What the device says of its bell must lie in the region.
    const u64 bell = u64{common_.queue_notify_offset} * registers_.notify_multiplier;
    if (bell + sizeof(u16) > registers_.notify_bytes) return 0;
    bell_ = reinterpret_cast<volatile u16*>(registers_.notify + static_cast<u32>(bell));
    return common_.queue_size;
  }
  void set_queue(u32 size, const VirtioQueuePlace& place) override {
    common_.queue_select = 0;
    common_.queue_size = static_cast<u16>(size);
    set_address(common_.descriptors_low, common_.descriptors_high, place.descriptors);
    set_address(common_.available_low, common_.available_high, place.available);
    set_address(common_.used_low, common_.used_high, place.used);
    common_.queue_enable = 1;
  }
  void notify() override { *bell_ = 0; }
  u8 interrupt_reason() override { return *registers_.interrupt; }
  u32 config(u32 offset) override { return *reinterpret_cast<volatile u32*>(registers_.config + offset); }
  void forbid_dma() override { virtio::forbid_dma(device_); }
  void destroy() override {
    unmap(registers_);
    kfree(this);
  }

 private:
  static void set_address(volatile u32& low, volatile u32& high, PhysAddr address) {
    low = static_cast<u32>(address.raw());
    high = static_cast<u32>(address.raw() >> 32);
  }

  const arch::PciDevice& device_;
  volatile CommonRegisters& common_;
  Registers registers_;
  volatile u16* bell_ = nullptr;
};

/// Maps a group; NotSupported if it is smaller than it must be or does not lie in its region.
Result<volatile u8*> map_group(const arch::PciDevice& device, u32 capability, u32 least, u32& bytes) {
  const u8 bar_number = device.read8(capability + 4);
  const u32 offset = device.read32(capability + 8);
  bytes = device.read32(capability + 12);
  if (bar_number >= arch::PciDevice::kBars || bytes < least || offset % 4 != 0)
    return std::unexpected(Error::NotSupported);
  const arch::PciBar& bar = device.bar(bar_number);
  if (bar.kind != arch::PciBar::Kind::Memory || u64{offset} + bytes > bar.bytes)
    return std::unexpected(Error::NotSupported);
  return static_cast<volatile u8*>(TRY(ioremap(bar.start + offset, bytes, arch::Caching::Uncached, "virtio")));
}

Result<> map_into(Registers& registers, const arch::PciDevice& device, u32 capability) {
  u32 bytes = 0;
  switch (static_cast<Group>(device.read8(capability + 3))) {
    case Group::Common:
      if (registers.common == nullptr)
        registers.common = TRY(map_group(device, capability, sizeof(CommonRegisters), bytes));
      return {};
    case Group::Notify:
      if (registers.notify != nullptr) return {};
      registers.notify = TRY(map_group(device, capability, sizeof(u16), registers.notify_bytes));
      registers.notify_multiplier = device.read32(capability + 16);
      return {};
    case Group::Interrupt:
      if (registers.interrupt == nullptr) registers.interrupt = TRY(map_group(device, capability, 1, bytes));
      return {};
    case Group::Config:
      if (registers.config == nullptr) registers.config = TRY(map_group(device, capability, kConfigBytes, bytes));
      return {};
  }
  return {};  // a group of a later version
}

Result<VirtioTransport*> make_modern(Registers& registers, const arch::PciDevice& device) {
  // The first of each kind that we can reach; others may describe the same registers in ports.
  for (u32 earlier = 0; const auto at = device.capability(kVendorCapability, earlier); ++earlier) {
    if (const Result<> mapped = map_into(registers, device, *at); !mapped && mapped.error() != Error::NotSupported)
      return std::unexpected(mapped.error());
  }
  if (registers.common == nullptr || registers.notify == nullptr || registers.interrupt == nullptr ||
      registers.config == nullptr)
    return std::unexpected(Error::NotSupported);
  void* memory = TRY(kmalloc(sizeof(ModernVirtio), AllocFlags::Kernel));
  return new (memory) ModernVirtio{device, registers};
}

}  // namespace

Result<VirtioTransport*> find_modern_virtio(const arch::PciDevice& device) {
  Registers registers;
  const Result<VirtioTransport*> result = make_modern(registers, device);
  if (!result) unmap(registers);
  return result;
}

}  // namespace paean
