// A user address space: what a program sees between kLowestUser and page_offset().
//
//   create() or fork() --> references --put--> ... last one --> unmapped, page tables and PDPT freed
//                              |
//              switch_to() of a thread: one reference for as long as the thread uses it
//
//   0        kLowestUser                     mapping areas, top down <- | gap | stack |  user_end() = page_offset
//   | never  | program | break -> ...                                                 |  kernel half, the same for all
//
// Memory of a space: user pages, page tables and page directories come from highmem (`pte=low`: tables from lowmem);
// lowmem holds this object, 32 bytes for the four directory pointers and an object for each area.
// Page tables of the current space are read and written through the UKVA window (arch/layout.hpp) without any kmap;
// `ukva=off`, and every space that is not the current one: through KmapLocal.
//
// Pages come at the first touch: handle_fault(). Private pages are shared after fork() until one side writes; the last
// owner keeps the page. Pages of files are those of the page cache.
//
// Locks: layout lock of the space (LockRank::UserLayout, sleeping, read-write): faults read, calls that change areas
// write; below it a spin lock for entries. Taken by user copies, so no lock of rank UserLayout or above may be held in
// one. Context: threads that may sleep.
// Errors: those of Linux's calls, as Error: InvalidArgument EINVAL, OutOfMemory ENOMEM, NotPermitted EPERM,
// NoAccess EACCES, BadAddress EFAULT, Exists EEXIST. What fails has changed nothing, but where Linux says otherwise.
#pragma once

#include "kernel/sync.hpp"
#include "lib/addr.hpp"
#include "lib/result.hpp"
#include "mm/mapped_file.hpp"
#include "mm/user_area.hpp"
#include "mm/user_tables.hpp"
#include "mm/zone.hpp"

namespace paean {

class LentSpares;
struct OldPages;
class PageGather;
struct PageMove;
class Spares;
class Thread;

struct MapRequest {
  VirtAddr at{};  // a wish without Fixed; 0: none
  u32 bytes = 0;  // rounded up to pages
  UserAccess access = UserAccess::None;
  MapFlag flags = MapFlag::None;
  MappedFile* file = nullptr;  // nullptr: anonymous. The space takes references of its own
  u32 first_page = 0;          // of the file
};

/// What a program did at an address, and what became of it.
enum class FaultResult : u8 {
  Handled,      // go on: the access will work, or fault again
  NotMapped,    // SIGSEGV, SEGV_MAPERR
  NotAllowed,   // SIGSEGV, SEGV_ACCERR
  BusError,     // SIGBUS: behind the end of the file, or it cannot be read
  OutOfMemory,  // for this process
};

/// Counters of one space; pages.
struct UserCounters {
  u32 anonymous, file;  // resident: mapped pages of either kind, exact
  u32 swapped;          // entries that name a slot of the swap, exact
  u32 tables;           // PTE pages
  u32 areas;            //
  u32 mapped;           // size of all areas
  u32 faults, copies;   // handled faults; pages copied for a write
  u32 reused;           // writes to a page that nobody else had any more
};

/// How large a space is, read without its locks: hints. Pages, but for the areas.
struct UserSize {
  const UserSpace* space;  // to compare, not to look into
  u32 mapped, anonymous, file, swapped, tables;
  u32 areas;
  u32 users;  // threads, and whoever looks at it just now
};

class UserSpace {
 public:
  UserSpace(const UserSpace&) = delete;
  UserSpace& operator=(const UserSpace&) = delete;

  /// Empty, one reference. OutOfMemory.
  [[nodiscard]] static Result<UserSpace*> create();
  /// A copy of the current one, one reference: private pages are shared until somebody writes.
  [[nodiscard]] static Result<UserSpace*> fork();
  /// The running thread's; nullptr for a kernel thread.
  static UserSpace* current();
  /// The running thread uses `space` from now on (nullptr: none) and has a reference for it; the one that it had for
  /// the last is given back, which may end that one. A thread that has none keeps borrowing what its CPU has loaded.
  static void switch_to(UserSpace* space);

  void get();
  /// May sleep. Freed with the last one; never while a thread uses it.
  void put();

