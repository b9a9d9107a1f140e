// The interrupt controllers behind one interface. Source: Intel 8259A and 82093AA data sheets, SDM vol. 3A chapter 11.
#include "arch/interrupts.hpp"

#include <optional>

#include "arch/acpi.hpp"
#include "arch/cpu.hpp"
#include "arch/fixmap.hpp"
#include "arch/lapic.hpp"
#include "arch/lock.hpp"
#include "arch/pit.hpp"
#include "arch/port.hpp"
#include "arch/traps.hpp"
#include "arch/tsc.hpp"
#include "lib/assert.hpp"

namespace paean::arch {

namespace {

constexpr u16 kPicMaster = 0x20, kPicSlave = 0xa0;
constexpr u8 kPicEnd = 0x20, kPicReadInService = 0x0b;
constexpr u16 kPicLevel = 0x4d0;  // a bit a line that is level-triggered; on chip sets with PCI

constexpr u32 kIoApicVersion = 1, kIoApicRedirection = 0x10;
constexpr u32 kRedirectLow = 1u << 13, kRedirectLevel = 1u << 15, kRedirectMasked = 1u << 16;

struct IoApic {
  volatile u32* registers = nullptr;
  PhysAddr address{};
  u32 first_gsi = 0;
  u32 lines = 0;
};

constinit IoApic ioapics[kMaxIoApics]{};
constinit u32 ioapic_count = 0;
constinit u16 pic_mask = 0xffff;
constinit LeafLock line_lock{LockRank::IrqController};  // guards pic_mask, and the two steps to a register of an IOAPIC

u32 ioapic_read(const IoApic& chip, u32 index) {
  chip.registers[0] = index;
  return chip.registers[4];
}
void ioapic_write(const IoApic& chip, u32 index, u32 value) {
  chip.registers[0] = index;
  chip.registers[4] = value;
}

void pic_write_mask() {
  out8(kPicMaster + 1, static_cast<u8>(pic_mask));
  out8(kPicSlave + 1, static_cast<u8>(pic_mask >> 8));
}

/// Both chips are programmed and masked even when the IOAPIC is used: a stray interrupt must not look like an
/// exception.
void init_pic() {
  constexpr u8 kInit = 0x11, kMode8086 = 0x01;
  out8(kPicMaster, kInit), io_delay();
  out8(kPicSlave, kInit), io_delay();
  out8(kPicMaster + 1, kVectorIrqBase), io_delay();
  out8(kPicSlave + 1, kVectorIrqBase + 8), io_delay();
  out8(kPicMaster + 1, 1u << 2), io_delay();  // the slave hangs on line 2
  out8(kPicSlave + 1, 2), io_delay();
  out8(kPicMaster + 1, kMode8086), io_delay();
  out8(kPicSlave + 1, kMode8086), io_delay();
  pic_write_mask();
}

void init_ioapics() {
  for (u32 i = 0; i < madt().ioapic_count; ++i) {
    const IoApicFact& fact = madt().ioapics[i];
    IoApic chip;
    chip.address = PhysAddr{fact.address};
    chip.registers = reinterpret_cast<volatile u32*>(map_device(chip.address, 32).raw());
    chip.first_gsi = fact.first_gsi;
    chip.lines = ((ioapic_read(chip, kIoApicVersion) >> 16) & 255) + 1;
    for (u32 line = 0; line < chip.lines; ++line) {
      ioapic_write(chip, kIoApicRedirection + 2 * line, kRedirectMasked);
      ioapic_write(chip, kIoApicRedirection + 2 * line + 1, 0);
    }
    ioapics[ioapic_count++] = chip;
  }
}

/// Where a line ends; nullopt if no IOAPIC has it.
struct IoApicPin {
  const IoApic* chip;
  u32 index;
};
std::optional<IoApicPin> ioapic_pin(u32 irq) {
  const InterruptOverride& fact = madt().overrides[irq];
  const u32 gsi = fact.given ? fact.gsi : irq;
  for (u32 i = 0; i < ioapic_count; ++i) {
    const IoApic& chip = ioapics[i];
    if (gsi < chip.first_gsi || gsi >= chip.first_gsi + chip.lines) continue;
    return IoApicPin{&chip, kIoApicRedirection + 2 * (gsi - chip.first_gsi)};
  }
  return std::nullopt;
}

void route_through_ioapic(u32 irq, IrqTrigger trigger) {
  constexpr u32 kHigh = 1, kLow = 3, kEdge = 1, kLevel = 3;  // 0: as the bus has it
  const auto pin = ioapic_pin(irq);
  if (!pin) return;
  const u16 flags = madt().overrides[irq].flags;
  const u32 polarity = flags & 3, mode = (flags >> 2) & 3;
  u32 low = kVectorIrqBase + irq;
  if (polarity == kLow || (polarity != kHigh && trigger == IrqTrigger::Pci)) low |= kRedirectLow;
  if (mode == kLevel || (mode != kEdge && trigger == IrqTrigger::Pci)) low |= kRedirectLevel;
  ioapic_write(*pin->chip, pin->index + 1, local_apic_id() << 24);
  ioapic_write(*pin->chip, pin->index, low);
}

void unmask_in_pic(u32 irq, IrqTrigger trigger) {
  if (trigger == IrqTrigger::Pci) {
    const u16 port = kPicLevel + (irq >= 8 ? 1 : 0);
    out8(port, static_cast<u8>(in8(port) | 1u << (irq % 8)));
  }
  pic_mask = static_cast<u16>(pic_mask & ~(1u << irq));
  if (irq >= 8) pic_mask = static_cast<u16>(pic_mask & ~(1u << 2));
  pic_write_mask();
}

}  // namespace

void init_interrupts() {
  init_pic();
  init_acpi();
  if (!cpu_features().apic || !cpu_features().msr || !madt().found || madt().ioapic_count == 0) return;
  const u64 base = read_msr(kMsrApicBase) & pte_bits::kAddress;
  init_lapic(PhysAddr{madt().lapic_address != 0 ? madt().lapic_address : base});
  init_ioapics();
}

void start_tick() {
  if (have_lapic() && lapic_timer_khz() != 0) return start_lapic_timer(kTicksPerSecond);
  program_pit_tick(kTicksPerSecond);
}

void enable_irq_line(u32 irq, IrqTrigger trigger) {
  const LeafGuard guard{line_lock};
  if (ioapic_count != 0) return route_through_ioapic(irq, trigger);
  unmask_in_pic(irq, trigger);
}

void disable_irq_line(u32 irq) {
  const LeafGuard guard{line_lock};
  if (ioapic_count == 0) {
    pic_mask = static_cast<u16>(pic_mask | 1u << irq);
    return pic_write_mask();
  }
  if (const auto pin = ioapic_pin(irq)) ioapic_write(*pin->chip, pin->index, kRedirectMasked);
}

void end_of_interrupt(u32 irq) {
  if (ioapic_count != 0) return end_of_local_interrupt();
  if (irq >= 8) out8(kPicSlave, kPicEnd);
  out8(kPicMaster, kPicEnd);
}

bool irq_is_spurious(u32 irq) {
  if (ioapic_count != 0 || (irq != 7 && irq != 15)) return false;
  const u16 chip = irq == 7 ? kPicMaster : kPicSlave;
  out8(chip, kPicReadInService);
  if ((in8(chip) & 0x80) != 0) return false;
  if (irq == 15) out8(kPicMaster, kPicEnd);  // the master did see its slave
  return true;
}

void describe_interrupts(Sink& out) {
  if (ioapic_count == 0) { return format_to(out, "interrupts: PIC, PIT tick {} Hz\n", kTicksPerSecond); }
  for (u32 i = 0; i < ioapic_count; ++i) {
    format_to(out, "interrupts: IOAPIC at {:08x}, GSI {}-{}\n", ioapics[i].address, ioapics[i].first_gsi,
              ioapics[i].first_gsi + ioapics[i].lines - 1);
  }
  format_to(out, "interrupts: LAPIC timer {} kHz, tick {} Hz\n", lapic_timer_khz(), kTicksPerSecond);
}

u32 present_cpus() {
  u32 usable = 0;
  for (u32 i = 0; i < madt().cpu_count; ++i) usable += madt().cpus[i].usable ? 1 : 0;
  return usable == 0 ? 1 : usable;
}

bool using_apic() { return ioapic_count != 0; }

}  // namespace paean::arch
