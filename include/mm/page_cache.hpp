// The page cache: contents of files and devices in pages, which lie in highmem.
//
//   AddressSpace  one file's pages: a radix tree from page index to folio
//   Folio         1 to 16 contiguous pages of one file, aligned in the file as in memory; 32 bytes of lowmem
//
//              read_folio()                 write                    write-back begins
//   +-------+ --------------> +------------+ --------> +-----------+ -----------------> +-------------+
//   | empty |                 | up to date |           | dirty     |                    | write-back  |
//   | locked| <-- error       | (clean)    | <---------------------- end_write(ok) ---- | (and clean) |
//   +-------+                 +------------+           +-----------+ <- written again --+-------------+
//
// Whoever holds a FolioRef keeps the folio from being freed. The lock of a folio is held while its contents come into
// being, and by truncation; readers of an up-to-date folio need it not. Marks in the tree lead write-back to dirty
// folios without looking at the others.
//
// Locks: AddressSpace::lock_ (LockRank::PageCache) guards tree and marks; interrupts may take it. Folio locks are bits;
// of several, ascending in the file. Nothing is allocated under a spinning lock.
// Errors: OutOfMemory; Io and others from the store. Write-back errors are counted in the AddressSpace; whoever wants
// to hear of them remembers how many it knows of, so that each hears of every one, once.
// A write that fails for want of memory is none: the folio is dirty again, and sync() says OutOfMemory.
// Source: Linux's folios and errseq; descriptors of 32 bytes and pages that stay plain blocks are this kernel's.
#pragma once

#include "kernel/spinlock.hpp"
#include "mm/backing_store.hpp"
#include "mm/copy_span.hpp"
#include "mm/folio.hpp"
#include "mm/highmem.hpp"
#include "mm/page_index.hpp"
#include "mm/readahead.hpp"

namespace paean {

struct ReclaimRequest;

class AddressSpace {
 public:
  /// No file is longer, so that page indexes and sums of them stay in 32 bits: 64 pages less than 16 TiB.
  static constexpr u64 kMostBytes = (u64{1} << (32 + kPageShift)) - u64{64} * kPageSize;

  /// `size` in bytes; what a device has behind kMostBytes cannot be reached.
  explicit AddressSpace(BackingStore& store, u64 size = 0);
  /// No folio left (asserted): whoever ends a file truncates or invalidates it first.
  ~AddressSpace();
  AddressSpace(const AddressSpace&) = delete;
  AddressSpace& operator=(const AddressSpace&) = delete;

  BackingStore& store() const { return store_; }
  /// Bytes. Pages behind it do not exist for readers.
  u64 size() const;
  /// Only grows; truncate() makes it smaller.
  void grow(u64 size);

  /// The up-to-date folio with this page: cached, or read from the store, with read-ahead if `ahead` is given. May
  /// sleep. NotFound behind the end of the file.
  Result<FolioRef> read_page(u32 index, ReadAhead* ahead);
  /// Only if it is there, in whatever state. Any context.
  FolioRef find_page(u32 index) const;

  /// Copies out; ends at the end of the file, and where the program has no memory. May sleep. An error only if nothing
  /// could be read; BadAddress: of the program's memory.
  Result<u32> read(u64 offset, CopyTarget into, ReadAhead* ahead);
  /// Copies in and makes dirty; grows the file. May sleep; waits while too much is dirty. An error only if nothing
  /// could be written.
  Result<u32> write(u64 offset, CopySource from);

