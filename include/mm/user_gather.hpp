// Between the files of a user space (mm/user_*.cpp): entries as values, and pages that wait for a flush.
#pragma once

#include "mm/lending.hpp"
#include "mm/swap_entry.hpp"
#include "mm/user_space.hpp"

namespace paean {

/// An entry that is not present but keeps its page: the area lets nobody in. The CPU ignores all other bits then.
inline constexpr u64 kHiddenEntry = 1ull << 9;

enum class Store : u8 { Faults, Works };
/// The entry for a page in an area. Accessed and dirty are set in advance, so that no page walk writes.
arch::PteValue user_leaf(const Page* page, UserAccess access, Store store);
/// The same entry after the area's access has changed. Stores that faulted before go on to fault: it may be shared.
arch::PteValue with_access(arch::PteValue old, UserAccess access);
/// The same entry for another page.
arch::PteValue with_page(arch::PteValue old, const Page* page);
/// Of an entry that has one: not zero, and not one of the swap.
inline Page* page_of(arch::PteValue value) {
  DASSERT(!is_swap_entry(value));
  return pfn_to_page(to_pfn(value.address()));
}
/// The same from an entry's halves, which cost fewer instructions in the loops over whole tables.
inline Page* page_of(u32 low, u32 high) {
  return pfn_to_page(Pfn{static_cast<u32>((u64{high} << 32 | low) >> kPageShift)});
}
/// A walker may set bits between look and change: they are not lost. What was there before.
template <typename Change>
arch::PteValue change_entry(arch::Pte& entry, Change change) {
  arch::PteValue old = entry.load();
  while (!entry.compare_exchange(old, change(old))) {}
  return old;
}
/// A page of this kernel's programs alone, not of a file.
inline bool is_anonymous(const Page* page) { return page->is_block_of(Owner::User); }
/// A reference of an entry for the page, whatever block it is in.
void get_user_page(Page* page);
void put_file_page(Page* page);
inline void put_user_page(Page* page) {
  if (!is_anonymous(page)) return put_file_page(page);
  if (page->put()) free_page(page);
}

/// New areas, before the locks are taken; OutOfMemory. Leftovers, and areas that were removed, afterwards.
Result<> take_areas(AreaSpares& spares, u32 count);
void give_areas(AreaSpares& spares);
/// Areas of one call, declared before its locks: files may end when they are given back.
class Spares {
 public:
  Spares() = default;
  ~Spares() {
    give_areas(list);
    give_areas(removed);
  }
  Spares(const Spares&) = delete;
  Spares& operator=(const Spares&) = delete;
  Result<> take(u32 count) { return take_areas(list, count); }
  AreaSpares list;     // new ones
  AreaSpares removed;  // were in the map, and have their files still
};

/// Stores through a mapping become dirty pages of the file's cache.
void mark_dirty(AddressSpace& contents, u32 index, const Page* page);

/// Pages and page tables whose entries are gone, until no CPU can reach them.
///
///   entry cleared --> add() --> flush(): every CPU with the space loaded has dropped it --> marked dirty --> freed
///
/// Marked after the flush, because until then a CPU may go on storing by its old translation.
///
/// When nobody will come back to the space, old translations are not followed any more. Then a page that others have
/// too need not wait, and is put back on the spot; the last holder frees it, as always after a flush of its own.
///
/// add() under the space's spin lock; flush() without it, when is_full() and at the end.
class PageGather {
 public:
  static constexpr u32 kMost = 64;
  enum class Users : u8 { Some, NoMore };
  explicit PageGather(arch::UserTlb& tlb, Users users = Users::Some) : tlb_(tlb), users_(users) {}
  ~PageGather() { flush(); }
  PageGather(const PageGather&) = delete;
  PageGather& operator=(const PageGather&) = delete;

  bool has_users() const { return users_ == Users::Some; }
  bool is_full() const { return count_ >= kMost - 1; }  // a page and its table
  /// The caller notes what has changed.
  void add(Page* page) { pages_[count_++] = page; }
  void add(VirtAddr va, Page* page) {
    note_changed(va);
    add(page);
  }
  /// A page of a shared file that was stored to. All of one flush are of one file.
  void add_dirty(Page* page, AddressSpace& contents, u32 index) {
    contents_ = &contents;
    dirty_[count_] = index;
    dirty_mask_ |= u64{1} << count_;
    add(page);
  }
  void add_table(Page* table) {
    tables_ = true;
    pages_[count_++] = table;
  }
  /// Nothing to free, but translations are old.
  void note_changed(VirtAddr va) {
    if (!changed_ || va < low_) low_ = va;
    if (!changed_ || va > high_) high_ = va;
    changed_ = true;
  }
  void flush();

 private:
  void mark_stores();

  arch::UserTlb& tlb_;
  Users users_;
  VirtAddr low_{}, high_{};
  u32 count_ = 0;
  bool changed_ = false, tables_ = false;
  AddressSpace* contents_ = nullptr;
  u64 dirty_mask_ = 0;
  u32 dirty_[kMost];  // indexes in the file, of those in the mask
  Page* pages_[kMost];
};

/// [start, end) in pieces that one PTE page covers.
inline VirtAddr end_of_table(VirtAddr start, VirtAddr end) {
  const VirtAddr next = start.align_down(kLargePageSize) + kLargePageSize;
  return next < end ? next : end;
}

}  // namespace paean
