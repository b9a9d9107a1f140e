// The interface before version 1.0: registers in ports, one layout for the queue.
#include <new>

#include "arch/port.hpp"
#include "kernel/block/virtio_pci.hpp"
#include "mm/kmalloc.hpp"

namespace paean {

namespace {

constexpr u32 kDeviceFeatures = 0, kDriverFeatures = 4, kQueueFrame = 8, kQueueSize = 12, kQueueSelect = 14;
constexpr u32 kQueueNotify = 16, kStatus = 18, kInterrupt = 19;
constexpr u32 kConfig = 20;  // without MSI-X, which nobody turns on here
constexpr u64 kSmallestRegion = 64;

class LegacyVirtio final : public VirtioTransport {
 public:
  LegacyVirtio(const arch::PciDevice& device, u16 base) : device_(device), base_(base) {}

  bool is_modern() const override { return false; }
  u64 device_features() override { return arch::in32(port(kDeviceFeatures)); }
  void accept_features(u64 features) override { arch::out32(port(kDriverFeatures), static_cast<u32>(features)); }
  u8 status() override { return arch::in8(port(kStatus)); }
  void set_status(u8 status) override { arch::out8(port(kStatus), status); }
  u32 queue_size() override {
    arch::out16(port(kQueueSelect), 0);
    return arch::in16(port(kQueueSize));
  }
  void set_queue(u32, const VirtioQueuePlace& place) override {
    arch::out16(port(kQueueSelect), 0);
    arch::out32(port(kQueueFrame), to_pfn(place.descriptors).raw());
  }
  void notify() override { arch::out16(port(kQueueNotify), 0); }
  u8 interrupt_reason() override { return arch::in8(port(kInterrupt)); }
  u32 config(u32 offset) override { return arch::in32(port(kConfig + offset)); }
  void forbid_dma() override { virtio::forbid_dma(device_); }
  void destroy() override { kfree(this); }

 private:
  u16 port(u32 offset) const { return static_cast<u16>(base_ + offset); }
  const arch::PciDevice& device_;
  u16 base_;
};

}  // namespace

Result<VirtioTransport*> find_legacy_virtio(const arch::PciDevice& device) {
  const arch::PciBar& bar = device.bar(0);
  if (bar.kind != arch::PciBar::Kind::Io || bar.bytes < kSmallestRegion) return std::unexpected(Error::NotSupported);
  void* memory = TRY(kmalloc(sizeof(LegacyVirtio), AllocFlags::Kernel));
  return new (memory) LegacyVirtio{device, static_cast<u16>(bar.start.raw())};
}

}  // namespace paean