  /// As mmap: where it is now. Areas next to each other that agree in everything become one.
  [[nodiscard]] Result<VirtAddr> map(const MapRequest& request);
  /// As munmap: holes are no error.
  [[nodiscard]] Result<> unmap(VirtAddr start, u32 bytes);
  /// As mprotect: OutOfMemory at a hole, and what lies before it has changed.
  [[nodiscard]] Result<> protect(VirtAddr start, u32 bytes, UserAccess access);
  /// As mremap. Pages move, they are not copied.
  enum class Remap : u8 { InPlace, MayMove, Fixed };  // Fixed: to `target`, replacing what is there
  [[nodiscard]] Result<VirtAddr> remap(VirtAddr start, u32 old_bytes, u32 new_bytes, Remap how, VirtAddr target = {});
  /// As msync: stores to shared areas of files become dirty pages of the cache, and are written with Wait.
  enum class Sync : u8 { Start, Wait };
  [[nodiscard]] Result<> sync(VirtAddr start, u32 bytes, Sync how);
  /// As the system call brk: the break afterwards, which is the old one where the new one cannot be.
  VirtAddr set_break(VirtAddr wanted);
  /// Where the program ends: the break begins and stays behind it. For exec.
  void place_break(VirtAddr start);
  /// Unmaps everything.
  void clear();

  /// For page faults of user and kernel mode at an address below user_end(). May sleep. The space is the current one.
  FaultResult handle_fault(VirtAddr address, UserAccess access);

  /// Contents of a space that need not be the current one, for exec (arguments of the new image) and debugging: page by
  /// page, as if the program itself did it. BadAddress where it could not; a front part may have been copied.
  [[nodiscard]] Result<> write(VirtAddr to, std::span<const u8> from);
  [[nodiscard]] Result<> read(std::span<u8> into, VirtAddr from);

  /// Pages that the running program reads from `from` on, each with a reference for the caller: how many, fewer than
  /// there is room for where one cannot be had. The space is the current one. May sleep.
  u32 hold_pages(VirtAddr from, std::span<Page*> pages);

  UserCounters counters();
  /// What is counted by kind and what the page tables hold are as many (asserted).
  void check_counts();
  /// Of the space that a thread uses; nullopt if it uses none. The thread does not end meanwhile. Any context.
  static std::optional<UserSize> size_for(Thread* thread);
  /// A line an area, as /proc/PID/maps.
  void print(Sink& out);

 private:
  friend void switch_user_space(Thread* to, arch::IrqsOff off);
  friend class UserSpaceList;
  friend class SwapClock;
  friend Result<> swap_in_everything(u32 area, bool (*is_empty)(u32 area));
  UserSpace();
  ~UserSpace() = default;

  // mm/user_space.cpp
  static void load(UserSpace* space, arch::IrqsOff off);
  UserSize rough_size() const;
  void end();
  bool grow_stack(VirtAddr page);
  VirtAddr move_break(VirtAddr wanted, Spares& spares) REQUIRES(layout_);

  // mm/user_map.cpp
  Result<VirtAddr> place(const MapRequest& request, u32 bytes, Spares& spares) REQUIRES(layout_);
  Result<> unmap_locked(VirtAddr start, VirtAddr end, Spares& spares) REQUIRES(layout_);
  Result<> protect_locked(VirtAddr start, VirtAddr end, UserAccess access, Spares& spares) REQUIRES(layout_);
  Area& add_area(VirtAddr start, VirtAddr end, const Area& like, Spares& spares) REQUIRES(layout_);

  // mm/user_remap.cpp
  Result<VirtAddr> remap_locked(VirtAddr start, u32 old_bytes, u32 new_bytes, Remap how, VirtAddr target,
                                Spares& spares) REQUIRES(layout_);
  Result<VirtAddr> move_area(Area& area, VirtAddr target, u32 new_bytes, Spares& spares) REQUIRES(layout_);
  Result<> make_tables_to_move(VirtAddr from, VirtAddr end, VirtAddr target);
  void move_entries(VirtAddr from, VirtAddr end, VirtAddr target);

  // mm/user_zap.cpp
  void zap(const Area& area, VirtAddr start, VirtAddr end, PageGather& gather);
  arch::Pte* drop_shared_pages(TableView& view, arch::Pte* entry, const arch::Pte* behind) REQUIRES(entries_);
  VirtAddr zap_table(const Area& area, VirtAddr start, VirtAddr end, PageGather& gather);
  void forget_unusual(const Area& area, VirtAddr va, arch::PteValue old, PageGather& gather) REQUIRES(entries_);
  void change_access(const Area& area, VirtAddr start, VirtAddr end, PageGather& gather);
  void mark_stores(const Area& area, VirtAddr start, VirtAddr end);

