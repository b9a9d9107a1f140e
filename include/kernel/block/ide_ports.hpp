// The registers of one IDE channel: the disk's behind `command` and `control`, the bus master's behind `bus_master`.
// Source: ATA/ATAPI-6 chapters 7 to 9; "Programming Interface for Bus Master IDE Controller", Intel 1994.
#pragma once

#include "arch/port.hpp"
#include "arch/tsc.hpp"

namespace paean {

namespace ide {

// Status and error of the disk.
inline constexpr u8 kBusy = 0x80, kDeviceFault = 0x20, kDataRequest = 0x08, kError = 0x01;
// Commands.
inline constexpr u8 kReadDma = 0xc8, kReadDmaExt = 0x25, kWriteDma = 0xca, kWriteDmaExt = 0x35;
inline constexpr u8 kFlushCache = 0xe7, kFlushCacheExt = 0xea, kCheckPower = 0xe5, kIdentify = 0xec;
// Device control.
inline constexpr u8 kNoInterrupt = 0x02, kSoftReset = 0x04;
// Device register.
inline constexpr u8 kByBlockNumber = 0xe0, kSlave = 0x10;
// Bus master command and status.
inline constexpr u8 kMasterStart = 0x01, kMasterToMemory = 0x08;
inline constexpr u8 kMasterActive = 0x01, kMasterError = 0x02, kMasterInterrupt = 0x04;

}  // namespace ide

class IdePorts {
 public:
  constexpr IdePorts() = default;
  constexpr IdePorts(u16 command, u16 control, u16 bus_master)
      : command_(command), control_(control), bus_master_(bus_master) {}

  u16 data() const { return command_; }
  u8 error() const { return arch::in8(command_ + 1); }
  u8 lba_middle() const { return arch::in8(command_ + 4); }
  u8 lba_high() const { return arch::in8(command_ + 5); }
  /// Acknowledges the interrupt.
  u8 status() const { return arch::in8(command_ + 7); }
  /// Does not.
  u8 quiet_status() const { return arch::in8(control_); }

  void write_control(u8 value) const { arch::out8(control_, value); }
  /// One byte of features, count and block number; with lba48 the upper halves are written first.
  void write_task(u8 count, u32 block) const {
    arch::out8(command_ + 2, count);
    arch::out8(command_ + 3, static_cast<u8>(block));
    arch::out8(command_ + 4, static_cast<u8>(block >> 8));
    arch::out8(command_ + 5, static_cast<u8>(block >> 16));
  }
  void write_device(u8 value) const { arch::out8(command_ + 6, value); }
  void write_command(u8 value) const { arch::out8(command_ + 7, value); }

  /// The disk takes 400 ns to show the status of the one that was selected or of a new command.
  void settle() const { arch::delay_microseconds(1); }

  u8 master_status() const { return arch::in8(bus_master_ + 2); }
  /// Clears the bits that are cleared by writing ones.
  void clear_master_status() const {
    arch::out8(bus_master_ + 2, static_cast<u8>(master_status() | ide::kMasterError | ide::kMasterInterrupt));
  }
  void write_master(u8 value) const { arch::out8(bus_master_, value); }
  void write_table(u32 address) const { arch::out32(bus_master_ + 4, address); }

 private:
  u16 command_ = 0, control_ = 0, bus_master_ = 0;
};

}  // namespace paean