  /// For stores that change contents in place (tables of a file system): calls `change(bytes)`, with `bytes` a
  /// std::span<u8>, on a part of one page (asserted), which is read first and dirty afterwards. `change` must not
  /// sleep. Never waits because too much is dirty. May sleep.
  template <typename Change>
  Result<> update(u64 offset, u32 bytes, Change change) {
    ASSERT((offset & (kPageSize - 1)) + bytes <= kPageSize);
    while (true) {
      const FolioRef folio = TRY(read_page(static_cast<u32>(offset >> kPageShift), nullptr));
      TRY(store_.prepare_write(*this, offset, bytes));
      {
        const KmapLocal map{folio->page_at(static_cast<u32>(offset >> kPageShift))};
        change(map.bytes().subspan(offset & (kPageSize - 1), bytes));
      }
      if (set_dirty(*folio, 0)) return {};
    }
  }

  /// Writes everything that is dirty now and waits for it. The error that write-back met since the last call, once,
  /// whoever calls: for those who own the file as a whole; open files use errors_since(). OutOfMemory: some is left.
  Result<> sync();
  /// What a new owner knows: the errors that somebody has been told of.
  u32 known_errors() const;
  /// The last error of write-back, if there is one that `known` does not know yet; then it does.
  Result<> errors_since(u32& known);
  /// Starts write-back of at most so many pages, oldest index first; pages started. Does not wait for them.
  u32 start_write_back(u32 pages);
  /// The file ends at `size`: later pages go, dirty or not; the rest of the last page becomes zeros. Nothing behind the
  /// new end is under write-back when it returns, so blocks there may be used for something else. May sleep.
  /// An error only where the last page that stays is cut in two and cannot be read: then nothing has changed.
  Result<> truncate(u64 size);
  /// The folio with this page goes, dirty or not, and is not under write-back when it returns: the store has another
  /// use for its place. May sleep.
  void discard(u32 index);
  /// Drops what is clean and not in use; pages dropped.
  u32 invalidate();

  u32 pages() const { return pages_.load(std::memory_order_relaxed); }
  u32 dirty_pages() const { return dirty_.load(std::memory_order_relaxed); }

 private:
  friend class Folio;
  friend struct CacheOps;

  /// What a look-up finds: the folio, if any, and how long the file is at that moment.
  struct Found {
    FolioRef folio;
    u64 size;
  };
  Found find(u32 index) const;
  void set_size(u64 size) REQUIRES(lock_);
  static u32 pages_in(u64 size) { return pages_for(size).count(); }

  Result<Found> find_to_read(u32 index, u32 wanted, ReadAhead* ahead);
  Result<FolioRef> read_absent(u32 index, u32 wanted, u32 file_pages, ReadAhead* ahead);
  Result<> read_again(Folio& folio);
  void read_more(const ReadPlan& plan, Folio* first);
  void note_read(ReadAhead& ahead, u32 index, u64 size);
  u32 read_ready(u32 index, u32 in_page, CopyTarget into, ReadAhead* ahead);
  void go_on_reading(ReadAhead& ahead, u32 index);
  Result<u32> read_parts(u64 offset, CopyTarget into, ReadAhead* ahead);
  Result<u32> read_slowly(u64 offset, CopyTarget into, ReadAhead* ahead);

  /// Anywhere: also behind the end, which is where a file grows. Ahead: in the file, as a favour, while somebody waits
  /// for a page that has not been asked of the store yet: nobody is waited for on its behalf.
  enum class Place : u8 { InFile, Anywhere, Ahead };
  /// A new folio, locked, in the tree; Exists if a page of it has one, NotFound behind the end.
  Result<FolioRef> add_folio(u32 index, Order order, Place place);
  Result<FolioRef> add_largest(u32 at, u32 pages, Order largest, Place place);
  Result<u32> try_add(Folio& folio, Place place, SpareNodes& spare);
  u32 room_at(u32 index, u32 pages) const;

  Result<FolioRef> find_to_change(Found found, u32 index);
  Result<u32> write_piece(u64 offset, CopySource from, Order order);
  /// What write() makes dirty at a time, all in one folio.
  struct Piece {
    Order order;
    u32 bytes;
  };
  Result<Piece> prepare_piece(u64 offset, usize bytes);
  Result<u32> write_new(u64 offset, CopySource from, Order order);
  /// Only if it is still in the file. Makes the file `end` bytes long at least.
  bool set_dirty(Folio& folio, u64 end);

