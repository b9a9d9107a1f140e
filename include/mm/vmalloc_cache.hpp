// What each CPU keeps of vmalloc: areas that it freed, until no CPU can reach them; and small ones, for the next taker.
//
//   open     parked, without a stamp; at 64 pages it is stamped
//      |
//      v
//   stamped  at most 8 batches, oldest first; what is too much goes into the youngest. One is done when every CPU has
//      |     flushed at or after its stamp, or its addresses; it stays until it is purged: one or two a time when the
//      |     next is stamped, all by whoever comes here for addresses and before an allocation of frames fails
//      v
//   cached   addresses of 1 to 4 pages, clean; larger ones go back to the space
//
// Who purges all and may wait makes one flush for everything that is parked: of the range that it lies in if that is
// small, so that no CPU loses its other translations; otherwise of all, by CPUs that have not flushed since.
// Only areas whose entries lie in one table are cached. Each CPU's lock is taken by itself, interrupts included, and by
// purges. Any context but where said.
#pragma once

#include <algorithm>

#include "arch/tlb.hpp"
#include "lib/hot_path.hpp"
#include "mm/vmalloc_area.hpp"

namespace paean {

inline constexpr u32 kCachedSizes = 4;
inline constexpr u32 kBatchPages = 64;  // one flush for so many; as many as the page stacks take at once

/// The addresses that some areas lie in, and what is between them.
class AreaSpan {
 public:
  /// False if it has become too large for the flush of a range: then it grows no more.
  bool add(const VmArea& area) {
    start_ = std::min(start_, area.start());
    end_ = std::max(end_, area.start() + area.used * kPageSize);
    return pages() <= arch::kTlbRangeLimit;
  }
  bool empty() const { return end_ <= start_; }
  VirtAddr start() const { return start_; }
  u32 pages() const { return empty() ? 0 : (end_ - start_) >> kPageShift; }

 private:
  VirtAddr start_{~0u}, end_{0};
};

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
  /// Stamps what is open; `span` grows by what some CPU may still reach. No batch has a younger stamp than the result.
  u32 stamp(AreaSpan& span);
  /// Every CPU has flushed the addresses of the batches up to this stamp: they are done.
  void note_shot_down(u32 stamp);
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
    bool is_shot_down = false;  // no CPU reaches them, whatever it has flushed since
    bool is_done() const { return is_shot_down || arch::tlb_generation_is_done(stamp); }
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
inline CpuAreas& this_cpu_areas() { return *in_register(&cpu_areas[arch::this_cpu()]); }

/// Boot, once. A CPU's share of what may be parked follows from the pages of address space that are not taken, and from
/// the size of memory.
void init_vmalloc_cache(u32 address_pages);
/// An area for so many pages, live from now on: a cached one, or a new one.
Result<VmArea*> take_area(u32 pages, u32 align);
/// Gives it back with nothing mapped in it: it was not used, or every CPU has flushed since.
void return_area(VmArea& area);
/// Purges before a second attempt. False if there was nothing to purge, and where one may not wait.
bool make_room();
/// For the frame allocator, before a request fails: gives back the parked frames of every CPU. Where it may not wait
/// for other CPUs, those that none of them reaches any more. False if none were parked. Any context.
bool give_back_parked();

}  // namespace paean
