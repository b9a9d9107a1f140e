// The 16550 serial port: the console.
//
// Everything is inline because boot/early.cpp uses it before paging, where calls into the kernel's window cannot work.
// Programmed in full (8 data bits, no parity, FIFO) because a loader may leave anything; 115200 baud by default.
// Locking: none here; kernel/base/log.cpp and the console serialise.
// Source: NS16550A data sheet.
#pragma once

#include "arch/port.hpp"

namespace paean::arch {

class Uart {
 public:
  static constexpr u16 kCom1 = 0x3f8;
  static constexpr u32 kBaudClock = 115200;

  constexpr explicit Uart(u16 base) : base_(base) {}

  /// Programs the port. `divisor` = 115200 / baud, at least 1. Interrupts stay off. What was received already stays to
  /// be read, even the first bytes of a pipe that QEMU holds: switching the FIFO on would drop them, so it then stays
  /// as it is, and QEMU holds back what does not fit. In loop-back mode, a loader's leftover, they are our own echo.
  [[gnu::always_inline]] void init(u16 divisor) const {
    const bool echo = (in8(base_ + kModemControl) & kLoopBack) != 0;
    out8(base_ + kInterruptEnable, 0);
    out8(base_ + kLineControl, kDivisorLatch);
    out8(base_ + kData, static_cast<u8>(divisor));
    out8(base_ + kInterruptEnable, static_cast<u8>(divisor >> 8));
    out8(base_ + kLineControl, kEightBits);
    const bool received = !echo && has_data();
    if (!received) out8(base_ + kFifoControl, kFifoEnableAndClear);
    out8(base_ + kModemControl, kDtrRtsOut2);
    if (!received) (void)in8(base_ + kData);
  }

  /// Sends one byte; gives up on a port that is not there instead of waiting for ever.
  [[gnu::always_inline]] void put(u8 byte) const {
    for (u32 tries = 0; tries < kMaxWait && (in8(base_ + kLineStatus) & kTransmitEmpty) == 0; ++tries) {}
    out8(base_ + kData, byte);
  }

  [[gnu::always_inline]] bool has_data() const {
    const u8 status = in8(base_ + kLineStatus);
    return status != 0xff && (status & kDataReady) != 0;  // 0xff: no port at all
  }
  [[gnu::always_inline]] u8 get() const { return in8(base_ + kData); }

  /// Interrupt on received data (IRQ 4 for COM1), at once if some is there; the other side may send.
  void start_receiving() const {
    out8(base_ + kModemControl, kDtrRtsOut2);
    out8(base_ + kInterruptEnable, 1);
  }
  /// No interrupt, and the other side is to wait. QEMU does once the FIFO is full.
  void hold_receiving() const {
    out8(base_ + kInterruptEnable, 0);
    out8(base_ + kModemControl, kDtrOut2);
  }
  /// Reads and so acknowledges the reason for an interrupt.
  void acknowledge() const { (void)in8(base_ + kInterruptId); }

 private:
  static constexpr u16 kData = 0, kInterruptEnable = 1, kInterruptId = 2, kFifoControl = 2, kLineControl = 3;
  static constexpr u16 kModemControl = 4, kLineStatus = 5;
  static constexpr u8 kDivisorLatch = 0x80, kEightBits = 0x03, kFifoEnableAndClear = 0x07, kDtrRtsOut2 = 0x0b;
  static constexpr u8 kDtrOut2 = 0x09, kTransmitEmpty = 0x20, kDataReady = 0x01, kLoopBack = 0x10;
  static constexpr u32 kMaxWait = 100000;  // far longer than a byte takes at 1200 baud
  u16 base_;
};

}  // namespace paean::arch
