#include "mm/page_index.hpp"

#include <bit>
#include <utility>

namespace paean {

namespace {

using Node = PageIndexNode;

/// Of the smallest tree that has this index.
u32 shift_for(u32 index) {
  u32 shift = 0;
  while ((index >> shift) >= Node::kSlots) shift += Node::kShift;
  return shift;
}

u32* marks_of(Node* node, IndexMark mark) { return node->marks[std::to_underlying(mark)]; }
const u32* marks_of(const Node* node, IndexMark mark) { return node->marks[std::to_underlying(mark)]; }

// Rows of bits, one for each slot.
bool any(const u32* bits) { return (bits[0] | bits[1]) != 0; }
bool is_set(const u32* bits, u32 slot) { return (bits[slot / 32] >> (slot % 32) & 1) != 0; }
void set(u32* bits, u32 slot) { bits[slot / 32] |= 1u << (slot % 32); }
void clear(u32* bits, u32 slot) { bits[slot / 32] &= ~(1u << (slot % 32)); }
/// The first bit at or behind `slot`; kSlots if none is.
u32 first_set(const u32* bits, u32 slot) {
  for (u32 word = slot / 32; word < Node::kSlots / 32; ++word, slot = word * 32) {
    const u32 left = bits[word] & (~0u << (slot % 32));
    if (left != 0) return word * 32 + static_cast<u32>(std::countr_zero(left));
  }
  return Node::kSlots;
}

Node* fresh(SpareNodes& spare, u32 shift) {
  Node* node = spare.pop();
  __builtin_memset(node, 0, sizeof(Node));
  node->shift = static_cast<u8>(shift);
  return node;
}

void put_below(Node* parent, u32 slot, Node* node) {
  node->parent = parent;
  node->offset = static_cast<u8>(slot);
  parent->slots[slot] = node;
  set(parent->used, slot);
}

/// Up from a slot whose mark has gone.
void clear_upwards(Node* node, u32 slot, IndexMark mark) {
  for (; node != nullptr; slot = node->offset, node = node->parent) {
    u32* bits = marks_of(node, mark);
    clear(bits, slot);
    if (any(bits)) return;
  }
}

bool has_any_mark(const Node* leaf, u32 slot) {
  static_assert(kIndexMarks == 2);
  return ((leaf->marks[0][slot / 32] | leaf->marks[1][slot / 32]) >> (slot % 32) & 1) != 0;
}

[[gnu::noinline]] void clear_marks(Node* leaf, u32 slot) {
  for (u32 mark = 0; mark < kIndexMarks; ++mark) {
    if (is_set(leaf->marks[mark], slot)) clear_upwards(leaf, slot, static_cast<IndexMark>(mark));
  }
}

u32 index_of(const Node* node, u32 slot) {
  u32 index = slot << node->shift;
  for (; node->parent != nullptr; node = node->parent) index |= u32{node->offset} << node->parent->shift;
  return index;
}

}  // namespace

u32 PageIndex::nodes_needed(u32 index) const {
  const u32 shift = shift_for(index);
  if (root_ == nullptr) return shift / Node::kShift + 1;
  // A higher tree has the old one below its first slot, and this index below another one.
  if (shift > root_->shift) return (shift - root_->shift) / Node::kShift + shift / Node::kShift;
  const Node* node = root_;
  while (node->shift != 0) {
    const Node* below = child(node, slot_of(index, node));
    if (below == nullptr) return node->shift / Node::kShift;
    node = below;
  }
  return 0;
}

PageIndexNode* PageIndex::grow_to(u32 index, SpareNodes& spare) {
  if (root_ == nullptr) root_ = fresh(spare, shift_for(index));
  while ((index >> root_->shift) >= Node::kSlots) {
    Node* above = fresh(spare, root_->shift + Node::kShift);
    put_below(above, 0, root_);
    for (u32 mark = 0; mark < kIndexMarks; ++mark) {
      if (any(root_->marks[mark])) above->marks[mark][0] = 1;
    }
    root_ = above;
  }
  Node* node = root_;
  while (node->shift != 0) {
    const u32 slot = slot_of(index, node);
    if (node->slots[slot] == nullptr) put_below(node, slot, fresh(spare, node->shift - Node::kShift));
    node = child(node, slot);
  }
  return node;
}

PageIndexNode* PageIndex::leaf_of(u32 index) const {
  Node* node = root_;
  ASSERT(node != nullptr && (index >> node->shift) < Node::kSlots);
  while (node->shift != 0) {
    node = child(node, slot_of(index, node));
    ASSERT(node != nullptr);
  }
  return node;
}

void PageIndex::insert(u32 index, u32 pages, void* entry, SpareNodes& spare) {
  DASSERT(std::has_single_bit(pages) && pages <= Node::kSlots && index % pages == 0 && entry != nullptr);
  Node* leaf = grow_to(index, spare);
  const u32 first = index % Node::kSlots;
  for (u32 slot = first; slot != first + pages; ++slot) {
    ASSERT(leaf->slots[slot] == nullptr);
    leaf->slots[slot] = entry;
    set(leaf->used, slot);
  }
}

void PageIndex::remove(u32 index, u32 pages, SpareNodes& spare, Finger& finger) {
  const u32 number = index / Node::kSlots, slot = index % Node::kSlots;
  if (finger.leaf_ == nullptr || finger.number_ != number) {
    finger.leaf_ = leaf_of(index);
    finger.number_ = number;
  }
  Node* leaf = finger.leaf_;
  const void* entry = leaf->slots[slot];
  ASSERT(entry != nullptr);
  for (u32 i = slot; i != slot + pages; ++i) {
    ASSERT(std::exchange(leaf->slots[i], nullptr) == entry);
    clear(leaf->used, i);
  }
  if (has_any_mark(leaf, slot)) clear_marks(leaf, slot);
  if (any(leaf->used)) return;
  finger.leaf_ = nullptr;
  take_off(leaf, spare);
}

/// A leaf that is empty, and what becomes empty with it.
void PageIndex::take_off(PageIndexNode* leaf, SpareNodes& spare) {
  for (Node* node = leaf; !any(node->used);) {
    Node* above = node->parent;
    const u32 slot = node->offset;
    spare.push(node);
    if (above == nullptr) {
      root_ = nullptr;
      return;
    }
    above->slots[slot] = nullptr;
    clear(above->used, slot);
    node = above;
  }
}

void PageIndex::set_mark(u32 index, IndexMark mark) {
  Node* node = leaf_of(index);
  ASSERT(node->slots[index % Node::kSlots] != nullptr);
  for (u32 slot = index % Node::kSlots; node != nullptr; slot = node->offset, node = node->parent) {
    set(marks_of(node, mark), slot);
  }
}

void PageIndex::clear_mark(u32 index, IndexMark mark) {
  Node* leaf = leaf_of(index);
  if (is_set(marks_of(leaf, mark), index % Node::kSlots)) clear_upwards(leaf, index % Node::kSlots, mark);
}

bool PageIndex::has_mark(u32 index, IndexMark mark) const {
  return is_set(marks_of(leaf_of(index), mark), index % Node::kSlots);
}

template <typename BitsOf>
PageIndex::Hit PageIndex::search(u32 from, BitsOf bits_of) const {
  const Node* node = root_;
  if (node == nullptr || (from >> node->shift) >= Node::kSlots) return {};
  u32 slot = from >> node->shift;
  bool on_path = true;  // this slot is the one that `from` itself lies below
  while (true) {
    const u32 found = first_set(bits_of(node), slot);
    if (found == Node::kSlots) {
      if (node->parent == nullptr) return {};
      slot = node->offset + 1u;
      node = node->parent;
      on_path = false;
      continue;
    }
    if (node->shift == 0) return {index_of(node, found), node->slots[found]};
    on_path = on_path && found == slot;
    node = child(node, found);
    slot = on_path ? slot_of(from, node) : 0;
  }
}

PageIndex::Hit PageIndex::next(u32 from) const {
  return search(from, [](const Node* node) { return node->used; });
}

PageIndex::Hit PageIndex::next_marked(u32 from, IndexMark mark) const {
  return search(from, [mark](const Node* node) { return marks_of(node, mark); });
}

}  // namespace paean
