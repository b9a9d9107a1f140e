// What the parts of the page cache share: making and ending folios, lists by age, counters, limits. Private to mm.
#pragma once

#include "kernel/wait.hpp"
#include "mm/linked_list.hpp"
#include "mm/page_cache.hpp"
#include "mm/zone.hpp"

namespace paean {

/// Doors into Folio.
struct FolioOps {
  using Ages = LinkedList<Folio, &Folio::older_, &Folio::newer_>;

  /// With a fresh block of pages, locked, one reference. Nothing is in any tree yet. The descriptor is taken with
  /// `effort`, lowmem; the pages where the store wants them, and with its modifiers.
  static Result<Folio*> create(AddressSpace& space, u32 index, Order order, AllocFlags effort);
  static void get(Folio& folio) { folio.references_.fetch_add(1, std::memory_order_relaxed); }
  static FolioRef reference(Folio& folio) {
    get(folio);
    return FolioRef{&folio};
  }
  /// The same for a folio that may be ending: empty then. Its memory stays while this is called.
  static FolioRef try_reference(Folio& folio) {
    u32 seen = folio.references_.load(std::memory_order_relaxed);
    while (seen != 0) {
      if (folio.references_.compare_exchange_weak(seen, seen + 1)) return FolioRef{&folio};
    }
    return {};
  }
  /// The only reference is given up, and nobody gets another one any more. False if there are others.
  static bool take_last(Folio& folio) {
    u32 seen = 1;
    return folio.references_.compare_exchange_strong(seen, 0);
  }
  /// Takes over a reference that the caller has.
  static FolioRef adopt(Folio* folio) { return FolioRef{folio}; }
  static u32 references(const Folio& folio) { return folio.references_.load(std::memory_order_acquire); }
  static void put(Folio* folio) { FolioRef::put(folio); }
  /// Of those that nobody has a reference to any more.
  static void end_all(std::span<Folio* const> folios);

  static void set(Folio& folio, FolioFlag flag) { folio.state_.fetch_or(static_cast<u32>(flag)); }
  static void clear(Folio& folio, FolioFlag flag) { folio.state_.fetch_and(~static_cast<u32>(flag)); }
  static void set_error(Folio& folio, Error error);
  /// One passage of a reader or writer.
  static void touch(Folio& folio) {
    if (!folio.has(FolioFlag::Used)) set(folio, folio.has(FolioFlag::Touched) ? FolioFlag::Used : FolioFlag::Touched);
  }
  static void set_pages(Folio& folio, const Page* first) { folio.first_ = page_to_pfn(first); }
  static void set_dirtied_at(Folio& folio, u32 ticks) { folio.dirtied_at_ = ticks; }
};

/// Doors into AddressSpace, for the lists of files and for reclaim.
struct CacheOps {
  using Files = LinkedList<AddressSpace, &AddressSpace::listed_before_, &AddressSpace::listed_behind_>;
  static u32 unwritten(const AddressSpace& space) {
    return space.dirty_.load(std::memory_order_relaxed) + space.write_back_.load(std::memory_order_relaxed);
  }
  static bool& is_listed(AddressSpace& space) { return space.is_listed_; }
  static u32& pins(AddressSpace& space) { return space.pins_; }
  static u32& round(AddressSpace& space) { return space.round_; }
  static u32& dirtied_at(AddressSpace& space) { return space.dirtied_at_; }
  static Result<> write_everything(AddressSpace& space) { return space.write_everything(); }
  /// Of write-back, and not told by sync() yet.
  static Result<> pending_error(AddressSpace& space) {
    const SpinGuard<IrqSave> guard{space.lock_};
    if (space.write_errors_ != space.synced_errors_) return std::unexpected(space.write_error_);
    return {};
  }
  /// The stores of a program that maps the file. False if the folio is not in it any more.
  static bool set_dirty(AddressSpace& space, Folio& folio) { return space.set_dirty(folio, 0); }
  /// Its contents into another block of the same order, unless the folio is in use. The caller has lock and reference.
  static bool move(AddressSpace& space, Folio& folio, Page* fresh) { return space.move(folio, fresh); }
  struct Evicted {
    u32 folios, pages;
  };
  /// Of folios of one file that are in no list by age, and locked, those go that are clean and that nobody else knows:
  /// so many, which then stand first. Nothing has a reference to them any more, and FolioOps::end_all() is due.
  static Evicted evict(AddressSpace& space, std::span<Folio*> folios, SpareNodes& spare);
};

/// The queue on which waiters for a folio's bits sleep. May be used when the folio is gone.
WaitQueue& folio_queue(const Folio* folio);
/// Wakes them. Callers changed the bit first.
void wake_folio(WaitQueue& queue);

// Descriptors and nodes.
void init_folios();
/// At least `count` in `spare`.
Result<> take_nodes(SpareNodes& spare, u32 count, AllocFlags effort);
void give_nodes(SpareNodes& spare);

// Counters of all files; any context.
struct CacheCounters {
  std::atomic<u32> pages{0}, dirty{0}, write_back{0}, folios{0}, nodes{0}, evicted{0}, throttled{0};
};
extern CacheCounters cache_counters;

// Age and eviction: mm/page_cache_reclaim.cpp.
/// A folio that is in its tree now. `lock_` of its space is held.
void add_to_ages(Folio& folio);
void remove_from_ages(Folio& folio);
/// On whose behalf.
enum class Evictor : u8 { Request, Kswapd };
/// Few: not for long while much is dirty, which is then better written than looked at.
enum class Thoroughness : u8 { Few, All };
/// Drops at least so many pages of these zones, in proportion to what they have cached, if so many are clean and
/// unused. Pages dropped. Does not sleep.
u32 evict_pages(u32 pages, ZoneMask wanted, Evictor who, Thoroughness how);
/// The same for zones up to `highest`, or else what describes cached pages. Has anything gone?
bool give_cached_pages(ZoneId highest, u32 pages, Evictor who, Thoroughness how);

// Write-back: mm/write_back.cpp.
/// The file has its first dirty page. Its lock may be held.
void list_unwritten(AddressSpace& space);
/// Off the list; returns when nobody writes it any more. May sleep.
void forget_unwritten(AddressSpace& space);
/// Waits while too much is dirty, and as long as that becomes less.
void throttle_writer();
/// Pages have been written: somebody may wait for that. Any context.
void note_written();
void init_write_back();
struct DirtyLimits {
  u32 most, background;
};
/// As of now.
DirtyLimits dirty_limits();
/// Is it one of those that must never wait for write-back?
bool is_write_back_thread();
/// Asks the threads to write what is dirty. Any context.
void start_cleaning();
/// Asks the threads to write, and waits until some pages have been. False if that does not happen.
bool wait_for_clean_pages();
/// Waits while so much is under write-back that more would only cost memory.
void wait_for_write_room();

}  // namespace paean
