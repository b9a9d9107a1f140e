// Page words: everything that the kernel knows about a frame, in four bytes.
//
//   31 30 28 27   24 23                8 7        0
//   |m|type | order |    references     | ledger row |   Block: an allocated block; its first page says it all
//   | |type | order |                                |   Cached: first page of a block in a CPU's stack
//   | |type | order |                   | ledger row |   Parked: first page of a freed block that waits
//   | |type |                 reason                 |   Reserved: taken at boot, for ever
//   |m|type |     virtual page number   | ledger row |   VCompound: each page of a virtual block (mm/vcompound.hpp)
//   |m|type |          descriptor address / 16       |   Slab: each page of a slab (mm/slab_store.hpp)
//
//   m: a page of the block may have a persistent map (mm/kmap.hpp), which the free then drops. Set by the first kmap
//   and kept until the free: its fast path sees only that the word is not the usual one.
//
//   Free      in the buddy allocator, or behind the first page of a block
//   Cached    in a CPU's stack: free, but the buddy does not know it
//   Block     first page of an allocated block
//   Parked    freed, but another CPU may still have a translation for it (mm/kmap.hpp): nobody's until that is gone
//   Reserved  RAM that never reached a zone: kernel image, page words, ...
//   Hole      no RAM at all
//   VCompound a frame of an allocated block that is contiguous in addresses alone; order and references are kept by
//             its area of the vmalloc space
//   Slab      an allocated block that is cut into objects; it gets its old word back afterwards
//
// 64 GB cost 64 MiB of words (40 bytes a frame would be 640 MiB and leave no lowmem). The array is indexed by frame
// number in one virtual window; its pages come from highmem. Sections of 1024 frames without RAM share one read-only
// page of Hole words, so that every frame below frame_limit() can be looked at.
//
// `Page*` points at a word, so the classic interface reads as always: page_to_pfn, pfn_to_page, page_address.
// Words are written by their owner: the zone's lock or this CPU's stack while free, the holder while allocated; the
// reference count is atomic. Frames behind the first page of a block keep the word Free, which is what makes order-9
// blocks as cheap as order 0, and what catches the free of a part of a block.
#pragma once

#include <utility>

#include "lib/assert.hpp"

namespace paean {

/// Who holds an allocated block: the rows of the ledger.
enum class Owner : u32 {
  Kernel,  // not said
  User,    // programs' memory
  PageTables,
  PageCache,
  Slab,
  Vmalloc,
  Stack,
  Bounce,
  Console,  // taken by hand with the `alloc` command
  Test,
  PerCpu,  // per-CPU variables and first stacks of CPUs
  Parked,  // freed, and not yet free: see PageType::Parked
};
inline constexpr u32 kOwnerCount = 12;
std::string_view name(Owner owner);

// Slab is the highest: kfree() tells by that.
enum class PageType : u8 { Free, Cached, Block, Reserved, Hole, Parked, VCompound, Slab };

class Page {
 public:
  static constexpr u32 kMaxReferences = 0xffff;  // the count stays there: such a page is never freed again
  static constexpr u32 kMapped = 1u << 31;
  static constexpr u32 kTypeMask = 7u << 28, kOwnerMask = 0x3f;
  static constexpr u32 kRowMask = 0xff, kOneReference = 0x100, kReferenceMask = kMaxReferences * kOneReference;

  constexpr Page() = default;
  Page(const Page&) = delete;
  Page& operator=(const Page&) = delete;

  static constexpr u32 make_simple(PageType type, u32 detail = 0) {
    return (u32{std::to_underlying(type)} << 28) | detail;
  }
  /// `row` is a LedgerRow: zone and owner in eight bits.
  static constexpr u32 make_block(Order order, u32 row) {
    return (u32{std::to_underlying(PageType::Block)} << 28) | (order.value() << 24) | kOneReference | row;
  }
  /// `descriptor` is a multiple of 16.
  static constexpr u32 make_slab(u32 descriptor) { return make_simple(PageType::Slab, descriptor >> 4); }
  /// `address` is where the page is seen.
  static constexpr u32 make_vcompound(VirtAddr address, u32 row) {
    return make_simple(PageType::VCompound, (address.raw() >> kPageShift) << 8 | row);
  }
  static constexpr u32 make_parked(Order order, u32 row) {
    return make_simple(PageType::Parked, (order.value() << 24) | row);
  }
  static constexpr u32 make_cached(Order order) { return make_simple(PageType::Cached, order.value() << 24); }

