#include "arch/pit.hpp"

#include "arch/port.hpp"

namespace paean::arch {

namespace {
constexpr u16 kChannel0 = 0x40, kChannel2 = 0x42, kCommand = 0x43, kSpeakerPort = 0x61;
constexpr u8 kCount2Once = 0xb0;  // channel 2, low then high byte, mode 0: output rises at zero
constexpr u8 kCount0Rate = 0x34;  // channel 0, low then high byte, mode 2
constexpr u8 kSpeakerData = 0x02, kGate2 = 0x01, kOutput2 = 0x20;
}  // namespace

void start_pit_countdown(u16 count) {
  const u8 port = static_cast<u8>(in8(kSpeakerPort) & ~(kSpeakerData | kGate2));
  out8(kSpeakerPort, port);
  out8(kCommand, kCount2Once);
  out8(kChannel2, static_cast<u8>(count));
  out8(kChannel2, static_cast<u8>(count >> 8));
  out8(kSpeakerPort, port | kGate2);
}

bool pit_countdown_done() { return (in8(kSpeakerPort) & kOutput2) != 0; }

void program_pit_tick(u32 hertz) {
  const u32 divisor = kPitHz / hertz;
  out8(kCommand, kCount0Rate);
  out8(kChannel0, static_cast<u8>(divisor));
  out8(kChannel0, static_cast<u8>(divisor >> 8));
}

}  // namespace paean::arch