  // mm/user_fault.cpp
  FaultResult fault_in(const Area& area, VirtAddr page, UserAccess access);
  FaultResult fill(const Area& area, VirtAddr page, UserAccess access);
  FaultResult fill_anonymous(const Area& area, VirtAddr page);
  FaultResult fill_from_file(const Area& area, VirtAddr page, UserAccess access);
  void map_around(const Area& area, VirtAddr page);
  FaultResult write_shared(const Area& area, VirtAddr page, arch::PteValue seen);
  FaultResult write_private(const Area& area, VirtAddr page, arch::PteValue seen);
  bool enter(VirtAddr va, arch::PteValue value, u32& counter, LentSpares* spares = nullptr);
  bool is_entry(VirtAddr page, arch::PteValue seen);
  u32 hold_present(VirtAddr from, std::span<Page*> pages);
  Result<Page*> hold_page(VirtAddr page);
  Result<> store(VirtAddr to, std::span<const u8> from);

  // mm/user_swap.cpp
  bool choose_old(ZoneId highest, OldPages& old);
  void choose_in_table(VirtAddr start, VirtAddr end, ZoneId highest, OldPages& old);
  u32 swap_out(OldPages& old);
  bool give_up(const OldPages& old, u32 i, PageGather& gather);
  void forget_slot(arch::PteValue entry) REQUIRES(entries_);
  FaultResult swap_in(const Area& area, VirtAddr page, arch::PteValue seen, u32 window);
  u32 swap_window(VirtAddr page);
  bool has_entry(VirtAddr page, arch::PteValue value);
  u32 hold_slots(VirtAddr page, VirtAddr end, arch::PteValue seen, u32 most);
  void enter_read(const Area& area, VirtAddr page, arch::PteValue seen, std::span<Page*> pages);
  Result<> swap_in_all(u32 area);
  Result<> swap_in_table(const Area& area, VirtAddr start, VirtAddr end, u32 swap_area);

  // mm/user_fork.cpp
  Result<> copy_to(UserSpace& child) REQUIRES(layout_);
  Result<> copy_area(const Area& area, UserSpace& child);
  VirtAddr first_to_copy(VirtAddr start, VirtAddr end);
  enum class Share : u8 { Done, Nothing, Later, Failed };
  Share share_unusual(arch::Pte& source, arch::Pte& target, VirtAddr va, UserSpace& child, LentSpares& spares)
      REQUIRES(entries_);
  Result<VirtAddr> copy_table(VirtAddr start, VirtAddr end, UserSpace& child, LentSpares& spares);

  // mm/user_move.cpp: for those who move pages
  friend class PinnedPlace;
  template <typename Change>
  void change_entries(std::span<PageMove> moves, Change change);
  void protect_pages(std::span<PageMove> moves);
  void replace_pages(std::span<PageMove> moves);
  bool drop_page(VirtAddr va, Page* page, Folio& folio);
  void flush_pages();
  void wait_for_movers();

  RwLock layout_{LockRank::UserLayout};
  SpinLock entries_{LockRank::UserEntries};
  AreaMap areas_;  // under layout_
  UserTables tables_;
  std::atomic<u32> references_{1};
  VirtAddr break_start_{}, break_{};            // under layout_
  u32 anonymous_ = 0, file_ = 0, swapped_ = 0;  // under entries_
  std::atomic<u32> pins_{0};  // movers that have the space in hand; rises only under the lock of lent pages
  std::atomic<u32> faults_{0}, copies_{0}, reused_{0};
  // Of the list of all spaces, and of the clock that goes through it.
  UserSpace *listed_before_ = nullptr, *listed_behind_ = nullptr;
  u32 visitors_ = 0;
  VirtAddr clock_at_{kLowestUser};
  // Where who reads page after page comes next to the swap, and how many pages he had last. A guess, any thread's.
  std::atomic<u32> swap_next_{0}, swap_window_{1};
};

/// From the switch hook: `to` runs next on this CPU.
void switch_user_space(Thread* to, arch::IrqsOff off);
/// Boot, once, after the object caches.
void init_user_spaces(const CommandLine& options);

}  // namespace paean
