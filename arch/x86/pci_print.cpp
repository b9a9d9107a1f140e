// Devices as lines for people.
#include "arch/pci.hpp"

namespace paean::arch {

namespace {

struct ClassName {
  u16 number;  // class and subclass
  std::string_view text;
};
constexpr ClassName kClassNames[] = {
    {0x0100, "SCSI storage"}, {0x0101, "IDE interface"}, {0x0106, "SATA controller"}, {0x0108, "NVMe storage"},
    {0x0200, "Ethernet"},     {0x0300, "VGA"},           {0x0600, "Host bridge"},     {0x0601, "ISA bridge"},
    {0x0604, "PCI bridge"},   {0x0680, "Bridge"},        {0x0c03, "USB controller"},  {0x0c05, "SMBus"},
    {0x0403, "Audio device"}, {0x0780, "Communication"}, {0x00ff, "Unclassified"},
};

std::string_view class_name(u32 class_code) {
  for (const ClassName& entry : kClassNames) {
    if (entry.number == class_code >> 8) return entry.text;
  }
  return "Device";
}

void print_bar(Sink& out, u32 index, const PciBar& bar) {
  const u64 size = bar.bytes >= kMiB ? bar.bytes / kMiB : bar.bytes >= kKiB ? bar.bytes / kKiB : bar.bytes;
  const char* unit = bar.bytes >= kMiB ? "M" : bar.bytes >= kKiB ? "K" : "";
  format_to(out, "\tRegion {}: {} at {:x} [size={}{}]\n", index, bar.kind == PciBar::Kind::Io ? "I/O ports" : "Memory",
            bar.start, size, unit);
}

}  // namespace

void print_pci_devices(Sink& out, PciDetail detail) {
  for (const PciDevice& device : pci_devices()) {
    const PciAddress at = device.address();
    format_to(out, "{:02x}:{:02x}.{} {} [{:04x}]: {:04x}:{:04x}", at.bus, at.device, at.function,
              class_name(device.class_code()), device.class_code() >> 8, device.vendor(), device.device());
    if (const auto line = device.irq_line()) format_to(out, ", interrupt {}", *line);
    format_to(out, "\n");
    if (detail == PciDetail::Lines) continue;
    for (u32 i = 0; i < PciDevice::kBars; ++i) {
      if (device.bar(i).kind != PciBar::Kind::None) print_bar(out, i, device.bar(i));
    }
  }
}

}  // namespace paean::arch
