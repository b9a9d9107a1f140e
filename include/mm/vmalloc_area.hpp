// Between the files of vmalloc: what describes an area, where descriptors come from, and its page-table entries.
//
//   entry of the page in front      entries of the pages                      entry of the guard page
//   | 0 : descriptor |              | frame, hidden (parked) or shown | ...   | of the next area: 0 : descriptor |
//
// An entry is one of four, told apart by its low half: 0 and 0: nothing; 0 and a descriptor: the page behind it begins
// a live area; not 0 without the present bit: hidden; with it: shown.
#pragma once

#include <atomic>

#include "kernel/spinlock.hpp"
#include "mm/highmem.hpp"
#include "mm/va_space.hpp"
#include "mm/vmalloc.hpp"

namespace paean {

/// Describes a block of the space. Lives in a page of the descriptor pool.
struct VmArea : VaBlock {
  void* data() const { return reinterpret_cast<void*>(start().raw()); }

  std::atomic<VmState> state{VmState::Free};
  VmKind kind{};
  bool has_name = false;
  u8 order = 0;                    // of a virtual block
  u32 used = 0;                    // pages without the guard
  const void* owner = nullptr;     // a name or an address in the kernel's text
  VmArea* next = nullptr;          // in a VmAreaStack
  std::atomic<u32> references{0};  // to a virtual block
  arch::Pte* entries = nullptr;    // of its pages and the one in front, if one table has them all; otherwise nullptr
};

/// Last in, first out.
class VmAreaStack {
 public:
  bool empty() const { return first_ == nullptr; }
  u32 count() const { return count_; }
  void push(VmArea& area) {
    area.next = first_;
    first_ = &area;
    ++count_;
  }
  /// nullptr if it is empty.
  VmArea* pop() {
    VmArea* area = first_;
    if (area == nullptr) return nullptr;
    first_ = area->next;
    --count_;
    return area;
  }
  template <typename Fn>
  void for_each(Fn fn) const {
    for (const VmArea* area = first_; area != nullptr; area = area->next) fn(*area);
  }
  /// Asks one after the other, and no more after the first that is not.
  template <typename Fn>
  bool all_of(Fn fn) const {
    for (const VmArea* area = first_; area != nullptr; area = area->next) {
      if (!fn(*area)) return false;
    }
    return true;
  }
  /// Takes everything out of another one.
  void take_from(VmAreaStack& other) {
    while (VmArea* area = other.pop()) push(*area);
  }

