// Blocks that were freed while another CPU may still reach them through a translation that it has not dropped: first
// in, first out, each with the generation after which nobody can.
//
//   blocks.park(head, stamp)                       // freed now
//   while (auto head = blocks.take_settled(is_done)) ...   // everybody has flushed: the allocator may have it
//
// Room: a block waits here only while a slot of the pool, or a block window, that showed it waits for the same flush.
// Slots wait in a ring in the order of their stamps; a block that waits belongs to a place of that ring which is less
// than a ring's length behind the first waiting one, so there are never more than two for each slot.
// Pure. Locking is the caller's business. Generations may wrap.
#pragma once

#include <optional>

#include "lib/addr.hpp"
#include "lib/assert.hpp"

namespace paean {

template <u32 kSlots>
class ParkedBlocks {
 public:
  static constexpr u32 kCapacity = 2 * kSlots + 16;

  struct Block {
    Pfn head{};
    u32 stamp = 0;
  };

  /// Stamps rise: an older one than the last is taken for the last. Precondition: not full().
  void park(Pfn head, u32 stamp) {
    ASSERT(!full());
    if (count_ != 0 && static_cast<i32>(stamp - newest_) < 0) stamp = newest_;
    newest_ = stamp;
    at(count_++) = Block{head, stamp};
  }
  /// The oldest, if its generation is done.
  template <typename IsDone>
  std::optional<Block> take_settled(IsDone is_done) {
    if (count_ == 0 || !is_done(at(0).stamp)) return std::nullopt;
    const Block block = at(0);
    first_ = first_ + 1 == kCapacity ? 0 : first_ + 1;
    --count_;
    return block;
  }
  u32 count() const { return count_; }
  bool full() const { return count_ == kCapacity; }
  /// What to wait for if all of them shall settle. Precondition: count() != 0.
  u32 newest() const { return newest_; }

 private:
  Block& at(u32 index) {
    const u32 place = first_ + index;
    return blocks_[place < kCapacity ? place : place - kCapacity];
  }
  Block blocks_[kCapacity]{};
  u32 first_ = 0, count_ = 0, newest_ = 0;
};

}  // namespace paean
