// The frame allocator: pages from zones.
//
//   Result<Page*> p = alloc_page(AllocFlags::HighUser | AllocFlags::Zero, Owner::User);
//   free_page(*p);
//
// alloc_page(s) may return highmem, __get_free_pages always lowmem: the rule of Linux 2.3.27. Orders 0-3 and 9 come
// from stacks of this CPU without a lock (mm/page_stacks.hpp); other orders, and all blocks when a stack is empty or
// busy, from the zone's buddy. Everything is in the ledger by owner (mm/ledger.hpp).
//
// VFallback: where no contiguous block is left, single pages are made contiguous in addresses (mm/vcompound.hpp). All
// calls take both kinds.
//
// Before a request fails, cached pages of files are given back for it (mm/page_cache.hpp), if its context allows it.
//
// Context: any, interrupts included. Sleeps only if it may: not Atomic, preemption and interrupts on; and it waits for
// write-back only without NoIo.
// Errors: OutOfMemory; InvalidArgument for an order above kMaxOrder. Freeing what is not allocated, with another order,
// or a part of a block, panics with the frame's story: memory is not worth saving at the price of its integrity.
#pragma once

#include "lib/result.hpp"
#include "mm/page_fast.hpp"

namespace paean {

/// What a request needs and how hard it may try.
class AllocFlags {
 public:
  static const AllocFlags Kernel;     // lowmem, may wait
  static const AllocFlags Atomic;     // lowmem, may not wait, may use half of the minimum reserve
  static const AllocFlags User;       // lowmem for a program's sake
  static const AllocFlags HighUser;   // anything, highmem first
  static const AllocFlags Dma;        // below 16 MiB
  static const AllocFlags Dma32;      // below 4 GiB
  static const AllocFlags NoIo;       // modifier: start no I/O to get memory
  static const AllocFlags Zero;       // modifier: filled with zeros
  static const AllocFlags NoWarn;     // modifier: failing is expected, say nothing
  static const AllocFlags VFallback;  // modifier: virtually contiguous will do
  static const AllocFlags Movable;    // modifier: may borrow idle lowmem; mm/lending.hpp is told who uses the page

  /// DMA and DMA32 are limits and win over any other zone.
  constexpr AllocFlags operator|(AllocFlags other) const {
    const u32 both = (bits_ | other.bits_) & ~kZoneMask;
    u32 zone = zone_bits() > other.zone_bits() ? zone_bits() : other.zone_bits();
    if ((both & kDmaBit) != 0)
      zone = static_cast<u32>(ZoneId::Dma);
    else if ((both & kDma32Bit) != 0)
      zone = static_cast<u32>(ZoneId::Dma32);
    return AllocFlags{both | zone};
  }
  constexpr bool has(AllocFlags modifier) const { return (bits_ & (modifier.bits_ & ~kZoneMask)) != 0; }
  constexpr AllocFlags without(AllocFlags modifier) const { return AllocFlags{bits_ & ~(modifier.bits_ & ~kZoneMask)}; }
  /// The highest zone that will do.
  constexpr ZoneId zone() const { return static_cast<ZoneId>(zone_bits()); }

