// The local APIC: this CPU's timer, end-of-interrupt, and interrupts to other CPUs.
// Source: Intel SDM vol. 3A chapter 11.
#pragma once

#include "arch/irq.hpp"
#include "lib/addr.hpp"

namespace paean::arch {

/// Maps the registers (the same physical address on every CPU) and finds the timer's speed. Boot CPU, once.
void init_lapic(PhysAddr registers);
bool have_lapic();
/// Programs this CPU's own. Each CPU.
void enable_local_apic();
void calibrate_lapic_timer();
u32 lapic_timer_khz();
void start_lapic_timer(u32 hertz);

/// This CPU's id; 0 without a local APIC.
u32 local_apic_id();
void end_of_local_interrupt();

/// A fixed interrupt to one CPU. Waits until the previous one has left; a few hundred nanoseconds.
void send_ipi(u32 apic_id, u32 vector, IrqsOff);
/// Resets a CPU, which then waits to be started: for one that answers too late.
void send_init(u32 apic_id);
/// The start-up sequence for a CPU that has not run: INIT, then twice the page where it begins (below 1 MiB).
void send_startup(u32 apic_id, u32 page);

}  // namespace paean::arch
