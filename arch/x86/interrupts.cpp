// The interrupt controllers behind one interface. Source: Intel 8259A and 82093AA data sheets, SDM vol. 3A chapter 11.
#include "arch/interrupts.hpp"

#include "arch/acpi.hpp"
#include "arch/cpu.hpp"
#include "arch/fixmap.hpp"
#include "arch/pit.hpp"
#include "arch/port.hpp"
#include "arch/traps.hpp"
#include "arch/tsc.hpp"
#include "lib/assert.hpp"

namespace paean::arch {

namespace {

constexpr u16 kPicMaster = 0x20, kPicSlave = 0xa0;
constexpr u8 kPicEnd = 0x20, kPicReadInService = 0x0b;

constexpr u32 kLapicId = 0x20, kLapicTaskPriority = 0x80, kLapicEnd = 0xb0, kLapicSpurious = 0xf0;
constexpr u32 kLapicTimer = 0x320, kLapicInt0 = 0x350, kLapicInt1 = 0x360, kLapicError = 0x370;
constexpr u32 kLapicInitial = 0x380, kLapicCurrent = 0x390, kLapicDivide = 0x3e0;
constexpr u32 kLvtMasked = 1u << 16, kLvtPeriodic = 1u << 17, kLvtNmi = 4u << 8;
constexpr u32 kLapicEnable = 1u << 8, kDivideBy16 = 3;
constexpr u64 kApicBaseEnable = 1u << 11;

constexpr u32 kIoApicVersion = 1, kIoApicRedirection = 0x10;
constexpr u32 kRedirectLow = 1u << 13, kRedirectLevel = 1u << 15, kRedirectMasked = 1u << 16;

struct IoApic {
  volatile u32* registers = nullptr;
  PhysAddr address{};
  u32 first_gsi = 0;
  u32 lines = 0;
};

constinit volatile u32* lapic = nullptr;
constinit IoApic ioapics[kMaxIoApics]{};
constinit u32 ioapic_count = 0;
constinit u32 lapic_timer_khz = 0;
constinit u16 pic_mask = 0xffff;

u32 lapic_read(u32 offset) { return lapic[offset / 4]; }
void lapic_write(u32 offset, u32 value) { lapic[offset / 4] = value; }

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

void init_lapic() {
  const u64 base = read_msr(kMsrApicBase);
  const PhysAddr address{madt().lapic_address != 0 ? madt().lapic_address : base & pte_bits::kAddress};
  write_msr(kMsrApicBase, base | kApicBaseEnable);
  lapic = reinterpret_cast<volatile u32*>(map_device(address, kPageSize).raw());
  lapic_write(kLapicTaskPriority, 0);
  lapic_write(kLapicTimer, kLvtMasked);
  lapic_write(kLapicInt0, kLvtMasked);
  lapic_write(kLapicInt1, kLvtNmi);
  lapic_write(kLapicError, kLvtMasked);
  lapic_write(kLapicSpurious, kLapicEnable | kVectorSpurious);
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

void route_through_ioapic(u32 irq) {
  const InterruptOverride& fact = madt().overrides[irq];
  const u32 gsi = fact.given ? fact.gsi : irq;
  u32 low = kVectorIrqBase + irq;
  if ((fact.flags & 3) == 3) low |= kRedirectLow;
  if (((fact.flags >> 2) & 3) == 3) low |= kRedirectLevel;
  for (u32 i = 0; i < ioapic_count; ++i) {
    const IoApic& chip = ioapics[i];
    if (gsi < chip.first_gsi || gsi >= chip.first_gsi + chip.lines) continue;
    const u32 index = kIoApicRedirection + 2 * (gsi - chip.first_gsi);
    ioapic_write(chip, index + 1, local_apic_id() << 24);
    ioapic_write(chip, index, low);
    return;
  }
}

/// How fast the timer counts, against the TSC that was just calibrated against the PIT.
void calibrate_lapic_timer() {
  lapic_write(kLapicDivide, kDivideBy16);
  lapic_write(kLapicTimer, kLvtMasked);
  lapic_write(kLapicInitial, 0xffffffff);
  const u64 start = read_tsc();
  delay_microseconds(1000);
  const u32 counted = 0xffffffff - lapic_read(kLapicCurrent);
  const u64 ticks = read_tsc() - start;
  lapic_timer_khz = static_cast<u32>(u64{counted} * tsc_khz() / ticks);
  lapic_write(kLapicInitial, 0);
}

}  // namespace

void init_interrupts() {
  init_pic();
  init_acpi();
  if (!cpu_features().apic || !cpu_features().msr || !madt().found || madt().ioapic_count == 0) return;
  init_lapic();
  init_ioapics();
  calibrate_lapic_timer();
}

void start_tick() {
  if (lapic != nullptr && lapic_timer_khz != 0) {
    lapic_write(kLapicTimer, kVectorTimer | kLvtPeriodic);
    lapic_write(kLapicInitial, lapic_timer_khz * 1000 / kTicksPerSecond);
    return;
  }
  program_pit_tick(kTicksPerSecond);
}

void enable_irq_line(u32 irq) {
  if (ioapic_count != 0) return route_through_ioapic(irq);
  pic_mask = static_cast<u16>(pic_mask & ~(1u << irq));
  if (irq >= 8) pic_mask = static_cast<u16>(pic_mask & ~(1u << 2));
  pic_write_mask();
}

void end_of_interrupt(u32 irq) {
  if (ioapic_count != 0) return end_of_local_interrupt();
  if (irq >= 8) out8(kPicSlave, kPicEnd);
  out8(kPicMaster, kPicEnd);
}

void end_of_local_interrupt() { lapic_write(kLapicEnd, 0); }

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
  format_to(out, "interrupts: LAPIC timer {} kHz, tick {} Hz\n", lapic_timer_khz, kTicksPerSecond);
}

u32 present_cpus() {
  u32 usable = 0;
  for (u32 i = 0; i < madt().cpu_count; ++i) usable += madt().cpus[i].usable ? 1 : 0;
  return usable == 0 ? 1 : usable;
}

bool using_apic() { return ioapic_count != 0; }

u32 local_apic_id() { return lapic != nullptr ? lapic_read(kLapicId) >> 24 : 0; }

u32 online_cpus() { return 1; }

}  // namespace paean::arch