 private:
  static constexpr u32 kZoneMask = 3, kDmaBit = 1u << 4, kDma32Bit = 1u << 5;
  constexpr explicit AllocFlags(u32 bits) : bits_(bits) {}
  constexpr AllocFlags(ZoneId highest, u32 modifiers) : bits_(static_cast<u32>(highest) | modifiers) {}
  constexpr u32 zone_bits() const { return bits_ & kZoneMask; }
  u32 bits_;
};

inline constexpr AllocFlags AllocFlags::Kernel{ZoneId::Normal, 0};
inline constexpr AllocFlags AllocFlags::Atomic{ZoneId::Normal, 1u << 2};
inline constexpr AllocFlags AllocFlags::User{ZoneId::Normal, 1u << 3};
inline constexpr AllocFlags AllocFlags::HighUser{ZoneId::HighMem, 1u << 3};
inline constexpr AllocFlags AllocFlags::Dma{ZoneId::Dma, 1u << 4};
inline constexpr AllocFlags AllocFlags::Dma32{ZoneId::Dma32, 1u << 5};
inline constexpr AllocFlags AllocFlags::NoIo{1u << 6};
inline constexpr AllocFlags AllocFlags::Zero{1u << 7};
inline constexpr AllocFlags AllocFlags::NoWarn{1u << 8};
inline constexpr AllocFlags AllocFlags::VFallback{1u << 9};
inline constexpr AllocFlags AllocFlags::Movable{1u << 10};

/// Blocks of the orders of which each CPU has a stack (mm/page_stacks.hpp): 0, 1, 2, 3 and 9.
template <u32 kOrder>
[[nodiscard]] Result<Page*> take_block_of(AllocFlags flags, LedgerRow row);

/// One page, with one reference. The choices are inlined and cost nothing where flags, order and owner are constants.
[[nodiscard]] Result<Page*> take_cleared_page(AllocFlags flags, LedgerRow row);
[[nodiscard, gnu::cold]] Result<Page*> take_block_slowly(AllocFlags flags, Order order, Owner owner);
[[nodiscard, gnu::always_inline]] inline Result<Page*> alloc_page(AllocFlags flags, Owner owner = Owner::Kernel) {
  const LedgerRow row{flags.zone(), owner};
  if (flags.has(AllocFlags::Zero)) return take_cleared_page(flags, row);
  if (const u32 number = row.value(); !__builtin_constant_p(number)) return take_block_of<0>(flags, row);
  if (Page* page = PageFast::pop<0>(row)) return page;
  return take_block_slowly(flags, Order{0}, owner);
}

/// 2^order contiguous pages, as their first page, with one reference.
[[nodiscard]] Result<Page*> take_block(AllocFlags flags, Order order, Owner owner);
[[nodiscard]] Result<Page*> take_cleared_block(AllocFlags flags, Order order, Owner owner);
/// Of order 1 or more, contiguous in addresses at least.
[[nodiscard]] Result<Page*> take_any_block(AllocFlags flags, Order order, Owner owner);
[[nodiscard, gnu::always_inline]] inline Result<Page*> alloc_pages(AllocFlags flags, Order order,
                                                                   Owner owner = Owner::Kernel) {
  if (order == Order{0}) return alloc_page(flags, owner);
  if (flags.has(AllocFlags::VFallback)) return take_any_block(flags, order, owner);
  if (flags.has(AllocFlags::Zero)) return take_cleared_block(flags, order, owner);
  if (const u32 number = order.value(); __builtin_constant_p(number)) {
    const LedgerRow row{flags.zone(), owner};
    if (order == Order{1}) return take_block_of<1>(flags, row);
    if (order == Order{2}) return take_block_of<2>(flags, row);
    if (order == Order{3}) return take_block_of<3>(flags, row);
    if (order == Order{9}) return take_block_of<9>(flags, row);
  }
  return take_block(flags, order, owner);
}

/// One given frame, if it is free: for tests that must write to the last page of memory, and for people at the console.
/// NotFound if there is no such RAM, Busy if it is not free.
[[nodiscard]] Result<Page*> alloc_page_at(Pfn pfn, Owner owner = Owner::Kernel);

/// Gives a block back; `order` must be the one it was allocated with, and nobody else may hold a reference.
template <u32 kOrder>
void free_block_of(Page* page);
void free_block(Page* page, Order order);
[[gnu::cold]] void free_page_slowly(Page* page);
[[gnu::always_inline]] inline void free_page(Page* page) {
  if (!PageFast::push<0>(page)) [[unlikely]]
    free_page_slowly(page);
}
[[gnu::always_inline]] inline void free_pages(Page* page, Order order) {
  if (const u32 number = order.value(); __builtin_constant_p(number)) {
    if (order == Order{0}) return free_page(page);
    if (order == Order{1}) return free_block_of<1>(page);
    if (order == Order{2}) return free_block_of<2>(page);
    if (order == Order{3}) return free_block_of<3>(page);
    if (order == Order{9}) return free_block_of<9>(page);
  }
  free_block(page, order);
}

/// Drops a reference and frees the block with the last one.
void put_page(Page* page);

/// A single page without a word to anybody, not even to the count of failures; nullptr if there is none. For those who
/// have another way, or who fail as a whole.
[[nodiscard]] Page* take_page_quietly(AllocFlags flags, Owner owner);

/// A block, likewise, and nobody is asked to give anything back for it: for those whom a smaller one serves as well.
[[nodiscard]] Page* take_block_quietly(AllocFlags flags, Order order, Owner owner);

/// The same as addresses. Precondition: flags name no zone above NORMAL (asserted).
[[nodiscard]] Result<VirtAddr> __get_free_pages(AllocFlags flags, Order order, Owner owner = Owner::Kernel);
[[nodiscard]] Result<VirtAddr> get_zeroed_page(AllocFlags flags, Owner owner = Owner::Kernel);
void free_pages_at(VirtAddr address, Order order);

/// Why free_pages() would panic; nullptr if the free is legal. For commands, which must not crash on a typed number.
const char* free_complaint(const Page* page, Order order);

/// Gives this CPU's stacks back to the buddies, so that blocks can merge. Does nothing in an interrupt that came while
/// the stacks were being used.
void drain_local_pages();

/// Requests that could not be met since boot.
u32 allocation_failures();

}  // namespace paean
