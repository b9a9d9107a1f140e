// One function's configuration space.
#include "arch/pci.hpp"

#include "arch/irq_lines.hpp"
#include "arch/lock.hpp"
#include "arch/pci_walk.hpp"
#include "arch/port.hpp"
#include "lib/assert.hpp"

namespace paean::arch {

namespace {

constexpr u16 kAddressPort = 0xcf8, kDataPort = 0xcfc;
constexpr u32 kEnable = 1u << 31;
constexpr u32 kCommand = 0x04, kStatus = 0x06;
constexpr u16 kStatusHasCapabilities = 1u << 4;

constinit LeafLock config_lock{LockRank::PciConfig};

u32 address_word(PciAddress at, u32 offset) {
  return kEnable | u32{at.bus} << 16 | u32{at.device} << 11 | u32{at.function} << 8 | (offset & 0xfc);
}
u16 data_port(u32 offset) { return static_cast<u16>(kDataPort + (offset & 3)); }

}  // namespace

u8 PciDevice::read8(u32 offset) const {
  const LeafGuard guard{config_lock};
  out32(kAddressPort, address_word(address_, offset));
  return in8(data_port(offset));
}

u16 PciDevice::read16(u32 offset) const {
  DASSERT(offset % 2 == 0);
  const LeafGuard guard{config_lock};
  out32(kAddressPort, address_word(address_, offset));
  return in16(data_port(offset));
}

u32 PciDevice::read32(u32 offset) const {
  DASSERT(offset % 4 == 0);
  const LeafGuard guard{config_lock};
  out32(kAddressPort, address_word(address_, offset));
  return in32(kDataPort);
}

void PciDevice::write8(u32 offset, u8 value) const {
  const LeafGuard guard{config_lock};
  out32(kAddressPort, address_word(address_, offset));
  out8(data_port(offset), value);
}

void PciDevice::write16(u32 offset, u16 value) const {
  DASSERT(offset % 2 == 0);
  const LeafGuard guard{config_lock};
  out32(kAddressPort, address_word(address_, offset));
  out16(data_port(offset), value);
}

void PciDevice::write32(u32 offset, u32 value) const {
  DASSERT(offset % 4 == 0);
  const LeafGuard guard{config_lock};
  out32(kAddressPort, address_word(address_, offset));
  out32(kDataPort, value);
}

std::optional<u32> PciDevice::capability(u8 id, u32 earlier) const {
  if ((read16(kStatus) & kStatusHasCapabilities) == 0) return std::nullopt;
  return find_pci_capability([this](u32 offset) { return read8(offset); }, id, earlier);
}

void PciDevice::enable(PciUse use) const {
  write16(kCommand, static_cast<u16>(read16(kCommand) | static_cast<u16>(use)));
}

Result<> PciDevice::request_irq(PciHandler handler, void* owner) const {
  constexpr u16 kInterruptsDisabled = 1u << 10;
  if (!irq_line_) return std::unexpected(Error::NotFound);
  TRY(share_irq_line(*irq_line_, IrqTrigger::Pci, handler, owner));
  write16(kCommand, static_cast<u16>(read16(kCommand) & ~kInterruptsDisabled));
  return {};
}

void PciDevice::release_irq(void* owner) const {
  if (irq_line_) leave_irq_line(*irq_line_, owner);
}

}  // namespace paean::arch
