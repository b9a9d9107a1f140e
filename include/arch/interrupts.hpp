// Interrupt controllers and the tick: PIC or IOAPIC for devices, LAPIC timer or PIT for time.
//
// init_interrupts() picks IOAPIC + LAPIC when CPUID and the ACPI MADT offer them, else PIC + PIT. Device interrupts
// keep their ISA numbers 0-15 everywhere; MADT overrides are applied when a line is routed.
#pragma once

#include "arch/irq.hpp"
#include "lib/format.hpp"

namespace paean::arch {

inline constexpr u32 kTicksPerSecond = 100;

/// Boot CPU, once, interrupts off, after calibrate_tsc(). Reads ACPI tables.
void init_interrupts();

/// Starts the periodic tick on this CPU; its handler was set by set_timer_handler().
void start_tick();

/// What a line is where the MADT does not say otherwise: ISA lines are edge-triggered and active high, those of PCI
/// devices level-triggered and active low.
enum class IrqTrigger : u8 { Isa, Pci };

/// Routes a line to this CPU and unmasks it; masks it. Any context.
void enable_irq_line(u32 irq, IrqTrigger trigger = IrqTrigger::Isa);
void disable_irq_line(u32 irq);
void end_of_interrupt(u32 irq);
/// The PIC raises 7 and 15 without a device behind them when a line drops too early.
bool irq_is_spurious(u32 irq);

/// `IOAPIC at fec00000, 24 lines; LAPIC timer 62500 kHz` and so on.
void describe_interrupts(Sink& out);

/// Local APICs that firmware reports as usable; 1 without ACPI.
u32 present_cpus();
bool using_apic();

}  // namespace paean::arch
