#include "mm/va_space.hpp"

#define BOOST_DISABLE_ASSERTS
#include <boost/intrusive/rbtree_algorithms.hpp>

namespace paean {

namespace {

struct NodeTraits {
  // NOLINTBEGIN(readability-identifier-naming): the names that Boost.Intrusive asks for
  using node = VaNode;
  using node_ptr = VaNode*;
  using const_node_ptr = const VaNode*;
  using color = u32;
  // NOLINTEND(readability-identifier-naming)
  static node_ptr get_parent(const_node_ptr n) { return n->parent; }
  static void set_parent(node_ptr n, node_ptr parent) { n->parent = parent; }
  static node_ptr get_left(const_node_ptr n) { return n->left; }
  static void set_left(node_ptr n, node_ptr left) { n->left = left; }
  static node_ptr get_right(const_node_ptr n) { return n->right; }
  static void set_right(node_ptr n, node_ptr right) { n->right = right; }
  static color get_color(const_node_ptr n) { return n->colour; }
  static void set_color(node_ptr n, color c) { n->colour = c; }
  static color black() { return 1; }
  static color red() { return 0; }
};
using Tree = boost::intrusive::rbtree_algorithms<NodeTraits>;

struct SizeKey {
  u32 pages;
  VirtAddr start;
  bool operator<(const SizeKey& other) const {
    return pages != other.pages ? pages < other.pages : start < other.start;
  }
};

}  // namespace

VaBlock* VaSpace::of_address(VaNode* node) { return static_cast<VaBlock*>(static_cast<VaAddressNode*>(node)); }
VaBlock* VaSpace::of_size(VaNode* node) { return static_cast<VaBlock*>(static_cast<VaSizeNode*>(node)); }

/// Compares nodes and keys in any mixture.
struct VaSpace::ByAddress {
  static VirtAddr key(VirtAddr key) { return key; }
  static VirtAddr key(VaNode* node) { return of_address(node)->start_; }
  bool operator()(auto a, auto b) const { return key(a) < key(b); }
};
struct VaSpace::BySize {
  static SizeKey key(SizeKey key) { return key; }
  static SizeKey key(VaNode* node) { return {of_size(node)->pages_, of_size(node)->start_}; }
  bool operator()(auto a, auto b) const { return key(a) < key(b); }
};

void VaSpace::init() {
  Tree::init_header(&by_address_);
  Tree::init_header(&by_size_);
}

void VaSpace::insert_free(VaBlock& block) {
  block.free_ = true;
  Tree::insert_equal_upper_bound(&by_size_, static_cast<VaSizeNode*>(&block), BySize{});
  free_pages_ += block.pages_;
}

void VaSpace::erase_free(VaBlock& block) {
  Tree::erase(&by_size_, static_cast<VaSizeNode*>(&block));
  free_pages_ -= block.pages_;
  block.free_ = false;
}

void VaSpace::add_range(VirtAddr start, u32 pages, VaBlock& block) {
  ASSERT(start.is_aligned(kPageSize) && pages != 0);
  block.start_ = start;
  block.pages_ = pages;
  block.begins_range_ = true;
  Tree::insert_equal_upper_bound(&by_address_, static_cast<VaAddressNode*>(&block), ByAddress{});
  total_pages_ += pages;
  insert_free(block);
}

/// Pages at the front of a block that an aligned place in it leaves over.
u32 VaSpace::gap_before(const VaBlock& block, u32 align) {
  return (block.start_.align_up(align) - block.start_) >> kPageShift;
}

VaBlock* VaSpace::find_aligned(u32 pages, u32 align) const {
  VaNode* const end = Tree::end_node(&by_size_);
  VaNode* const smallest = Tree::lower_bound(&by_size_, SizeKey{pages, VirtAddr{}}, BySize{});
  const auto fits = [&](VaNode* node) { return gap_before(*of_size(node), align) + pages <= of_size(node)->pages_; };
  VaNode* node = smallest;
  for (u32 looked = 0; node != end && looked < kLooks; ++looked, node = Tree::next_node(node)) {
    if (fits(node)) return of_size(node);
  }
  if (node == end) return nullptr;
  const u32 certain = pages + (align >> kPageShift) - 1;
  VaNode* const large = Tree::lower_bound(&by_size_, SizeKey{certain, VirtAddr{}}, BySize{});
  if (large != end) return of_size(large);
  for (; node != end; node = Tree::next_node(node)) {
    if (fits(node)) return of_size(node);
  }
  return nullptr;
}

/// Cuts so many pages off the front of a block that is in no tree but the one by address; returns the front.
VaBlock& VaSpace::cut_front(VaBlock& block, u32 pages, VaSpares& spares) {
  VaBlock& front = *spares.pop();
  front.start_ = block.start_;
  front.pages_ = pages;
  front.free_ = false;
  front.begins_range_ = block.begins_range_;
  block.start_ += pages * kPageSize;
  block.pages_ -= pages;
  block.begins_range_ = false;
  Tree::insert_before(&by_address_, static_cast<VaAddressNode*>(&block), static_cast<VaAddressNode*>(&front));
  return front;
}

/// Takes the pages [gap, gap + pages) of a free block; what is left on either side stays free.
VaBlock* VaSpace::take(VaBlock& block, u32 gap, u32 pages, VaSpares& spares) {
  DASSERT(gap + pages <= block.pages_);
  ASSERT(spares.count() >= kSparesNeeded);
  erase_free(block);
  if (gap != 0) insert_free(cut_front(block, gap, spares));
  if (block.pages_ == pages) return &block;
  VaBlock& taken = cut_front(block, pages, spares);
  insert_free(block);
  return &taken;
}

VaBlock* VaSpace::allocate(u32 pages, u32 align, VaSpares& spares) {
  ASSERT(pages != 0 && align >= kPageSize && (align & (align - 1)) == 0);
  if (pages > largest_free()) return nullptr;
  VaBlock* block = find_aligned(pages, align);
  return block == nullptr ? nullptr : take(*block, gap_before(*block, align), pages, spares);
}

VaBlock* VaSpace::allocate_at(VirtAddr start, u32 pages, VaSpares& spares) {
  VaBlock* block = find(start);
  if (block == nullptr || !block->free_) return nullptr;
  const u32 gap = (start - block->start_) >> kPageShift;
  if (pages > block->pages_ - gap) return nullptr;
  return take(*block, gap, pages, spares);
}

void VaSpace::free(VaBlock& block, VaSpares& spares) {
  ASSERT(!block.free_);
  VaBlock* whole = &block;
  if (!block.begins_range_) {
    VaBlock& before = *of_address(Tree::prev_node(static_cast<VaAddressNode*>(&block)));
    if (before.free_) {
      erase_free(before);
      before.pages_ += block.pages_;
      Tree::erase(&by_address_, static_cast<VaAddressNode*>(&block));
      spares.push(block);
      whole = &before;
    }
  }
  VaBlock* after = next(*whole);
  if (after != nullptr && after->free_ && !after->begins_range_) {
    erase_free(*after);
    whole->pages_ += after->pages_;
    Tree::erase(&by_address_, static_cast<VaAddressNode*>(after));
    spares.push(*after);
  }
  insert_free(*whole);
}

VaBlock* VaSpace::find(VirtAddr inside) const {
  VaNode* above = Tree::upper_bound(&by_address_, inside, ByAddress{});
  if (above == Tree::begin_node(&by_address_)) return nullptr;
  VaBlock* block = of_address(Tree::prev_node(above));
  return inside - block->start_ < block->pages_ * kPageSize ? block : nullptr;
}

VaBlock* VaSpace::from(VirtAddr address) const {
  if (VaBlock* block = find(address)) return block;
  VaNode* above = Tree::upper_bound(&by_address_, address, ByAddress{});
  return above == Tree::end_node(&by_address_) ? nullptr : of_address(above);
}

VaBlock* VaSpace::first() const {
  VaNode* node = Tree::begin_node(&by_address_);
  return node == Tree::end_node(&by_address_) ? nullptr : of_address(node);
}

VaBlock* VaSpace::next(VaBlock& block) const {
  VaNode* node = Tree::next_node(static_cast<VaAddressNode*>(&block));
  return node == Tree::end_node(&by_address_) ? nullptr : of_address(node);
}

void VaSpace::replace(VaBlock& old, VaBlock& fresh) {
  fresh.start_ = old.start_;
  fresh.pages_ = old.pages_;
  fresh.free_ = old.free_;
  fresh.begins_range_ = old.begins_range_;
  Tree::replace_node(static_cast<VaAddressNode*>(&old), &by_address_, static_cast<VaAddressNode*>(&fresh));
  if (old.free_) Tree::replace_node(static_cast<VaSizeNode*>(&old), &by_size_, static_cast<VaSizeNode*>(&fresh));
}

u32 VaSpace::largest_free() const {
  VaNode* end = Tree::end_node(&by_size_);
  return Tree::begin_node(&by_size_) == end ? 0 : of_size(Tree::prev_node(end))->pages_;
}

}  // namespace paean