 private:
  VmArea* first_ = nullptr;
  u32 count_ = 0;
};

// mm/vmalloc_space.cpp: addresses and descriptors. Any context.

/// Boot, once.
void init_vmalloc_space();
/// An area for so many pages and a guard page behind them. OutOfMemory.
Result<VmArea*> take_addresses(u32 pages, u32 align);
/// Nothing is mapped in them, and every CPU has flushed since something was. Empties the list.
void give_addresses(VmAreaStack& areas);
/// Frees pages of descriptors that are not needed; returns how many. Looks at every area if there is room for a page of
/// them: for whoever needs lowmem, not for who needs addresses.
u32 trim_descriptors();
struct VaSpaceCounts {
  u32 total, free, largest_free;  // pages
};
VaSpaceCounts vmalloc_space_counts();
/// Pages of the largest range: no area is larger, its guard included.
extern u32 vmalloc_largest_range;

// mm/vmalloc_errors.cpp

/// Panics, with what is known about the address. Does not say so to the compiler, which would then make a frame where
/// a jump is enough.
[[gnu::cold]] void vmalloc_misuse(const void* at, const char* what, const void* caller);
/// The block that describes an address, as it is at this moment; for reports.
std::optional<VmAreaInfo> describe_address(VirtAddr at);

/// The entry of an address in the space.
[[gnu::always_inline]] inline arch::Pte& vmalloc_entry(VirtAddr at) {
  return vmalloc_tables[at.raw() >> kLargePageShift]->entries[arch::pt_index(at)];
}
/// The frame in an entry that is shown or hidden.
[[gnu::always_inline]] inline Pfn frame_in(const arch::Pte& entry) {
  return Pfn{(entry.own_low() >> kPageShift) | (entry.own_high() << (32 - kPageShift))};
}
/// The bits of an entry but its frame and the present bit.
struct LeafBits {
  explicit LeafBits(arch::Protection protection) {
    const u64 bits = make_leaf(PhysAddr{0}, protection, arch::Caching::WriteBack).raw();
    low = static_cast<u32>(bits & ~arch::pte_bits::kPresent);
    high = static_cast<u32>(bits >> 32);
  }
  constexpr LeafBits() = default;
  u32 low = 0, high = 0;
};
extern LeafBits vmalloc_read_write;  // what nearly all areas have

/// Hidden, unless the bits are shown ones.
[[gnu::always_inline]] inline void write_entry(arch::Pte& entry, const Page* page, const LeafBits& leaf) {
  const u32 distance = word_distance(page);  // times 1024 is the frame's address
  entry.set(leaf.low | distance << (kPageShift - 2), leaf.high | distance >> (32 - (kPageShift - 2)));
}

/// fn(entry) for each page of an area, which has some, but its guard.
template <typename Fn>
[[gnu::always_inline]] inline void for_each_entry(const VmArea& area, Fn fn) {
  if (arch::Pte* entry = area.entries; entry != nullptr) [[likely]] {
    arch::Pte* const end = entry + area.used;
    do fn(*entry);
    while (++entry != end);
    return;
  }
  VirtAddr at = area.start();
  for (u32 left = area.used; left != 0;) {
    arch::Pte* entry = &vmalloc_entry(at);
    const u32 room = arch::kEntriesPerTable - arch::pt_index(at), here = left < room ? left : room;
    for (arch::Pte* const end = entry + here; entry != end; ++entry) fn(*entry);
    at += here * kPageSize;
    left -= here;
  }
}
/// The entry that names the area.
[[gnu::always_inline]] inline arch::Pte& descriptor_entry(const VmArea& area) {
  if (area.entries != nullptr) [[likely]]
    return area.entries[-1];
  return vmalloc_entry(area.start() - kPageSize);
}

/// Says whose area it is and makes it live.
[[gnu::always_inline]] inline void publish(VmArea& area, VmKind kind, const char* name, const void* caller) {
  area.kind = kind;
  area.has_name = name != nullptr;
  area.owner = name != nullptr ? name : caller;
  area.state.store(VmState::Live, std::memory_order_relaxed);
  descriptor_entry(area).set(0, reinterpret_cast<u32>(&area));
}

/// The area that was live at an address a moment ago; nullptr if none was.
[[gnu::always_inline]] inline VmArea* named_area_at(const void* at) {
  const VirtAddr address{reinterpret_cast<u32>(at)}, before = address - kPageSize;
  if (address.page_offset() != 0 || vmalloc_tables[before.raw() >> kLargePageShift] == nullptr) return nullptr;
  const arch::Pte& entry = vmalloc_entry(before);
  return entry.own_low() == 0 ? reinterpret_cast<VmArea*>(entry.own_high()) : nullptr;
}
/// The live area that begins at an address; nullptr if none does.
[[gnu::always_inline]] inline VmArea* live_area_at(const void* at) {
  VmArea* area = named_area_at(at);
  return area != nullptr && area->state.load(std::memory_order_relaxed) == VmState::Live ? area : nullptr;
}

/// Makes the live area of a kind that begins at `at` the caller's, to take it apart. Panics, in the end, and returns
/// nullptr for anything else; `what` and `caller` name who asked.
[[gnu::always_inline]] inline VmArea* claim_area(const void* at, VmKind kind, const char* what, const void* caller) {
  VmArea* area = named_area_at(at);
  VmState live = VmState::Live;
  // Of two that free it at once, one gets to the exchange second.
  if (area == nullptr || area->kind != kind || !area->state.compare_exchange_strong(live, VmState::Parked))
      [[unlikely]] {
    vmalloc_misuse(at, what, caller);
    return nullptr;
  }
  descriptor_entry(*area).clear();
  return area;
}

}  // namespace paean
