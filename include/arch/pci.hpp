// PCI: the devices on the bus, their registers, and their interrupts.
//
//   for (PciDevice& device : pci_devices()) {
//     if (!device.is(0x1af4, 0x1001)) continue;
//     device.enable(PciUse::Memory | PciUse::Master);
//     TRY(device.request_irq(on_interrupt, &mine));
//   }
//
// Configuration space through ports 0xcf8 and 0xcfc. Enumeration is done once at boot and follows bridges; a function
// that answers nonsense (all ones, a header type that does not exist) is left out with a line in the log. Base
// addresses are what firmware assigned; a register it left at 0 has the kind None and is not touched. How long a region
// is, is found by writing ones while the device does not answer at its addresses; afterwards everything is as before.
//
// Lines of PCI devices are shared, see arch/irq_lines.hpp: each handler is asked in turn and says whether the interrupt
// was its own. A line that nobody claims 10,000 times in a row is turned off with a message.
// Context: enumeration and request_irq(): boot and threads. Register access: any; one lock inside.
// Source: PCI Local Bus Specification 3.0.
#pragma once

#include <optional>
#include <span>

#include "lib/addr.hpp"
#include "lib/format.hpp"
#include "lib/result.hpp"

namespace paean::arch {

struct PciAddress {
  u8 bus = 0, device = 0, function = 0;
};

/// A base address register, or a pair of them.
struct PciBar {
  enum class Kind : u8 { None, Io, Memory };
  Kind kind = Kind::None;
  PhysAddr start{};  // a port for Io
  u64 bytes = 0;
};

/// True if the interrupt was this device's.
using PciHandler = bool (*)(void* owner);

enum class PciUse : u16 { Io = 1, Memory = 2, Master = 4 };
constexpr PciUse operator|(PciUse a, PciUse b) {
  return static_cast<PciUse>(static_cast<u16>(a) | static_cast<u16>(b));
}

class PciDevice {
 public:
  static constexpr u32 kBars = 6;

  PciAddress address() const { return address_; }
  u16 vendor() const { return vendor_; }
  u16 device() const { return device_; }
  /// Class, subclass and programming interface: 0xccsspp.
  u32 class_code() const { return class_code_; }
  bool is(u16 vendor, u16 device) const { return vendor_ == vendor && device_ == device; }
  const PciBar& bar(u32 index) const { return bars_[index]; }
  /// The ISA line that firmware routed its pin to; nullopt if it has none. As enumeration found it: what was requested
  /// is what is released, also when the device no longer answers.
  std::optional<u32> irq_line() const { return irq_line_; }

  u8 read8(u32 offset) const;
  u16 read16(u32 offset) const;
  u32 read32(u32 offset) const;
  void write8(u32 offset, u8 value) const;
  void write16(u32 offset, u16 value) const;
  void write32(u32 offset, u32 value) const;

  /// Offset of the capability with this number that has `earlier` others of the same number in front of it; nullopt if
  /// there is none. Ends at some `earlier` for every device, also for one whose list is a loop.
  std::optional<u32> capability(u8 id, u32 earlier = 0) const;
  /// Lets the device answer at its addresses, and be a bus master. Adds to what is enabled already.
  void enable(PciUse use) const;
  /// The handler runs on any CPU with interrupts off. NotFound if the device has no line.
  Result<> request_irq(PciHandler handler, void* owner) const;
  /// No call of the handler is running or will come afterwards. May sleep.
  void release_irq(void* owner) const;

 private:
  friend class PciScan;
  PciAddress address_{};
  u16 vendor_ = 0, device_ = 0;
  u32 class_code_ = 0;
  std::optional<u32> irq_line_{};
  PciBar bars_[kBars]{};
};

/// Boot, once, after the interrupt controllers.
void init_pci();
std::span<PciDevice> pci_devices();
enum class PciDetail : u8 { Lines, Regions };
/// A line a device, for `lspci`, and with Regions its addresses.
void print_pci_devices(Sink& out, PciDetail detail = PciDetail::Lines);

/// Interrupts of a line that is no PCI device's: the two channels of an IDE controller in its legacy mode.
Result<> request_isa_irq(u32 line, PciHandler handler, void* owner);
void release_isa_irq(u32 line, void* owner);

}  // namespace paean::arch
