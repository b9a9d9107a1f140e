// The queue in front of one whole device: sorts and merges requests, keeps the device busy, looks at the time.
//
//   add()                                start()                 finish()
//   ----> waiting (request_order.hpp) ----------> command slot ----------> done(request)
//            ^                                       |   |
//            |   rest of a long request, or          |   | too late: abort(), TimedOut
//            +-- each one of a merged error, alone --+   +-----------------------------> done(request)
//
// Slots, one for each command that the device takes at once, and their pieces are made with the queue, in highmem: no
// memory is needed on the way to a completion. An error of a merged command is found out by doing its requests one by
// one, once, so that a bad sector fails only the request that has it; a single request that fails is not repeated, nor
// is one that timed out. While a command is being aborted nothing new is started.
//
// Locking: one spinning lock (LockRank::BlockQueue), taken in interrupts; start() is called with it, done() without.
#pragma once

#include "kernel/block/device.hpp"
#include "kernel/block/request_order.hpp"
#include "kernel/spinlock.hpp"
#include "kernel/sync.hpp"

namespace paean {

class BouncePool;

class BlockQueue {
 public:
  /// The device's limits are sane and final. OutOfMemory; NotSupported if no bounce memory is within its reach. May
  /// sleep.
  static Result<BlockQueue*> create(BlockDevice& device);
  /// It is stopped.
  static void destroy(BlockQueue* queue);

  /// Requests with their positions set, all of whose pages the device reaches. Any context.
  void add(BlockRequests& requests);
  void add(BlockRequest& request);
  void finish(BlockCommand& command, Result<> result);
  /// Aborts what is due. From one thread only. May sleep.
  void expire(u32 now);
  /// Fails what waits and what will come, with Io, and waits for what runs, or aborts it. It is out of the registry, so
  /// that nobody else calls expire(). May sleep.
  void stop();

  /// For segments that the device does not reach; nullptr if it reaches all memory.
  BouncePool* bounce_pool() const { return bounce_pool_; }
  BlockStatistics statistics();
  void count_bounced(u32 bytes);

 private:
  enum class State : u8 { Free, Running, Aborting };
  struct Slot {
    BlockCommand command{};
    std::span<DmaPiece> room{};
    BlockRequests requests{};
    State state = State::Free;
    bool partial = false;   // there is more of its only request
    bool answered = false;  // while it was being aborted
    Result<> answer{};
    Slot* next_free = nullptr;
  };

  BlockQueue(BlockDevice& device, BouncePool* pool) : device_(device), bounce_pool_(pool) {}
  Result<> make_slots();
  void start_commands() REQUIRES(lock_);
  void fill(Slot& slot, BlockRequest& first) REQUIRES(lock_);
  void end_command(Slot& slot, Result<>& result, BlockRequests& done) REQUIRES(lock_);
  void count(const Slot& slot, const Result<>& result) REQUIRES(lock_);
  Slot* take_late_slot(u32 now);

  BlockDevice& device_;
  BouncePool* bounce_pool_;
  SpinLock lock_{LockRank::BlockQueue};
  RequestOrder order_ GUARDED_BY(lock_);
  std::span<Slot> slots_;
  Slot* free_ GUARDED_BY(lock_) = nullptr;
  u32 running_ GUARDED_BY(lock_) = 0;
  bool aborting_ GUARDED_BY(lock_) = false;
  bool stopped_ GUARDED_BY(lock_) = false;
  Completion idle_;  // once it is stopped
  BlockStatistics statistics_ GUARDED_BY(lock_){};
};

// The thread that looks at the time. It sleeps while no device has anything to do.

/// A command begins or ends. Any context.
void note_command_started();
void note_command_ended();
/// Boot, once. May sleep.
Result<> start_block_watch();

}  // namespace paean
