// Bounce memory: for pages that a device does not reach.
//
//   request   | high | low | high |      a part of a request, as the device gets it:
//                |      |     |
//                v      |     v          write: copied before it is queued
//   bounce    |  B1  |  |  |  B2  |      read:  copied back in the completion, if it succeeded
//                |      v     |
//   device    |  B1  | low |  B2  |
//
// Only what lies above the device's highest byte is replaced. There are two pools, filled at boot and never again:
//
//   Dma32   for devices that reach 4 GiB          1 MiB of DMA32, which is no lowmem
//   Dma     for devices that reach less, 16 MiB   64 KiB of DMA
//
// so the path of a request takes no memory from anybody, and what writes dirty pages out never waits for memory that
// only writing them can give. Sectors and a record for each part are reserved before the part is queued, in the order
// of coming: who waits first gets first, whatever he needs. A request that needs more than half of a pool is done in
// parts; those that are queued come to their end by themselves, so everybody gets his turn.
//
// Locking: one spinning lock for a pool (LockRank::Bounce), taken in completions. Reserving may sleep.
// Source: the bounce pools of Linux 2.4 and their deadlocks; accounting in sectors and in order is new.
#pragma once

#include "kernel/block/bounce_sectors.hpp"
#include "kernel/block/request.hpp"
#include "kernel/cmdline.hpp"
#include "kernel/spinlock.hpp"
#include "kernel/sync.hpp"
#include "mm/page_alloc.hpp"

namespace paean {

class BlockQueue;
class BouncePool;
struct BlockLimits;

/// A part of a bounced request, on its way.
struct BounceRecord {
  static constexpr u32 kPieces = 32;
  struct Target {
    Page* page = nullptr;  // where the piece belongs; nullptr if the device reaches it
    u32 offset = 0;
    u32 pool_page = 0;
  };

  BlockRequest request;  // what the queue gets; `owner` is the record
  BlockRequest* whole = nullptr;
  BouncePool* pool = nullptr;
  u32 pieces = 0;
  u32 reserved = 0;  // sectors that were reserved and are not taken yet
  Segment segments[kPieces];
  Target targets[kPieces];
  BounceRecord* next_free = nullptr;
};

struct BounceStatistics {
  u32 pages;           // of the pool
  u32 sectors, free;   // of the pool; free ones
  u32 most_used;       // sectors at once
  u32 waiting, waits;  // requests that wait for sectors, now and since boot
  u32 parts;
  u64 sectors_read, sectors_written;
};

class BouncePool {
 public:
  static constexpr u32 kRecords = 64;

  constexpr BouncePool() = default;
  BouncePool(const BouncePool&) = delete;
  BouncePool& operator=(const BouncePool&) = delete;

  /// As many pages as there are, up to `pages`, below `highest`. OutOfMemory if there is none. May sleep.
  Result<> fill(u32 pages, AllocFlags flags, PhysAddr highest);
  bool empty() const { return pages_.empty(); }
  /// Gives all of it back. Nobody uses the pool any more (asserted).
  void drain();

  /// The largest part that one request may reserve.
  u32 most_sectors() const { return capacity_ == 0 ? 0 : std::max(capacity_ / 2, 1u); }
  /// A record and so many sectors, at most most_sectors(). May sleep.
  BounceRecord& reserve(u32 sectors);
  /// One more piece of the record, of up to `bytes`, out of what it has reserved.
  u32 add_bounced(BounceRecord& record, Page* page, u32 offset, u32 bytes);
  /// Reserved sectors that were not needed.
  void give_rest(BounceRecord& record);
  /// The record and everything in it. Any context.
  void release(BounceRecord& record);

  void count(BlockOp op, u32 sectors);
  BounceStatistics statistics();

 private:
  struct Waiter {
    u32 sectors = 0;
    BounceRecord* record = nullptr;
    Waiter* next = nullptr;
    Completion granted;
  };
  bool can_grant(u32 sectors) const REQUIRES(lock_) { return sectors <= unreserved_ && free_records_ != nullptr; }
  BounceRecord* grant(u32 sectors) REQUIRES(lock_);
  void serve_waiters() REQUIRES(lock_);

  SpinLock lock_{LockRank::Bounce};
  void* memory_ = nullptr;  // records, then what pages_ spans, then marks
  std::span<Page*> pages_{};
  u32 capacity_ = 0;
  BounceSectors sectors_ GUARDED_BY(lock_);
  u32 unreserved_ GUARDED_BY(lock_) = 0;
  BounceRecord* free_records_ GUARDED_BY(lock_) = nullptr;
  Waiter* first_ GUARDED_BY(lock_) = nullptr;
  Waiter* last_ GUARDED_BY(lock_) = nullptr;
  BounceStatistics statistics_ GUARDED_BY(lock_){};
};

inline constexpr u32 kDma32PoolPages = 256, kDmaPoolPages = 16, kMostPoolPages = 1024;

/// Fills the pools: `bouncepool=` pages each, if given. Boot, once. May sleep.
void init_bounce_pools(const CommandLine& options);
enum class BounceKind : u8 { Dma, Dma32 };
BouncePool& bounce_pool(BounceKind kind);
/// The pool for a device; nullptr if it reaches all memory. NotSupported if it does not reach any pool.
Result<BouncePool*> bounce_pool_for(const BlockLimits& limits);

/// Does the device miss any of it?
bool needs_bounce(const BlockLimits& limits, std::span<const Segment> segments);
/// In place of BlockQueue::add(). May sleep.
void add_bounced(BlockQueue& queue, const BlockLimits& limits, BouncePool& pool, BlockRequest& request);

/// Lines for `bounceinfo`.
void print_bounce(Sink& out);
/// Bytes of bounce memory in use.
u64 bounced_bytes_now();

}  // namespace paean
