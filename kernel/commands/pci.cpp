// lspci: what is on the PCI buses.
#include "arch/pci.hpp"
#include "kernel/console/command.hpp"

namespace paean {

namespace {

CommandStatus show_pci(Args& args, Sink& out) {
  auto detail = arch::PciDetail::Lines;
  if (args.more()) {
    const auto word = args.word("-v");
    if (!word || *word != "-v") return CommandStatus::Usage;
    detail = arch::PciDetail::Regions;
  }
  if (!args.end()) return CommandStatus::Usage;
  arch::print_pci_devices(out, detail);
  return CommandStatus::Ok;
}

}  // namespace

KCOMMAND(lspci, "[-v]", "devices on the PCI buses; -v with their addresses", show_pci)

}  // namespace paean
