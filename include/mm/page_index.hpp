// Which entry a page of a file has: a radix tree from 32-bit page indexes to pointers, 64 slots a node.
//
//   root (shift 6)   | 0 | 1 | ... | 63 |      slot = (index >> shift) % 64
//                      |
//   leaf (shift 0)   | e | e | f | f | ... |   an entry of 2^k pages is in 2^k slots, all in one leaf
//
// The tree is as high as its highest index needs: one node up to 64 pages, six for 2^32. Nodes that become empty come
// off at once. Marks are a bit a slot, kept in the first slot of an entry, and in every node above the bits of nodes
// that have any. Which slots are not empty is such a row of bits too: searches look at nothing else.
//
// Pure: it allocates nothing. Whoever inserts brings as many nodes as nodes_needed() says, made before his spinning
// lock; whoever removes takes away the nodes that became free. The owner serialises.
// Source: the radix tree of Linux's page cache; this one has no lock-free readers and so no deferred frees.
#pragma once

#include "lib/addr.hpp"
#include "lib/assert.hpp"

namespace paean {

enum class IndexMark : u8 { Dirty, WriteBack };
inline constexpr u32 kIndexMarks = 2;

struct PageIndexNode {
  static constexpr u32 kSlots = 64, kShift = 6;
  PageIndexNode* parent;  // of a spare node: the next spare one
  u8 shift;               // a slot here stands for 2^shift pages
  u8 offset;              // the slot in the parent that leads here
  u32 used[kSlots / 32];  // slots that are not empty
  u32 marks[kIndexMarks][kSlots / 32];
  void* slots[kSlots];
};

/// Nodes that are in no tree.
class SpareNodes {
 public:
  bool empty() const { return first_ == nullptr; }
  u32 count() const { return count_; }
  void push(PageIndexNode* node) {
    node->parent = first_;
    first_ = node;
    ++count_;
  }
  /// Not of an empty stack.
  PageIndexNode* pop() {
    PageIndexNode* node = first_;
    first_ = node->parent;
    --count_;
    return node;
  }

 private:
  PageIndexNode* first_ = nullptr;
  u32 count_ = 0;
};

class PageIndex {
 public:
  static constexpr u32 kMostNodes = 11;  // ever needed for one insertion

  bool empty() const { return root_ == nullptr; }
  /// The entry that has this page; nullptr if none does.
  void* find(u32 index) const {
    const PageIndexNode* node = root_;
    if (node == nullptr || (index >> node->shift) >= PageIndexNode::kSlots) return nullptr;
    while (node->shift != 0) {
      node = child(node, slot_of(index, node));
      if (node == nullptr) return nullptr;
    }
    return node->slots[index % PageIndexNode::kSlots];
  }

  /// Spare nodes that an insertion there would use.
  u32 nodes_needed(u32 index) const;
  /// `pages` is a power of two up to 64, `index` a multiple of it; all the slots are empty (asserted).
  void insert(u32 index, u32 pages, void* entry, SpareNodes& spare);
  /// Takes out the entry that was inserted so, its marks with it.
  void remove(u32 index, u32 pages, SpareNodes& spare) {
    Finger none;
    remove(index, pages, spare, none);
  }
  /// Where the last removal was, so that a neighbour's finds its leaf there. Good until anything else changes the tree.
  class Finger {
    friend class PageIndex;
    PageIndexNode* leaf_ = nullptr;
    u32 number_ = 0;  // of the leaf: its indexes / 64
  };
  void remove(u32 index, u32 pages, SpareNodes& spare, Finger& finger);

  // Of an entry's first page.
  void set_mark(u32 index, IndexMark mark);
  void clear_mark(u32 index, IndexMark mark);
  bool has_mark(u32 index, IndexMark mark) const;

  struct Hit {
    u32 index = 0;
    void* entry = nullptr;  // nullptr: nothing there or behind
  };
  /// The first page at or behind `from` that has an entry.
  Hit next(u32 from) const;
  /// The first entry marked so that begins at or behind `from`.
  Hit next_marked(u32 from, IndexMark mark) const;

 private:
  static u32 slot_of(u32 index, const PageIndexNode* node) { return (index >> node->shift) % PageIndexNode::kSlots; }
  static PageIndexNode* child(const PageIndexNode* node, u32 slot) {
    return static_cast<PageIndexNode*>(node->slots[slot]);
  }
  PageIndexNode* leaf_of(u32 index) const;
  void take_off(PageIndexNode* leaf, SpareNodes& spare);
  PageIndexNode* grow_to(u32 index, SpareNodes& spare);
  template <typename BitsOf>
  Hit search(u32 from, BitsOf bits_of) const;

  PageIndexNode* root_ = nullptr;
};

}  // namespace paean
