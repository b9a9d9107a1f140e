// The slots of one swap area: which are free, and how many page-table entries name each.
//
//   free --allocate()--> 1 --share()--> 2 ... --release()--> ... 1 --release()--> free
//     \--mark_bad()--> bad, for ever
//
// Allocation takes the lowest free slot and what follows it, so that what is written together lies together. 2 bytes
// and a bit for each slot: 544 KiB a GiB of swap.
// Pure: works in memory that the caller gives and keeps. Not locked.
#pragma once

#include "mm/hbitmap.hpp"

namespace paean {

class SwapMap {
 public:
  /// Entries of page tables that may name a slot: fork fails beyond. A few more are left for those who read it.
  static constexpr u32 kMostSharers = 0xff00;

  struct Run {
    u32 first = 0, slots = 0;
  };

  static constexpr usize words_needed(u32 slots) { return HBitmap::words_needed(slots) + (slots + 1) / 2; }
  /// `memory` is zero and holds words_needed(slots). All slots are free but slot 0, which is the header.
  void init(std::span<u32> memory, u32 slots);

  /// Of a free slot. Before the first allocation.
  void mark_bad(u32 slot);
  /// Up to `most` neighbours with one user each; none if the area is full.
  Run allocate(u32 most);
  /// One more user; false at the limit. Precondition, here and below: somebody uses it (asserted).
  [[nodiscard]] bool share(u32 slot);
  /// The same for a reader, who is not held up by that limit.
  void hold(u32 slot);
  /// One less. True if it is free now.
  bool release(u32 slot);

  u32 users(u32 slot) const;
  u32 slots() const { return slots_; }
  /// Slots that can hold a page, and those that do.
  u32 usable() const { return usable_; }
  u32 used() const { return used_; }

 private:
  static constexpr u16 kBad = 0xffff;
  u16& count(u32 slot);

  HBitmap free_;
  u16* counts_ = nullptr;
  u32 slots_ = 0, usable_ = 0, used_ = 0;
};

}  // namespace paean
