// Who has which addresses: disjoint ranges of pages, cut into blocks and joined again.
//
//   range 0                                    range 1
//   | taken | free | taken | taken | free |    | free ............ |      every page is in exactly one block
//
//   * allocate() takes the smallest free block that is large enough, the lowest one among equals, from its low end.
//     Larger alignments than a page look at the next kLooks free blocks by size, then take one that is certain to
//     have an aligned place; only when there is none, every block that is large enough is looked at.
//   * free() joins the block with its free neighbours at once, so two free blocks are never neighbours in a range.
//   * A block never crosses from one range into another, even where the ranges touch.
//
// Two red-black trees: all blocks by address, the free ones by size and address. Allocating, freeing and finding are
// O(log n). Pure: no memory of its own. The blocks are the caller's objects (usually a base of his own type), brought
// in and taken out through VaSpares: an allocation may need two, a free may give two back.
// Locking: the caller's. Units: pages, and addresses that are multiples of a page. Guard pages are the caller's too.
// Source: best fit by (size, address) as in BSD's malloc; trees by Boost.Intrusive.
#pragma once

#include "lib/addr.hpp"
#include "lib/assert.hpp"

namespace paean {

/// What a red-black tree needs in its elements.
struct VaNode {
  VaNode* parent = nullptr;
  VaNode* left = nullptr;
  VaNode* right = nullptr;
  u32 colour = 0;
};
struct VaAddressNode : VaNode {};
struct VaSizeNode : VaNode {};

/// A run of pages, free or taken. Its memory must stay where it is while it is in a space.
class VaBlock : private VaAddressNode, private VaSizeNode {
 public:
  constexpr VaBlock() = default;
  VaBlock(const VaBlock&) = delete;
  VaBlock& operator=(const VaBlock&) = delete;

  VirtAddr start() const { return start_; }
  u32 pages() const { return pages_; }
  VirtAddr end() const { return start_ + pages_ * kPageSize; }
  bool is_free() const { return free_; }

 private:
  friend class VaSpace;
  friend class VaSpares;
  VirtAddr start_{};
  u32 pages_ = 0;
  bool free_ = false;
  bool begins_range_ = false;
};

/// Blocks that are in no space.
class VaSpares {
 public:
  void push(VaBlock& block) {
    static_cast<VaSizeNode&>(block).left = first_ == nullptr ? nullptr : static_cast<VaSizeNode*>(first_);
    first_ = &block;
    ++count_;
  }
  /// nullptr if there is none.
  VaBlock* pop() {
    VaBlock* block = first_;
    if (block == nullptr) return nullptr;
    first_ = static_cast<VaBlock*>(static_cast<VaSizeNode*>(static_cast<VaSizeNode&>(*block).left));
    --count_;
    return block;
  }
  u32 count() const { return count_; }

 private:
  VaBlock* first_ = nullptr;
  u32 count_ = 0;
};

class VaSpace {
 public:
  static constexpr u32 kSparesNeeded = 2;
  static constexpr u32 kLooks = 16;

  constexpr VaSpace() = default;
  VaSpace(const VaSpace&) = delete;
  VaSpace& operator=(const VaSpace&) = delete;

  /// Once, before anything else.
  void init();
  /// A free range, which must not overlap an earlier one, described by `block`.
  void add_range(VirtAddr start, u32 pages, VaBlock& block);

  /// A taken block of exactly so many pages whose start is a multiple of `align` bytes (a power of two, at least a
  /// page); nullptr if there is no room. Precondition: kSparesNeeded blocks in `spares`.
  [[nodiscard]] VaBlock* allocate(u32 pages, u32 align, VaSpares& spares);
  /// Takes exactly these pages; nullptr unless all of them are free. Same precondition.
  [[nodiscard]] VaBlock* allocate_at(VirtAddr start, u32 pages, VaSpares& spares);
  /// Gives a taken block back. It, or a neighbour, may end in `spares`.
  void free(VaBlock& block, VaSpares& spares);

  /// The block that holds an address, free or taken; nullptr outside of all ranges.
  VaBlock* find(VirtAddr inside) const;
  /// The first block that ends above an address; nullptr if there is none.
  VaBlock* from(VirtAddr address) const;
  /// In address order; nullptr at the end.
  VaBlock* first() const;
  VaBlock* next(VaBlock& block) const;
  /// `fresh`, which is in no space, takes the place of `old`, which is in none afterwards.
  void replace(VaBlock& old, VaBlock& fresh);

  u32 total_pages() const { return total_pages_; }
  u32 free_pages() const { return free_pages_; }
  u32 largest_free() const;

 private:
  struct ByAddress;
  struct BySize;
  static VaBlock* of_address(VaNode* node);
  static VaBlock* of_size(VaNode* node);
  static u32 gap_before(const VaBlock& block, u32 align);
  VaBlock* find_aligned(u32 pages, u32 align) const;
  void insert_free(VaBlock& block);
  void erase_free(VaBlock& block);
  VaBlock& cut_front(VaBlock& block, u32 pages, VaSpares& spares);
  VaBlock* take(VaBlock& block, u32 gap, u32 pages, VaSpares& spares);

  mutable VaNode by_address_{};
  mutable VaNode by_size_{};
  u32 total_pages_ = 0, free_pages_ = 0;
};

}  // namespace paean
