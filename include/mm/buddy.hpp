// The buddy allocator: blocks of 1 to 1024 pages, in bitmaps instead of in the pages.
//
//   order 2   . . . . . . . 1         one bit for each aligned block of 4: the whole block is free
//   order 1   . . . 1 . . . .         a free block has its bit at exactly one order
//   order 0   . 1 . . . . . .
//
// Free pages are never touched, so free highmem needs no mapping, and the allocator runs on the host unchanged. Each
// order takes its lowest free block first, which keeps the used part of a zone dense. Allocation, splitting and merging
// are constant-time: at most ten levels, each a few words.
//
// Indices are frames from the first frame of the map, which the owner aligns to a largest block, so that buddies by
// index are buddies by address. What a block is used for, and whether a free is legal, is the caller's business: here a
// free of a block that is not allocated breaks the maps (checked in debug builds).
//
// Memory: about two bits a page. Pure, not locked. Source: Knowlton 1965; bitmaps as in the Linux 2.4 buddy, which used
// them for pairs only.
#pragma once

#include "lib/addr.hpp"
#include "mm/hbitmap.hpp"

namespace paean {

class Buddy {
 public:
  static constexpr u32 kNone = HBitmap::kNone;

  /// 32-bit words of memory for so many pages.
  static constexpr usize words_needed(u32 pages) {
    usize total = 0;
    for (u32 order = 0; order < kOrderCount; ++order) total += HBitmap::words_needed(bits_at(pages, order));
    return total;
  }

  constexpr Buddy() = default;

  /// Nothing is free at first. `memory` is zero and stays the allocator's.
  void init(std::span<u32> memory, u32 pages);

  /// Gives a block, which was not free, to the allocator; joins it with its buddies. Index aligned to the order.
  void free(u32 index, Order order);
  /// Any range, in the largest aligned blocks.
  void free_range(u32 index, u32 count);

  /// A block's index, or kNone.
  u32 allocate(Order order);
  struct Run {
    u32 first;
    u32 count;
  };
  /// At most `most` neighbouring pages: the smallest block there is, but not more of it than is wanted. Count 0 if
  /// nothing is free. For taking many single pages; they are freed one by one or as a range.
  Run allocate_run(u32 most);
  /// Takes one given block out, splitting what covers it. False if any part of it is not free.
  bool allocate_at(u32 index, Order order);

  /// Is this page inside a free block?
  bool is_free(u32 index) const { return covering_order(index) != kNone; }
  /// The order of the free block around a page, kNone if it is not free.
  u32 covering_order(u32 index) const;

  u32 pages() const { return pages_; }
  u32 free_pages() const { return free_pages_; }
  u32 free_blocks(Order order) const { return blocks_[order.value()]; }
  /// Pages in the smallest free block; more than there can be if nothing is free.
  u32 smallest_block() const { return nonempty_ == 0 ? ~0u : nonempty_ & -nonempty_; }
  /// Orders at which there is a free block, a bit each.
  u32 nonempty_orders() const { return nonempty_; }

  /// Recounts every map against the counters and looks for blocks inside blocks; for tests.
  bool check() const;

 private:
  static constexpr u32 bits_at(u32 pages, u32 order) {
    const u32 whole =
        (pages + (1u << kMaxOrder) - 1) & ~((1u << kMaxOrder) - 1);  // so that a buddy's bit always exists
    return whole >> order;
  }

  void put(u32 block, u32 order) {
    maps_[order].set(block);
    if (blocks_[order]++ == 0) nonempty_ |= 1u << order;
  }
  void take(u32 block, u32 order) {
    maps_[order].clear(block);
    if (--blocks_[order] == 0) nonempty_ &= ~(1u << order);
  }
  /// Splits a taken block of `from` down to `to`; the upper halves become free. Returns the lowest part's block number.
  u32 split(u32 block, u32 from, u32 to) {
    while (from > to) {
      --from;
      block *= 2;
      put(block + 1, from);
    }
    return block;
  }

  u32 pages_ = 0;
  u32 free_pages_ = 0;
  u32 nonempty_ = 0;
  u32 blocks_[kOrderCount]{};
  HBitmap maps_[kOrderCount];
};

}  // namespace paean
