// kmap: addresses for highmem pages that last, for as many pages at a time as there are slots.
//
//   {
//     const Kmap map{page};                 // may sleep
//     map.as<Header>()->count = 0;          // so may this; the address is good on every CPU
//   }
//
// 1024 slots (`pkmap=`), one page each, in a window of 4 MiB. A page keeps its slot after its last user has gone, so
// that mapping it again is a look-up and one atomic increment: no lock, no page-table work, no shared line written
// but the slot's own. The life of a slot, by its count:
//
//            take: entry written                   get: no lock
//    +---+  ------------------->  +-----------+  <-------------  +---+
//    | 0 |                        | n + 1     |                  | 1 |   cached: entry there, nobody uses it
//    +---+                        | n users   |  ------------->  +---+
//      ^                          +-----------+   last put         |
//      |                                                           |  recycle: CAS 1 -> 0, entry cleared,
//      |   every online CPU has flushed         parked in a ring   |  stamped with the TLB generation
//      +----------------------- since the stamp <------------------+
//
//   * Each CPU takes from a share of the slots, so that CPUs do not meet in one cache line (mm/kmap_pool.hpp).
//   * Recycling takes what the hand finds unused, a quarter of a share at a time, when 1/8 is left. Every CPU that
//     comes through the slow path flushes itself if there are younger stamps; the slots are clean when all have done
//     so, or are idle and will before they touch anything.
//   * Only when no slot is clean does somebody send interrupts: everything unused is recycled first, the lock is
//     dropped, and only CPUs that are behind are interrupted. Flush first, publish afterwards.
//   * When every slot has a user, kmap sleeps. A slot that loses its last user wakes one sleeper, who looks first
//     whether his page has been mapped meanwhile, and wakes those who sleep for the same page.
//
// Whoever sleeps for a map while he holds one may wait for himself: debug builds panic with the caller. kmap_many()
// takes several at once, or none while it waits.
//
// A freed page leaves no alias, on any CPU. The word of its block remembers that it may have had a map, and the free
// takes the slow path (kmap_free_block): cached slots are recycled, a user is a panic. Until every CPU has flushed
// since then, the block is nobody's:
//
//   allocated --free--> Parked (PageType, Owner) --every CPU has flushed or is idle--> free
//
// Alone, a CPU frees at once. Parked blocks are given to the allocator by the next free of a mapped page, by whoever
// waits for slots, by kmap_flush_unused(), and by an allocation that would fail otherwise (kmap_give_back). The ledger
// counts them as `parked`; mapping one panics. They need no memory: there are at most two for each slot
// (mm/parked_blocks.hpp). Debug builds check each slot and each parked block against the CPUs' flushes once more
// (mm/kmap_checker.hpp).
//
// Lowmem pages have their direct address, unless `kmap=force`. Whole 2 MiB: mm/kmap_block.hpp.
// Context: kmap, kmap_many, kmap_flush_unused: may sleep. kmap_nonblock: threads only. kmap_if_mapped, kunmap: any.
// Source: kmap of Linux 2.3.27 (slot states); the lock-free hit after the -rt patch of 2006; generations are new.
#pragma once

#include <span>

#include "kernel/cmdline.hpp"
#include "lib/result.hpp"
#include "mm/page.hpp"

namespace paean {

inline constexpr u32 kDefaultPkmapSlots = 1024, kMinPkmapSlots = 64;

/// Reads pkmap= and kmap=. Boot, once, after the frame words exist.
void init_kmap(const CommandLine& options);
/// Gives each CPU a share of the slots. Boot, once, when all CPUs are online; does nothing if a page has been mapped.
void share_out_kmaps();

/// Maps the page and returns its address. May sleep.
[[nodiscard]] void* kmap(Page* page);
/// Error::Busy instead of sleeping. Not in interrupts.
[[nodiscard]] Result<void*> kmap_nonblock(Page* page);
/// Only if it is mapped or cached already, else Error::NotFound. Takes no lock.
[[nodiscard]] Result<void*> kmap_if_mapped(Page* page);
/// All of them or none: `at[i]` for `pages[i]`. Holds nothing while it sleeps. TooLarge above a quarter of the pool.
[[nodiscard]] Result<> kmap_many(std::span<Page* const> pages, std::span<void*> at);

/// Panics if the page is not mapped.
void kunmap(const Page* page);
/// The same by address: cheaper. Any byte of the page.
void kunmap_address(const void* at);
void kunmap_many(std::span<Page* const> pages);

/// Ends every cached map, on every CPU, before attributes of pages change. May sleep.
void kmap_flush_unused();

/// For the frame allocator: frees a block that may have, or have had, maps; its free is legal otherwise. Panics if a
/// page of it has a user. Any context.
void kmap_free_block(Page* head, Order order);
/// For an allocation that is about to fail: gives parked blocks to the allocator; waits for other CPUs where the
/// context allows that. False if there was nothing to give.
bool kmap_give_back();

class [[nodiscard]] Kmap {
 public:
  explicit Kmap(Page* page) : at_(kmap(page)) {}
  ~Kmap() { kunmap_address(at_); }
  Kmap(const Kmap&) = delete;
  Kmap& operator=(const Kmap&) = delete;

  void* data() const { return at_; }
  std::span<u8, kPageSize> bytes() const { return std::span<u8, kPageSize>{static_cast<u8*>(at_), kPageSize}; }
  template <typename T>
  T* as() const {
    return static_cast<T*>(at_);
  }

 private:
  void* at_;
};

struct KmapStatistics {
  u32 slots, live, cached, clean, waiting;
  u32 high_water;  // users at once, as seen by recycling and by sleepers
  u64 hits, misses;
  u32 flushes;          // somebody had to wait for other CPUs
  u32 own_flushes;      // a CPU flushed itself on its way through the slow path
  u32 ipis;             // CPUs interrupted by the flushes
  u32 wraps;            // times that the whole pool was handed out
  u32 ipis_if_wrapped;  // what one flush of all other CPUs for each wrap would have sent
  u32 sleeping;         // threads, right now
  u32 sleeps, wakes;    // since boot
  u32 dropped;          // cached maps of pages that were freed
  u32 parked_blocks;    // freed, waiting for other CPUs, right now
  u32 parked_pages;     // of these blocks
  u32 blocks_parked;    // since boot
  u32 most_parked;      // blocks at once
};
KmapStatistics kmap_statistics();

/// For tests: the addresses are [start, start + slots pages).
VirtAddr kmap_slot_address(u32 slot);

}  // namespace paean
