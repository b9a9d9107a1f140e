// Finding the devices: every function of every bus that a bridge leads to.
#include "arch/pci.hpp"
#include "arch/pci_walk.hpp"
#include "arch/port.hpp"
#include "lib/log.hpp"

namespace paean::arch {

namespace {

constexpr u32 kMostDevices = 64;  // three times what QEMU's q35 has with eight disks
constexpr u32 kVendor = 0x00, kCommand = 0x04, kClass = 0x08, kHeaderType = 0x0e, kFirstBar = 0x10;
constexpr u32 kSecondaryBus = 0x19, kInterruptLine = 0x3c, kInterruptPin = 0x3d;
constexpr u8 kMultiFunction = 0x80, kHeaderMask = 0x7f;
constexpr u8 kHeaderDevice = 0, kHeaderBridge = 1, kHeaderCardBus = 2;
constexpr u32 kBarIo = 1, kBarTypeMask = 6, kBar64 = 4;
constexpr u32 kClassHostBridge = 0x060000;
constexpr u16 kDecoding = 3;

constinit PciDevice devices[kMostDevices]{};
constinit u32 device_count = 0;

bool have_configuration_space() {
  constexpr u16 kAddressPort = 0xcf8;
  constexpr u32 kProbe = 1u << 31;
  out32(kAddressPort, kProbe);
  return in32(kAddressPort) == kProbe;
}

}  // namespace

class PciScan {
 public:
  void run();
  u32 buses() const { return buses_; }

 private:
  void scan_bus(u8 bus);
  void scan_device(u8 bus, u8 number);
  bool look_at(PciAddress at);  // false if nobody answers
  static std::optional<u32> read_irq_line(const PciDevice& device);
  static void read_bars(PciDevice& device, u32 count);
  static u32 read_bar(PciDevice& device, u32 index, u32 count);
  void follow_bridge(const PciDevice& bridge);

  // Buses to be visited, so that no recursion is needed and a bridge that leads back is not followed.
  u32 wanted_[8]{}, done_[8]{};
  u32 buses_ = 0;
  bool full_ = false;
};

void PciScan::run() {
  wanted_[0] = 1;
  for (bool more = true; more;) {
    more = false;
    for (u32 bus = 0; bus < 256; ++bus) {
      const u32 bit = 1u << (bus % 32);
      if ((wanted_[bus / 32] & bit) == 0 || (done_[bus / 32] & bit) != 0) continue;
      done_[bus / 32] |= bit;
      scan_bus(static_cast<u8>(bus));
      more = true;
    }
  }
  if (full_) log_warning("PCI: more than {} functions, the rest is not used", kMostDevices);
}

void PciScan::scan_bus(u8 bus) {
  ++buses_;
  for (u8 number = 0; number < 32; ++number) scan_device(bus, number);
}

void PciScan::scan_device(u8 bus, u8 number) {
  if (!look_at(PciAddress{bus, number, 0})) return;
  PciDevice first;
  first.address_ = PciAddress{bus, number, 0};
  if ((first.read8(kHeaderType) & kMultiFunction) == 0) return;
  for (u8 function = 1; function < 8; ++function) (void)look_at(PciAddress{bus, number, function});
}

bool PciScan::look_at(PciAddress at) {
  PciDevice device;
  device.address_ = at;
  const u32 id = device.read32(kVendor);
  if ((id & 0xffff) == 0xffff || id == 0) return false;
  device.vendor_ = static_cast<u16>(id);
  device.device_ = static_cast<u16>(id >> 16);
  device.class_code_ = device.read32(kClass) >> 8;
  device.irq_line_ = read_irq_line(device);
  const u8 header = device.read8(kHeaderType) & kHeaderMask;
  if (header > kHeaderCardBus || device.class_code_ == 0xffffff) {
    log_warning("PCI {:02x}:{:02x}.{}: header type {}, class {:06x}: left out", at.bus, at.device, at.function, header,
                device.class_code_);
    return true;
  }
  if (device_count == kMostDevices) {
    full_ = true;
    return true;
  }
  // Its own addresses are those of memory: a host bridge must go on answering.
  if (device.class_code_ != kClassHostBridge)
    read_bars(device, header == kHeaderDevice ? 6 : header == kHeaderBridge ? 2 : 1);
  devices[device_count++] = device;
  if (header != kHeaderDevice) follow_bridge(device);
  return true;
}

std::optional<u32> PciScan::read_irq_line(const PciDevice& device) {
  const u8 line = device.read8(kInterruptLine);
  // Firmware writes 0 or 255 for none.
  if (device.read8(kInterruptPin) == 0 || line == 0 || line > 15) return std::nullopt;
  return line;
}

void PciScan::follow_bridge(const PciDevice& bridge) {
  const u8 bus = bridge.read8(kSecondaryBus);
  if (bus != 0) wanted_[bus / 32] |= 1u << (bus % 32);  // 0: firmware has not set it up
}

void PciScan::read_bars(PciDevice& device, u32 count) {
  const u16 command = device.read16(kCommand);
  device.write16(kCommand, static_cast<u16>(command & ~kDecoding));
  for (u32 index = 0; index < count;) index += read_bar(device, index, count);
  device.write16(kCommand, command);
}

/// How many registers it was.
u32 PciScan::read_bar(PciDevice& device, u32 index, u32 count) {
  const u32 at = kFirstBar + 4 * index;
  const u32 low = device.read32(at);
  const bool io = (low & kBarIo) != 0;
  const bool wide = !io && (low & kBarTypeMask) == kBar64 && index + 1 < count;
  const u32 flags = io ? 3 : 15;
  const u32 high = wide ? device.read32(at + 4) : 0;
  const u64 start = u64{high} << 32 | (low & ~flags);
  if (start == 0) return wide ? 2 : 1;
  device.write32(at, ~0u);
  // Ports have 16 bits, and devices need not keep those above.
  u64 kept = u64{device.read32(at) & ~flags} | (io ? 0xffff0000u : 0) | 0xffffffff00000000;
  device.write32(at, low);
  if (wide) {
    device.write32(at + 4, ~0u);
    kept = (kept & 0xffffffff) | u64{device.read32(at + 4)} << 32;
    device.write32(at + 4, high);
  }
  const u64 bytes = pci_bar_bytes(kept);
  if (bytes == 0) {
    log_warning("PCI {:02x}:{:02x}.{}: base address {} makes no sense, not used", device.address_.bus,
                device.address_.device, device.address_.function, index);
    return wide ? 2 : 1;
  }
  device.bars_[index] = PciBar{io ? PciBar::Kind::Io : PciBar::Kind::Memory, PhysAddr{start}, bytes};
  return wide ? 2 : 1;
}

void init_pci() {
  if (!have_configuration_space()) return log_info("PCI: none");
  PciScan scan;
  scan.run();
  log_info("PCI: {} functions on {} buses", device_count, scan.buses());
}

std::span<PciDevice> pci_devices() { return {devices, device_count}; }

}  // namespace paean::arch
