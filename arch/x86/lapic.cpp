#include "arch/lapic.hpp"

#include "arch/cpu.hpp"
#include "arch/fixmap.hpp"
#include "arch/traps.hpp"
#include "arch/tsc.hpp"

namespace paean::arch {

namespace {

constexpr u32 kId = 0x20, kTaskPriority = 0x80, kEnd = 0xb0, kSpurious = 0xf0, kCommandLow = 0x300,
              kCommandHigh = 0x310;
constexpr u32 kTimer = 0x320, kInt0 = 0x350, kInt1 = 0x360, kError = 0x370;
constexpr u32 kInitial = 0x380, kCurrent = 0x390, kDivide = 0x3e0;
constexpr u32 kMasked = 1u << 16, kPeriodic = 1u << 17, kNmi = 4u << 8;
constexpr u32 kEnable = 1u << 8, kDivideBy16 = 3;
constexpr u32 kPending = 1u << 12, kAssert = 1u << 14, kLevel = 1u << 15, kInit = 5u << 8, kStartup = 6u << 8;
constexpr u64 kApicBaseEnable = 1u << 11;

constinit volatile u32* registers = nullptr;
constinit u32 timer_khz = 0;

u32 read(u32 offset) { return registers[offset / 4]; }
void write(u32 offset, u32 value) { registers[offset / 4] = value; }

void wait_until_sent() {
  while ((read(kCommandLow) & kPending) != 0) cpu_relax();
}

void command(u32 apic_id, u32 low) {
  write(kCommandHigh, apic_id << 24);
  write(kCommandLow, low);
  wait_until_sent();
}

}  // namespace

void init_lapic(PhysAddr address) {
  registers = reinterpret_cast<volatile u32*>(map_device(address, kPageSize).raw());
  enable_local_apic();
  calibrate_lapic_timer();
}

bool have_lapic() { return registers != nullptr; }

void enable_local_apic() {
  write_msr(kMsrApicBase, read_msr(kMsrApicBase) | kApicBaseEnable);
  write(kTaskPriority, 0);
  write(kTimer, kMasked);
  write(kInt0, kMasked);
  write(kInt1, kNmi);
  write(kError, kMasked);
  write(kSpurious, kEnable | kVectorSpurious);
}

/// Against the TSC, which was calibrated against the PIT.
void calibrate_lapic_timer() {
  write(kDivide, kDivideBy16);
  write(kTimer, kMasked);
  write(kInitial, 0xffffffff);
  const u64 start = read_tsc();
  delay_microseconds(1000);
  const u32 counted = 0xffffffff - read(kCurrent);
  const u64 ticks = read_tsc() - start;
  timer_khz = static_cast<u32>(u64{counted} * tsc_khz() / ticks);
  write(kInitial, 0);
}

u32 lapic_timer_khz() { return timer_khz; }

void start_lapic_timer(u32 hertz) {
  write(kDivide, kDivideBy16);
  write(kTimer, kVectorTimer | kPeriodic);
  write(kInitial, static_cast<u32>(u64{timer_khz} * 1000 / hertz));
}

u32 local_apic_id() { return registers != nullptr ? read(kId) >> 24 : 0; }

void end_of_local_interrupt() { write(kEnd, 0); }

void send_ipi(u32 apic_id, u32 vector, IrqsOff) { command(apic_id, vector | kAssert); }

void send_init(u32 apic_id) { command(apic_id, kInit | kLevel | kAssert); }

void send_startup(u32 apic_id, u32 page) {
  send_init(apic_id);
  delay_microseconds(10'000);
  for (u32 i = 0; i < 2; ++i) {
    command(apic_id, kStartup | kAssert | page);
    delay_microseconds(200);
  }
}

}  // namespace paean::arch
