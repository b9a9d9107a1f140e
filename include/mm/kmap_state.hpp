// What the files of kmap share: the pool over the real window, its lock, and its waiters. Nobody else includes this.
//
//   mm/kmap.cpp          mapping and unmapping
//   mm/kmap_free.cpp     what a free owes to maps: parked blocks
//   mm/kmap_info.cpp     statistics
//
// Lock: kmap_lock (LockRank::Kmap) guards the pool, but for get and put; the parked blocks; the counters.
#pragma once

#include <atomic>
#include <optional>

#include "arch/fixmap.hpp"
#include "arch/tlb.hpp"
#include "kernel/spinlock.hpp"
#include "kernel/wait.hpp"
#include "mm/highmem.hpp"
#include "mm/kmap_checker.hpp"
#include "mm/kmap_pool.hpp"

namespace paean {

extern arch::Pte* pkmap_entries;  // of slot 0, in lowmem; set before the pool is
extern u64 pkmap_flags;

struct PkmapMachine {
  static constexpr u32 kKeyToAddress = kPageShift - 2;  // a key is four times the number of a frame
  struct Place {
    void* address;
    arch::Pte* entry;
  };
  static Place place(u32 number) {
    const VirtAddr at = arch::kPkmapStart + number * kPageSize;
    return {reinterpret_cast<void*>(at.raw()), &pkmap_entries[number]};
  }
  static u32 number(const Place& place) { return static_cast<u32>(place.entry - pkmap_entries); }
  static void map(const Place& place, u32 key) {
    check_slot_reuse(number(place));
    place.entry->set((key << kKeyToAddress) | static_cast<u32>(pkmap_flags),
                     (key >> (32 - kKeyToAddress)) | static_cast<u32>(pkmap_flags >> 32));
  }
  static void unmap(const Place& place) {
    place.entry->clear();
    arch::invalidate_page(VirtAddr{reinterpret_cast<u32>(place.address)});  // others: until they flush
    note_slot_cleared(number(place));
  }
  static u32 new_generation() { return arch::tlb_new_generation(); }
  /// Alone, a CPU has dropped the translations itself when it cleared the entries.
  static bool is_done(u32 generation) { return arch::online_cpus() == 1 || arch::tlb_generation_is_done(generation); }
};
static_assert(KmapPool<PkmapMachine>::kMaxSlots == arch::kPkmapSlots);
static_assert(KmapPool<PkmapMachine>::kKeyStep == sizeof(Page));

using Pkmap = KmapPool<PkmapMachine>;
extern Pkmap kmap_pool;
constexpr u32 kmap_key(Pfn pfn) { return pfn.raw() * Pkmap::kKeyStep; }
inline u32 kmap_key(const Page* page) { return word_distance(page); }
extern SpinLock kmap_lock;

struct KmapCounters {
  u32 flushes = 0, ipis = 0, high_water = 0, sleeps = 0, dropped = 0, parked = 0, most_parked = 0;
  u64 taken = 0;  // slots handed out, as far as the pool's count, which wraps, has been looked at
  u32 taken_seen = 0;
};
extern KmapCounters kmap_counters;
extern arch::PerCpu<u64> kmap_hits;
extern arch::PerCpu<u32> kmap_own_flushes;
extern std::atomic<u32> kmap_wakes;

/// Recycles everything that has no user. The lock is dropped between pieces, so that interrupts are not off for long.
/// Returns the stamp to wait for; nullopt if every slot has a user.
std::optional<u32> kmap_recycle_all();
/// Waits until every CPU has flushed at or after `stamp`; the lock is not held, so no CPU spins for it meanwhile.
void kmap_flush_others(u32 stamp);
/// Frees the parked blocks that no CPU can reach any more, and returns how many. Any context; no lock held.
u32 kmap_settle();
/// Blocks that are parked right now. Lock held.
u32 kmap_parked_blocks();
/// Threads that sleep for a slot right now.
u32 kmap_sleepers();
/// Users of the pool right now, for the high-water mark. Lock held.
void kmap_note_high_water();
/// Adds up how many slots were handed out. Lock held; at least once in 2^32 of them.
void kmap_note_taken();

}  // namespace paean
