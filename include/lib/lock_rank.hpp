// The lock order, outermost first. A new lock gets its place here, with what it protects.
#pragma once

#include "lib/types.hpp"

namespace paean {

/// Locks are taken in rising rank. Sleeping locks come first: nobody may sleep with a spinning one held. Then those of
/// arch/lock.hpp whose holder waits for other CPUs: no lock that another CPU may spin for with interrupts off is held
/// then. Last, behind the log, what guards a few instructions on registers.
/// Two that are waited for have no rank. A folio's lock bit is given back by whoever ends its transfer, in an interrupt
/// of any CPU, so that no thread holds it (mm/folio.hpp). The turn of the OOM killer is taken under anything that
/// memory is allocated under, and so is waited for during a second at most (mm/oom.hpp).
enum class LockRank : u8 {
  TestSleep,       // sleeping locks of tests, outermost
  TestSleepInner,  // the same, one inside the other
  SwapTurn,        // sleeping: who looks at all user address spaces for the swap's sake
  Mount,           // sleeping: which file systems are mounted where
  WriteAll,        // sleeping: one walk through all inodes of a file system at a time
  Rename,          // sleeping, read-write: the names of a file system; for writing while a name is moved
  Directory,       // sleeping: names in one directory, under Rename for reading
  File,            // sleeping: size and contents of one file, against truncation
  UserLayout,      // sleeping, read-write: areas of one user address space; copies to and from it take this
  Attributes,      // sleeping: changed attributes of inodes on their way to their file system
  TableSync,       // sleeping: one sync of a file system's tables at a time
  FileSystem,      // sleeping: allocation and tables of one file system on a disk
  SlabDrain,       // one thread at a time empties the magazines of all CPUs
  Pdpt,            // one change of the kernel's directory pointers at a time, with all CPUs told
  CpuCall,         // one function at a time runs on all other CPUs
  Shootdown,       // one range at a time is invalidated on all other CPUs
  Test,            // private spinning locks of tests
  TestInner,       // the same, one inside the other
  UserEntries,     // page-table entries of one user address space
  Names,           // which inodes and directory entries are cached
  PageCache,       // which folios one file has, and their dirty marks
  Folios,          // lists of cached folios by age
  Lending,         // who uses which lent page of lowmem; taken under page-table entries, and by ends of folios
  SlabCaches,      // which object caches there are
  Slab,            // slabs and depot of one object cache
  Zone,            // buddy bitmaps and free counts of one zone
  VmallocCache,    // one CPU's freed and small areas of vmalloc
  VmallocSpace,    // which addresses of vmalloc are free, and what describes them
  ThreadTable,     // list of all threads
  StackPool,       // which stacks and thread objects are free
  BlockQueue,      // requests of one block device; taken in its interrupts
  BlockDriver,     // what one disk controller is doing; taken in its interrupts
  Bounce,          // the emergency pools and who waits for them; taken in completions
  Timer,           // sleeping threads by time
  Process,         // processes, their open files, pipes and futexes
  Sync,            // the inside of completions and read-write locks
  UserSpaces,      // which user address spaces there are, and which one a thread uses
  Swap,            // which slots of swap areas are used; taken under page-table entries
  WaitQueue,       // one wait queue's list; taken by wakers under any of the above
  RunQueue,        // one CPU's ready threads
  Kmap,            // recycling of persistent kmap slots; a page that is freed may drop its map, in any context
  LogRing,         // the log ring and the console: anybody may log while holding anything
  IrqLines,        // who shares which interrupt line
  IrqController,   // masks of the interrupt controllers
  PciConfig,       // address and data port of PCI's configuration space
  TlbStamps,       // generations by page, in debug builds
};
inline constexpr u32 kLockRanks = static_cast<u32>(LockRank::TlbStamps) + 1;

/// A set of ranks, a bit each.
using LockRanks = u64;
static_assert(kLockRanks <= 8 * sizeof(LockRanks));
constexpr LockRanks mask_of(LockRank rank) { return LockRanks{1} << static_cast<u32>(rank); }

/// For `locks`; nullptr if no lock has this number.
const char* lock_rank_name(u32 rank);

/// One lock, as the checker of kernel/lock_checker.hpp sees it: its rank, and how it has been used so far.
struct LockUse {
  constexpr explicit LockUse(LockRank lock_rank) : rank(lock_rank) {}
  LockRank rank;
  bool taken_in_interrupt = false;
  bool taken_with_interrupts_on = false;
};

}  // namespace paean