  bool begin_write(Folio& folio) REQUIRES(lock_);
  FolioRef begin_next_write(u32 from);
  FolioRef next_unwritten(u32 from) const;
  void make_dirty(Folio& folio) REQUIRES(lock_);
  Result<> write_everything();
  bool written(Folio& folio, Result<> result);
  Result<> tell_errors(u32& known) REQUIRES(lock_);

  FolioRef next_folio(u32 from) const;
  /// Out of tree and lists. The caller has the folio's lock and a reference. False: used by others, dirty, or being
  /// written, where that matters.
  enum class Removal : u8 { IfUnused, Always };
  bool remove(Folio& folio, Removal removal);
  bool move(Folio& folio, Page* fresh);
  void drop(Folio& folio);
  Result<> cut_page(u64 size);
  void shorten(u64 size);

  BackingStore& store_;
  mutable SpinLock lock_{LockRank::PageCache};
  PageIndex index_ GUARDED_BY(lock_);
  u64 size_ GUARDED_BY(lock_);
  u32 whole_pages_ GUARDED_BY(lock_);                     // pages that end before the file does
  Error write_error_ GUARDED_BY(lock_){};                 // the last one
  u32 write_errors_ GUARDED_BY(lock_) = 0;                // so many
  u32 told_errors_ GUARDED_BY(lock_) = 0;                 // somebody knows of
  u32 synced_errors_ GUARDED_BY(lock_) = 0;               // sync() has told
  std::atomic<u32> pages_{0}, dirty_{0}, write_back_{0};  // changed under the lock

  // Of those who write: guarded by the lock of the lists.
  AddressSpace *listed_before_ = nullptr, *listed_behind_ = nullptr;
  bool is_listed_ = false;  // among the files with dirty pages, or pages under write-back
  u32 pins_ = 0;            // writers that use this file without holding a folio of it
  u32 round_ = 0;           // of the last sync_page_cache() that came by
  u32 dirtied_at_ = 0;      // ticks: nothing that is dirty now was so earlier
};

/// Pages in all files, dirty ones, and under write-back: `Cached`, `Dirty` and `Writeback` of meminfo.
struct PageCacheTotals {
  u32 pages, high_pages, dirty, write_back;
  u32 active, inactive;  // pages of folios that were used again, and that were not: what eviction chooses from
  u32 folios, nodes;     // descriptors; radix nodes: their lowmem
  u64 hits, misses, read_ahead_pages;
  u32 evicted, throttled;  // pages dropped for others; writers that had to wait
  u32 dirty_limit, background_limit;
};
PageCacheTotals page_cache_totals();

/// Starts the write-back threads. Boot, once, threads running.
void init_page_cache();
/// How many pages may be dirty or under write-back before writers wait; threads begin to write at half of it.
/// 0, as at boot: a fifth of what is free or cached now.
void set_dirty_limit(u32 pages);
/// Writes everything that is dirty in every file, and waits.
Result<> sync_page_cache();
/// Drops clean folios of all files, oldest first; pages dropped. For allocations that would fail otherwise, and for
/// tests. Where nothing clean is left, dirty pages are written first. May sleep.
u32 shrink_page_cache(u32 pages);
/// For requests that would fail: gives pages of zones up to its own back, or what describes cached pages. False if
/// there is nothing to be had in the caller's context. Any context.
bool reclaim_page_cache(const ReclaimRequest& request);

/// Of the cached pages in a zone, those of folios that eviction may choose: used again, and not.
struct CachedPages {
  u32 active, inactive;
};
CachedPages cached_pages_in(ZoneId id);
/// A number that stands for which zones have given how much since the start, in order: for tests.
u32 eviction_history();
/// From here on, with no zone ahead of another.
void start_eviction_history();

}  // namespace paean
