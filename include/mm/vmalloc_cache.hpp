// What each CPU keeps of vmalloc: areas that it freed, until no CPU can reach them; and small ones, for the next taker.
//
//   open     parked, without a stamp; at 64 pages it is stamped
//      |
//      v
//   stamped  at most 8 batches, oldest first; what is too much goes into the youngest. One is done when every CPU has
//      |     flushed at or after its stamp, and stays until it is purged: one or two a time when the next is stamped,
//      |     all by whoever comes here for addresses and before an allocation of frames fails
//      v
//   cached   addresses of 1 to 4 pages, clean; larger ones go back to the space
//
// Only areas whose entries lie in one table are cached. Each CPU's lock is taken by itself, interrupts included, and by
// purges. Any context but where said.
#pragma once

#include "mm/vmalloc_area.hpp"

namespace paean {

inline constexpr u32 kCachedSizes = 4;
inline constexpr u32 kBatchPages = 64;  // one flush for so many; as many as the page stacks take at once

class alignas(64) CpuAreas {
 public:
  static constexpr u32 kBatches = 8;

  /// A cached area of so many pages (at most kCachedSizes), which is live from now on; nullptr if there is none.
  VmArea* take(u32 pages) {
    const SpinGuard<IrqSave> guard{lock_};
    VmArea* area = cached_[pages - 1].pop();
    if (area == nullptr) return nullptr;
    cached_pages_ -= pages;
    ++live_;
    return area;
  }
  /// Of a live area whose entries were hidden. True if so many have come together that purge_some() is due.
  [[nodiscard]] bool park(VmArea& area) {
    const SpinGuard<IrqSave> guard{lock_};
    --live_;
    open_.areas.push(area);
    open_.pages += area.used;
    return open_.pages >= kBatchPages;
  }
  /// Stamps what is open, flushes this CPU, and purges the oldest batch that is done: two if more than half of the
  /// batches are there, all if the CPU has too much parked. If that is still too much, and it may wait, it interrupts
  /// the CPUs that are behind, waits for them and purges all; elsewhere it interrupts them and leaves the purge to
  /// whoever passes by later.
  void purge_some();
  /// Gives back the frames of the batches that are done, of the oldest so many.
  void purge_done(u32 most_batches = kBatches);

  void stamp();
  void note_live(i32 change);
  /// Caches small areas, clean ones; the others and what is too much go back to the space.
  void settle(VmAreaStack& areas);
  /// Gives the cached addresses back to the space.
  void drop_cached();
  bool has_too_much() const;
  /// Read without the lock: a hint.
  u32 parked_pages() const NO_THREAD_SAFETY_ANALYSIS { return open_.pages + stamped_pages_; }
  void add_to(VmallocStatistics& sum);

 private:
  /// Areas with one stamp: every CPU that has flushed at or after it reaches none of them.
  struct Batch {
    VmAreaStack areas{};
    u32 pages = 0;
    u32 stamp = 0;
  };
  void stamp_open() REQUIRES(lock_);
  Batch take_done(u32 most_pages);
  Batch take_part(Batch& batch, u32 most_pages) REQUIRES(lock_);

  SpinLock lock_{LockRank::VmallocCache};
  VmAreaStack cached_[kCachedSizes] GUARDED_BY(lock_){};  // by pages - 1
  u32 cached_pages_ GUARDED_BY(lock_) = 0;
  Batch open_ GUARDED_BY(lock_){};
  Batch stamped_[kBatches] GUARDED_BY(lock_){};
  u32 stamped_count_ GUARDED_BY(lock_) = 0;
  u32 requested_ GUARDED_BY(lock_) = 0;  // the last stamp for which other CPUs were interrupted
  u32 stamped_pages_ = 0;                // written under the lock
  u32 live_ GUARDED_BY(lock_) = 0;       // wraps below zero on a CPU that frees for others
  u32 batches_ GUARDED_BY(lock_) = 0;    // stamped since boot
};
extern CpuAreas cpu_areas[arch::kMaxCpus];

/// A thread that is moved to another CPU between this and what it does takes a lock that others take too: no harm.
inline CpuAreas& this_cpu_areas() { return cpu_areas[arch::this_cpu()]; }

/// Boot, once. A CPU's share of what may be parked follows from the pages of address space that are not taken, and from
/// the size of memory.
void init_vmalloc_cache(u32 address_pages);
/// An area for so many pages, live from now on: a cached one, or a new one.
Result<VmArea*> take_area(u32 pages, u32 align);
/// Gives it back with nothing mapped in it: it was not used, or every CPU has flushed since.
void return_area(VmArea& area);
/// Purges before a second attempt. False where one may not wait.
bool make_room();
/// For the frame allocator, before a request fails: gives back the parked frames of every CPU. Where it may not wait
/// for other CPUs, those that none of them reaches any more. False if none were parked. Any context.
bool give_back_parked();

}  // namespace paean
