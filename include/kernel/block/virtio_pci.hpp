// How a virtio device on PCI is talked to: the registers of version 1.0 (in memory regions that capabilities point at),
// or those of the legacy interface (in ports), where a device has no others.
// Context: any; registers of one device by one user at a time.
// Errors: NotSupported if the device offers neither, or describes regions that it does not have.
// Source: VIRTIO 1.1, section 4.1.
#pragma once

#include "arch/pci.hpp"
#include "lib/result.hpp"

namespace paean {

namespace virtio {

inline constexpr u8 kAcknowledge = 1, kDriver = 2, kDriverOk = 4, kFeaturesOk = 8, kNeedsReset = 64, kFailed = 128;
inline constexpr u64 kVersion1 = u64{1} << 32;
inline constexpr u8 kQueueInterrupt = 1, kConfigInterrupt = 2;

/// Takes the bus from a device.
inline void forbid_dma(const arch::PciDevice& device) {
  constexpr u32 kCommand = 0x04;
  device.write16(kCommand, static_cast<u16>(device.read16(kCommand) & ~static_cast<u16>(arch::PciUse::Master)));
}

}  // namespace virtio

/// Where the parts of queue 0 lie.
struct VirtioQueuePlace {
  PhysAddr descriptors{}, available{}, used{};
};

class VirtioTransport {
 public:
  VirtioTransport(const VirtioTransport&) = delete;
  VirtioTransport& operator=(const VirtioTransport&) = delete;

  virtual bool is_modern() const = 0;
  virtual u64 device_features() = 0;
  virtual void accept_features(u64 features) = 0;
  virtual u8 status() = 0;
  /// 0 resets; the device is done with that when status() is 0.
  virtual void set_status(u8 status) = 0;
  /// Descriptors of queue 0 that the device has; 0 if there is no such queue.
  virtual u32 queue_size() = 0;
  /// After queue_size(), with a size that is not above it; legacy devices insist on it exactly.
  virtual void set_queue(u32 size, const VirtioQueuePlace& place) = 0;
  /// Tells the device of new chains in queue 0.
  virtual void notify() = 0;
  /// Why it interrupted; reading acknowledges.
  virtual u8 interrupt_reason() = 0;
  /// The device's own configuration, four bytes at a multiple of four.
  virtual u32 config(u32 offset) = 0;
  /// Whatever it does, it reaches no memory any more. For a device that is given up.
  virtual void forbid_dma() = 0;
  /// Gives back what it has mapped, and itself. The device is in its reset, or does no DMA. May sleep.
  virtual void destroy() = 0;

 protected:
  VirtioTransport() = default;
  ~VirtioTransport() = default;
};

/// In memory of kmalloc, until destroy(). The device is enabled already.
Result<VirtioTransport*> find_modern_virtio(const arch::PciDevice& device);
Result<VirtioTransport*> find_legacy_virtio(const arch::PciDevice& device);

}  // namespace paean
