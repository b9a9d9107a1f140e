// Devices on the PCI buses and the lines that they share.
#include "arch/pci.hpp"

#include "access.hpp"
#include "arch/irq_lines.hpp"
#include "arch/pci_walk.hpp"
#include "arch/traps.hpp"

namespace paean {

namespace {

constexpr u32 kFirstBar = 0x10, kCommand = 0x04;

const arch::PciDevice* find_class(u32 class_code) {
  for (const arch::PciDevice& device : arch::pci_devices()) {
    if (device.class_code() == class_code) return &device;
  }
  return nullptr;
}

// A line that no device of the machines we know raises, called by instruction.
constexpr u32 kFreeLine = 6;
void raise_free_line() { asm volatile("int %0" ::"i"(arch::kVectorIrqBase + kFreeLine) : "memory"); }

struct Claimant {
  u32 calls = 0;
  bool claims = true;
  bool irqs_on = false;
};
bool on_interrupt(void* owner) {
  auto& claimant = *static_cast<Claimant*>(owner);
  ++claimant.calls;
  claimant.irqs_on |= arch::irqs_enabled();
  return claimant.claims;
}

/// A list of capabilities as a device would show it: pairs of number and next, at 0x40, 0x48, ...
struct FakeSpace {
  u8 bytes[256]{};
  void link(u32 at, u8 id, u32 next) {
    bytes[at] = id;
    bytes[at + 1] = static_cast<u8>(next);
  }
  auto reader() const {
    return [this](u32 offset) { return bytes[offset & 0xff]; };
  }
};

}  // namespace

KTEST(pci, the_host_bridge_is_first) {
  REQUIRE(!arch::pci_devices().empty());
  const arch::PciDevice& bridge = arch::pci_devices()[0];
  EXPECT_EQ(bridge.class_code(), 0x060000u);
  EXPECT(bridge.is(0x8086, 0x1237) || bridge.is(0x8086, 0x29c0));  // QEMU's pc and q35
  EXPECT_EQ(bridge.address().bus, 0);
  EXPECT_EQ(bridge.read16(0), bridge.vendor());
  EXPECT_EQ(bridge.read16(2), bridge.device());
  EXPECT_EQ(bridge.read8(1), bridge.vendor() >> 8);
}

KTEST(pci, an_isa_bridge_is_found_behind_function_0) {
  const arch::PciDevice* bridge = find_class(0x060100);
  REQUIRE(bridge != nullptr);
  EXPECT(bridge->is(0x8086, 0x7000) || bridge->is(0x8086, 0x2918));
  EXPECT_EQ(bridge->irq_line().has_value(), false);
}

// What a device that is gone would show: all ones.
KTEST(pci, a_line_stays_what_enumeration_found) {
  constexpr u32 kInterruptLine = 0x3c;
  const arch::PciDevice* found = nullptr;
  for (const arch::PciDevice& device : arch::pci_devices()) {
    if (device.irq_line() && arch::irq_line_shares(*device.irq_line()) == 0) found = &device;
  }
  REQUIRE(found != nullptr);  // the power management of pc, the SMBus of q35
  const u32 line = *found->irq_line();
  Claimant claimant;
  REQUIRE(found->request_irq(on_interrupt, &claimant));
  EXPECT_EQ(arch::irq_line_shares(line), 1u);
  found->write8(kInterruptLine, 0xff);
  EXPECT_EQ(found->irq_line().value_or(0), line);
  found->release_irq(&claimant);
  found->write8(kInterruptLine, static_cast<u8>(line));
  EXPECT_EQ(arch::irq_line_shares(line), 0u);
}

KTEST(pci, each_function_is_there_once) {
  for (const arch::PciDevice& a : arch::pci_devices()) {
    u32 same = 0;
    for (const arch::PciDevice& b : arch::pci_devices()) {
      if (a.address().bus == b.address().bus && a.address().device == b.address().device &&
          a.address().function == b.address().function)
        ++same;
    }
    EXPECT_EQ(same, 1u);
  }
}

KTEST(pci, regions_are_powers_of_two_and_stay_where_they_were) {
  u32 regions = 0;
  for (const arch::PciDevice& device : arch::pci_devices()) {
    for (u32 i = 0; i < arch::PciDevice::kBars; ++i) {
      const arch::PciBar& bar = device.bar(i);
      if (bar.kind == arch::PciBar::Kind::None) continue;
      ++regions;
      EXPECT(bar.bytes >= 4 && (bar.bytes & (bar.bytes - 1)) == 0);
      EXPECT(bar.start.is_aligned(bar.bytes));
      const bool io = bar.kind == arch::PciBar::Kind::Io;
      const u32 low = device.read32(kFirstBar + 4 * i);
      EXPECT_EQ(low & (io ? ~3u : ~15u), static_cast<u32>(number(bar.start)));
      EXPECT_EQ((low & 1) != 0, io);
      EXPECT((device.read16(kCommand) & (io ? 1 : 2)) != 0);  // firmware let it answer, and so it does again
    }
  }
  EXPECT(regions != 0);
}

KTEST(pci, lengths_from_what_a_register_keeps) {
  constexpr u64 kHigh = 0xffffffff00000000;
  EXPECT_EQ(arch::pci_bar_bytes(kHigh | 0xfffff000), 0x1000u);
  EXPECT_EQ(arch::pci_bar_bytes(kHigh | 0xfffffff0), 16u);
  EXPECT_EQ(arch::pci_bar_bytes(0xfffffffe00000000), u64{0x200000000});
  EXPECT_EQ(arch::pci_bar_bytes(0), 0u);
  EXPECT_EQ(arch::pci_bar_bytes(kHigh | 0xfff0f000), 0u);  // a hole in the ones
  EXPECT_EQ(arch::pci_bar_bytes(0x0000fffffffff000), 0u);  // upper bits that are not decoded
}

KTEST(pci, capabilities_are_found_in_order) {
  FakeSpace space;
  space.bytes[arch::kPciCapabilities] = 0x40;
  space.link(0x40, 9, 0x80);
  space.link(0x80, 5, 0x60 | 3);  // the lowest two bits are reserved
  space.link(0x60, 9, 0);
  EXPECT_EQ(arch::find_pci_capability(space.reader(), 9, 0).value_or(0), 0x40u);
  EXPECT_EQ(arch::find_pci_capability(space.reader(), 9, 1).value_or(0), 0x60u);
  EXPECT(!arch::find_pci_capability(space.reader(), 9, 2));
  EXPECT_EQ(arch::find_pci_capability(space.reader(), 5, 0).value_or(0), 0x80u);
  EXPECT(!arch::find_pci_capability(space.reader(), 7, 0));
}

KTEST(pci, a_loop_of_capabilities_ends) {
  FakeSpace space;
  space.bytes[arch::kPciCapabilities] = 0x40;
  space.link(0x40, 9, 0x48);
  space.link(0x48, 5, 0x40);
  EXPECT(!arch::find_pci_capability(space.reader(), 1, 0));
  u32 found = 0;  // who goes through all of one number comes to an end as well
  while (found < 1000 && arch::find_pci_capability(space.reader(), 9, found)) ++found;
  EXPECT_EQ(found, arch::kPciMostCapabilities / 2);
  space.link(0x48, 5, 0x10);  // into the header
  EXPECT(!arch::find_pci_capability(space.reader(), 1, 0));
}

KTEST(pci, capabilities_of_real_devices_have_their_number) {
  for (const arch::PciDevice& device : arch::pci_devices()) {
    for (u32 id = 1; id < 0x20; ++id) {
      const auto at = device.capability(static_cast<u8>(id));
      if (at) EXPECT_EQ(device.read8(*at), id);
    }
  }
}

KTEST(irq_lines, all_who_share_a_line_are_called) {
  Claimant first, second;
  first.claims = false;
  REQUIRE(arch::share_irq_line(kFreeLine, arch::IrqTrigger::Pci, on_interrupt, &first));
  REQUIRE(arch::share_irq_line(kFreeLine, arch::IrqTrigger::Pci, on_interrupt, &second));
  EXPECT_EQ(arch::irq_line_shares(kFreeLine), 2u);
  raise_free_line();
  EXPECT_EQ(first.calls, 1u);
  EXPECT_EQ(second.calls, 1u);
  EXPECT(!first.irqs_on && !second.irqs_on);
  arch::leave_irq_line(kFreeLine, &first);
  raise_free_line();
  EXPECT_EQ(first.calls, 1u);
  EXPECT_EQ(second.calls, 2u);
  arch::leave_irq_line(kFreeLine, &second);
  raise_free_line();
  EXPECT_EQ(second.calls, 2u);
  EXPECT_EQ(arch::irq_line_shares(kFreeLine), 0u);
}

KTEST(irq_lines, wrong_requests_change_nothing) {
  Claimant claimants[arch::kIrqLineShares + 1];
  using arch::IrqTrigger;
  EXPECT(arch::share_irq_line(16, IrqTrigger::Pci, on_interrupt, nullptr).error() == Error::InvalidArgument);
  EXPECT(arch::share_irq_line(kFreeLine, IrqTrigger::Pci, nullptr, nullptr).error() == Error::InvalidArgument);
  EXPECT(arch::share_irq_line(4, IrqTrigger::Isa, on_interrupt, claimants).error() == Error::Busy);  // the console's
  for (u32 i = 0; i < arch::kIrqLineShares; ++i) {
    EXPECT(arch::share_irq_line(kFreeLine, IrqTrigger::Pci, on_interrupt, &claimants[i]).has_value());
  }
  Claimant& last = claimants[arch::kIrqLineShares];
  EXPECT(arch::share_irq_line(kFreeLine, IrqTrigger::Pci, on_interrupt, &last).error() == Error::TooLarge);
  EXPECT(arch::share_irq_line(kFreeLine, IrqTrigger::Isa, on_interrupt, &last).error() == Error::Busy);
  EXPECT_EQ(arch::irq_line_shares(kFreeLine), arch::kIrqLineShares);
  for (u32 i = 0; i < arch::kIrqLineShares; ++i) arch::leave_irq_line(kFreeLine, &claimants[i]);
  EXPECT_EQ(arch::irq_line_shares(kFreeLine), 0u);
}

KTEST(irq_lines, a_storm_is_turned_off) {
  Claimant nobody;
  nobody.claims = false;
  REQUIRE(arch::share_irq_line(kFreeLine, arch::IrqTrigger::Pci, on_interrupt, &nobody));
  for (u32 i = 1; i < arch::kIrqStormLimit; ++i) raise_free_line();
  EXPECT(!arch::irq_line_is_off(kFreeLine));
  nobody.claims = true;  // one that is claimed, and the count begins anew
  raise_free_line();
  nobody.claims = false;
  for (u32 i = 1; i < arch::kIrqStormLimit; ++i) raise_free_line();
  EXPECT(!arch::irq_line_is_off(kFreeLine));
  raise_free_line();
  EXPECT(arch::irq_line_is_off(kFreeLine));
  Claimant next;
  REQUIRE(arch::share_irq_line(kFreeLine, arch::IrqTrigger::Pci, on_interrupt, &next));
  EXPECT(!arch::irq_line_is_off(kFreeLine));
  arch::leave_irq_line(kFreeLine, &next);
  arch::leave_irq_line(kFreeLine, &nobody);
}

}  // namespace paean
