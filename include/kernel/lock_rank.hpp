// The lock order, outermost first. A new lock gets its place here, with what it protects.
#pragma once

#include "lib/types.hpp"

namespace paean {

/// Locks are taken in rising rank. Sleeping locks come first: nobody may sleep with a spinning one held.
enum class LockRank : u8 {
  TestSleep = 0,       // sleeping locks of tests, outermost
  TestSleepInner = 1,  // the same, one inside the other
  Test = 2,            // private spinning locks of tests
  TestInner = 3,       // the same, one inside the other
  Zone = 8,            // buddy bitmaps and free counts of one zone
  ThreadTable = 12,    // list of all threads
  StackPool = 13,      // which stacks and thread objects are free
  Timer = 14,          // sleeping threads by time
  Sync = 15,           // the inside of completions and read-write locks
  WaitQueue = 16,      // one wait queue's list; taken by wakers under any of the above
  RunQueue = 18,       // one CPU's ready threads
  Shootdown = 20,      // one initiator of TLB interrupts at a time
  Kmap = 22,           // recycling of persistent kmap slots; a page that is freed may drop its map, in any context
  LogRing = 30,        // the log ring and the console: anybody may log while holding anything
};
inline constexpr u32 kLockRanks = 31;

/// For `locks`; nullptr if no lock has this number.
const char* lock_rank_name(u32 rank);

}  // namespace paean
