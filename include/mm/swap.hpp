// The swap: pages of programs on disks, while others need their memory.
//
//   memory short --> clock over page tables --> old? --no--> accessed bit off, next time
//                                                | yes
//     entry made read-only --> flush --> page written --> entry still the same? --yes--> it names the slot, page freed
//                                                           no: used meanwhile, the page stays, the slot goes
//
//   fault --> slot read into a new page --> entry names the page, one user of the slot less
//
// Neighbours are written together, so their slots are neighbours as well. Who reads page after page has the next ones
// read with the one that he wants, 2, 4, 8, 16 at a time, in one request; who reads here and there gets what he wants.
//
// The page stays where it is until it has been written, so a write error undoes nothing, and a fault meanwhile finds
// it. No list and no reverse map: the clock reads page tables of one space after the other (mm/user_swap.cpp), by the
// accessed bits that the CPU sets. A page that several spaces share is written once for each of them.
//
// One thread does all writing, and allocates nothing on the way. Who needs memory asks it and waits: wait_for_swap().
// Locks: a spinning leaf for the slots. Areas come and go under a turn of their own, which also stops the clock.
// Source: Linux's swap and its swap format; the clock without lists is Corbató's.
#pragma once

#include "mm/page_alloc.hpp"
#include "mm/reclaim.hpp"
#include "mm/swap_entry.hpp"
#include "mm/swap_map.hpp"

namespace paean {

/// Where an area lies. The kernel's block layer implements it; it lives from add_swap() to remove_swap().
class SwapStore {
 public:
  static constexpr u32 kMostTogether = 32;
  /// From neighbouring slots; at most kMostTogether, here and below. After an error pages hold anything.
  virtual Result<> read(u32 slot, std::span<Page* const> pages) = 0;
  /// To neighbouring slots. Allocates nothing. May sleep. After an error any of them may have been written.
  virtual Result<> write(u32 slot, std::span<Page* const> pages) = 0;
  /// For people.
  virtual std::string_view path() const = 0;
  virtual std::string_view kind() const = 0;

 protected:
  ~SwapStore() = default;
};

/// An area in use from now on; `map` is ready and stays. Which one it is. Exists: of that path, NoSpace: too many.
Result<> add_swap(SwapStore& store, SwapMap& map);
/// Brings everything back that is in the area. Then store and map are the caller's again; after an error the area goes
/// on as before: OutOfMemory, Io, Busy. NotFound: there is none of that path. May sleep for long.
Result<SwapStore*> remove_swap(std::string_view path);

/// Slots for up to `most` pages next to each other, from the area with the highest priority that has any.
struct SwapRun {
  u32 area = 0, first = 0, slots = 0;
  SwapEntry entry(u32 i) const { return SwapEntry{area, first + i}; }
};
SwapRun take_swap_slots(u32 most);
/// One more page-table entry has it; false at the limit.
[[nodiscard]] bool share_swap_slot(SwapEntry entry);
/// For a reader, so that the slot stays what it is.
void hold_swap_slot(SwapEntry entry);
void release_swap_slot(SwapEntry entry);
/// That one and those behind it, which are held. May sleep.
Result<> read_swap_slots(SwapEntry first, std::span<Page* const> into);
/// Of one run, the first pages.size() of it. May sleep.
Result<> write_swap_slots(const SwapRun& run, std::span<Page* const> pages);

struct SwapTotals {
  u32 total, free;  // slots
  u64 in, out;      // pages since boot
  u32 read_errors, write_errors;
};
SwapTotals swap_totals();
/// As /proc/swaps.
void print_swaps(Sink& out);

/// Before a request fails: pages of zones that would do are written to the swap. True if any became free.
bool wait_for_swap(const ReclaimRequest& request);
/// Boot, once, threads running.
void init_swap();

}  // namespace paean
