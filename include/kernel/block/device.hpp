// Block devices, as their users and as their drivers see them.
//
// A driver derives from BlockDevice, says its limits, and registers. The queue in front of it sorts and merges requests
// (kernel/block/queue.hpp) and hands the driver one command at a time, or as many as `queue_depth` says:
//
//   start(command) ..., end_of_starts()  ->  hardware  ->  interrupt  ->  finish(command, result)
//
// A command that is not finished in time: abort(command), which resets what it must so that the device no longer
// touches the pages, and then the queue finishes it with TimedOut. No command is started meanwhile; others that the
// reset killed are finished by the driver with an error, before or after abort() returns, or given to the device again.
// Time is what the device has had the command for: a driver that keeps one back says so, see CommandClock.
//
// Names as people know them: hda to hdd, vda ..., ram0; partitions hda1 ... are devices of their own.
#pragma once

#include <string_view>

#include "kernel/block/request.hpp"
#include "kernel/cmdline.hpp"

namespace paean {

struct BlockLimits {
  PhysAddr highest{~u64{0}};  // last byte that its DMA reaches
  u32 max_segments = 128;     // pieces in one command
  u32 max_segment_bytes = 64 * 1024;
  u32 max_sectors = 1024;   // in one command
  u32 boundary = 0;         // no piece crosses a multiple of it, a power of two; 0: none
  u32 queue_depth = 1;      // commands at once
  u32 timeout_ms = 10'000;  // a flush has three times as long: ATA disks may take 30 s to write their cache
};

/// What the device is told to do: requests that follow each other, as one transfer. Pieces keep all limits.
struct DmaPiece {
  PhysAddr start{};
  u32 bytes = 0;
};

/// How long the device has had a command. It runs from start() on; nobody's mistake but the device's own must count.
///
///   start() --> running --hold()--> held, never late --restart()--> running, from now on
///
/// Drivers call hold() where a command waits inside them (for another disk of its channel, for a reset) and restart()
/// where the hardware gets it, possibly again. Any context, without the queue's lock; hold() not while another CPU may
/// call restart() for the same command: the driver's lock sees to that.
class CommandClock {
 public:
  void hold() { __atomic_store_n(&held_, 1u, __ATOMIC_RELEASE); }
  void restart();

 private:
  friend class BlockQueue;
  void start(u32 now, u32 ticks);
  bool is_late(u32 now) const;
  u32 held_ = 0, due_ = 0, ticks_ = 0;
};

struct BlockCommand {
  BlockOp op = BlockOp::Read;
  Sector sector = 0;
  u32 sectors = 0;
  std::span<const DmaPiece> pieces{};
  u32 tag = 0;  // below queue_depth, not in use by another command
  void* driver_data = nullptr;
  CommandClock clock{};
};

struct BlockStatistics {
  u64 reads, writes, flushes;  // commands that succeeded
  u64 sectors_read, sectors_written;
  u64 merged;  // requests that travelled with another one
  u64 bounced_bytes;
  u64 errors, timeouts;
};

class BlockQueue;

class BlockDevice {
 public:
  BlockDevice(const BlockDevice&) = delete;
  BlockDevice& operator=(const BlockDevice&) = delete;

  std::string_view name() const { return name_; }
  u64 sectors() const { return sectors_; }
  const BlockLimits& limits() const { return limits_; }
  bool read_only() const { return read_only_; }
  BlockQueue* queue() const { return queue_; }
  /// The device that this is a part of, and where it begins there; itself and 0 for whole devices.
  virtual BlockDevice& whole() { return *this; }
  virtual Sector first_sector() const { return 0; }
  bool is_whole() { return &whole() == this; }

  // For the queue. Never called on partitions.
  /// Interrupts off, queue lock held: programs the hardware and returns. May call finish() only later.
  virtual void start(BlockCommand& command) = 0;
  /// The same, after one start() or several in a row: a device that can be told of many commands at once is told now.
  virtual void end_of_starts() {}
  /// May sleep. Afterwards the device does not touch the command's memory and will not finish it.
  virtual void abort(BlockCommand& command) = 0;

 protected:
  BlockDevice() = default;
  ~BlockDevice() = default;
  char name_[16]{};
  u64 sectors_ = 0;
  BlockLimits limits_{};
  bool read_only_ = false;

 private:
  friend class BlockRegistry;
  BlockQueue* queue_ = nullptr;
  BlockDevice* next_ = nullptr;
  u32 users_ = 0, visitors_ = 0;  // who opened it, and who looks at it right now
  bool owned_ = false;            // one of the users is its owner
};

/// For drivers. Any context; the queue lock is not held.
void finish(BlockDevice& device, BlockCommand& command, Result<> result);

/// Makes its queue, puts it into the list and reads its partition table. Name, sectors and limits are set. May sleep.
/// InvalidArgument for limits without sense, Exists for a name that is taken, NotSupported if it reaches no memory.
Result<> register_block_device(BlockDevice& device);
/// Requests that come later, and those that wait, end with Io; those that the device works on are waited for. Then its
/// memory is the driver's again. Busy while it is in use. May sleep.
Result<> unregister_block_device(BlockDevice& device);

/// nullptr if there is none of this name. Nothing keeps it from vanishing, see open_block_device().
BlockDevice* find_block_device(std::string_view name);
/// Owning: what is on it is a file system's or the swap's, which alone writes there. Readers are never refused.
enum class DeviceUse : u8 { Reading, Owning };
/// The same, and it stays until it is closed. NotFound. Busy: it has an owner, or one of its partitions has, or the
/// device that it is a part of.
Result<BlockDevice*> open_block_device(std::string_view name, DeviceUse use);
void close_block_device(BlockDevice& device, DeviceUse use);
/// Calls `visit(context, device)` for each, partitions behind their device.
void for_each_block_device(void (*visit)(void* context, BlockDevice& device), void* context);
BlockStatistics block_statistics(const BlockDevice& device);

/// One entry of linker section `block_drivers`: `probe` registers the devices that it finds. May sleep.
struct BlockDriver {
  const char* name;
  void (*probe)(const CommandLine& options);
};

/// Reserves bounce memory, probes every driver. Boot, once, threads running.
void init_block_devices(const CommandLine& options);

}  // namespace paean

#define BLOCK_DRIVER(driver_name, probe_function)                                              \
  [[gnu::used, gnu::section("block_drivers"),                                                  \
    gnu::aligned(8)]] static constinit const ::paean::BlockDriver block_driver_##driver_name { \
    #driver_name, probe_function                                                               \
  }