  u32 word() const { return __atomic_load_n(&word_, __ATOMIC_RELAXED); }
  void set_word(u32 word) { __atomic_store_n(&word_, word, __ATOMIC_RELAXED); }
  /// Free, all of them.
  static void clear_words(Page* first, u32 pages) {
    __builtin_memset(static_cast<void*>(first), 0, pages * sizeof(Page));
  }

  static constexpr PageType type_in(u32 word) { return static_cast<PageType>((word >> 28) & 7); }
  PageType type() const { return type_in(word()); }
  bool may_be_mapped() const { return (word() & kMapped) != 0; }
  void note_mapped() { (void)__atomic_fetch_or(&word_, kMapped, __ATOMIC_RELAXED); }
  void note_unmapped() { (void)__atomic_fetch_and(&word_, ~kMapped, __ATOMIC_RELAXED); }
  Order order() const { return Order{(word() >> 24) & 15}; }
  u32 ledger_row() const { return word() & kRowMask; }
  Owner owner() const { return static_cast<Owner>(word() & kOwnerMask); }
  u32 references() const { return (word() & kReferenceMask) / kOneReference; }
  /// Of a Reserved frame.
  u32 detail() const { return word() & 0x0fffffff; }

  /// Where a VCompound page is seen.
  static constexpr VirtAddr address_in(u32 word) { return VirtAddr{word >> 8 << kPageShift}; }
  /// The address of a Slab page's descriptor.
  static constexpr u32 slab_descriptor_in(u32 word) { return word << 4; }

  /// Is it an allocated block of this owner's? One look at the word.
  bool is_block_of(Owner owner) const { return is_block_of(word(), owner); }

  /// One more holder. Of the first page of an allocated block; at the limit the count sticks.
  void get() {
    u32 old = word();
    do {
      if (!is_block(old) || one_more(old) <= kOneReference) [[unlikely]]
        return get_slowly();
    } while (
        !__atomic_compare_exchange_n(&word_, &old, old + kOneReference, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  }
  /// The same, if it is a block of this owner's; false otherwise. One look at the word for both.
  bool try_get(Owner owner) {
    u32 old = word();
    do {
      if (!is_block_of(old, owner)) return false;
      if (one_more(old) <= kOneReference) [[unlikely]] {
        get_slowly();
        return true;
      }
    } while (
        !__atomic_compare_exchange_n(&word_, &old, old + kOneReference, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return true;
  }
  /// One holder less; true if that was the last one, and then the caller frees the block.
  [[nodiscard]] bool put() {
    u32 old = word();
    do {
      if (!is_block(old) || one_more(old) <= 2 * kOneReference) [[unlikely]]
        return put_slowly();
    } while (
        !__atomic_compare_exchange_n(&word_, &old, old - kOneReference, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED));
    return false;
  }
  /// One holder less, if it is a block of this owner's that others hold too; false otherwise. One look at the word.
  bool put_shared(Owner owner) {
    u32 old = word();
    do {
      if (!is_block_of(old, owner) || one_more(old) <= 2 * kOneReference) return false;
    } while (
        !__atomic_compare_exchange_n(&word_, &old, old - kOneReference, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED));
    return true;
  }
  /// So many holders more, or less, at once. Of a block, not a virtual one; none of those is the last (asserted).
  void get_many(u32 count);
  void put_many(u32 count);

 private:
  static constexpr bool is_block_of(u32 word, Owner owner) {
    return (word & (kTypeMask | kOwnerMask)) == (make_simple(PageType::Block) | std::to_underlying(owner));
  }
  static constexpr bool is_block(u32 word) { return (word & kTypeMask) == make_simple(PageType::Block); }
  /// What the count would be with one more; 0 where it sticks.
  static constexpr u32 one_more(u32 word) { return (word + kOneReference) & kReferenceMask; }
  void get_slowly();
  bool put_slowly();

  u32 word_ = 0;
};
static_assert(sizeof(Page) == 4, "1 MiB of page words a GiB of RAM");

/// The word of frame 0; see init_frame_words().
extern Page* frame_words;
extern Pfn frame_words_limit;

inline Page* pfn_to_page(Pfn pfn) { return frame_words + pfn.raw(); }
inline Pfn page_to_pfn(const Page* page) { return Pfn{static_cast<u32>(page - frame_words)}; }
/// First frame without a page word.
inline Pfn frame_limit() { return frame_words_limit; }
/// Is there RAM of ours at this frame, reserved or not?
inline bool pfn_valid(Pfn pfn) { return pfn < frame_limit() && pfn_to_page(pfn)->type() != PageType::Hole; }

/// The first page of the allocated or parked block of frames that holds a page; nullptr if none does. At most 11 words
/// are looked at. Each frame of a virtual block is one by itself; compound_head() finds the first of them.
Page* block_head(Page* page);

}  // namespace paean
