// Taking pages out of a user space, and what their entries look like.
#include "arch/cpu.hpp"
#include "mm/lending.hpp"
#include "mm/page_cache_internal.hpp"
#include "mm/user_gather.hpp"

namespace paean {

using namespace arch::pte_bits;

arch::PteValue user_leaf(const Page* page, UserAccess access, Store store) {
  u64 bits = to_phys(page_to_pfn(page)).raw() | kPresent | kUser | kAccessed;
  if (store == Store::Works) bits |= kWritable | kDirty;
  return with_access(arch::PteValue{bits}, access);
}

arch::PteValue with_access(arch::PteValue old, UserAccess access) {
  u64 bits = old.raw() & ~(kPresent | kHiddenEntry | kNoExecute);
  bits |= access == UserAccess::None ? kHiddenEntry : kPresent;
  if (!has(access, UserAccess::Write)) bits &= ~kWritable;
  if (!has(access, UserAccess::Execute) && arch::cpu_features().nx) bits |= kNoExecute;
  return arch::PteValue{bits};
}

arch::PteValue with_page(arch::PteValue old, const Page* page) {
  return arch::PteValue{(old.raw() & ~kAddress) | to_phys(page_to_pfn(page)).raw()};
}

void get_user_page(Page* page) { (is_anonymous(page) ? page : block_head(page))->get(); }
void put_file_page(Page* page) { put_page(block_head(page)); }

void mark_dirty(AddressSpace& contents, u32 index, const Page* page) {
  const FolioRef folio = contents.find_page(index);
  if (folio && folio->page_at(index) == page) (void)CacheOps::set_dirty(contents, *folio);
}

void PageGather::mark_stores() {
  for (u32 i = 0; i < count_; ++i) {
    if ((dirty_mask_ >> i & 1) != 0) mark_dirty(*contents_, dirty_[i], pages_[i]);
  }
  dirty_mask_ = 0;
}

void PageGather::flush() {
  if (tables_)
    arch::flush_user_tlb(tlb_);
  else if (changed_)
    arch::flush_user_range(tlb_, low_, ((high_ - low_) >> kPageShift) + 1);
  if (dirty_mask_ != 0) mark_stores();
  for (u32 i = 0; i < count_; ++i) put_user_page(pages_[i]);
  count_ = 0;
  changed_ = tables_ = false;
}

/// Whatever is no page that the gather takes as it is: a slot of the swap, a lent page, a page that was stored to.
void UserSpace::forget_unusual(const Area& area, VirtAddr va, arch::PteValue old, PageGather& gather) {
  if (is_swap_entry(old)) return forget_slot(old);
  Page* page = page_of(old);
  if (is_lent(page)) note_unmapped(page, *this, va);
  if (area.is_shared() && old.has(kDirty))
    gather.add_dirty(page, area.file->contents(), area.page_at(va));
  else
    gather.add(page);
}

/// Where nobody comes back to: takes out pages that others have too, up to the first that they have not. In the child
/// of a fork that wrote to nothing, that is all of them. Up to where it came.
arch::Pte* UserSpace::drop_shared_pages(TableView& view, arch::Pte* entry, const arch::Pte* behind) {
  u32 dropped = 0;
  for (; entry != behind; ++entry) {
    const u32 low = entry->own_low();
    if (low == 0) continue;
    if ((low & static_cast<u32>(kPresent)) == 0) break;
    Page* page = page_of(low, entry->own_high());
    if (is_lent(page) || !page->put_shared(Owner::User)) break;
    entry->clear();
    ++dropped;
  }
  anonymous_ -= dropped;
  view.note_emptied(dropped);
  return entry;
}

/// Counts are kept for the whole table, and so is the range that has changed. Up to where it came: the gather may be
/// full.
VirtAddr UserSpace::zap_table(const Area& area, VirtAddr start, VirtAddr end, PageGather& gather) {
  const SpinGuard<NoIrq> guard{entries_};
  TableView view{tables_, start};
  if (!view) return end;
  arch::Pte *entry = &view[start], *const behind = entry + ((end - start) >> kPageShift);
  const arch::Pte* const entries = entry;
  if (!gather.has_users()) entry = drop_shared_pages(view, entry, behind);
  const auto va_of = [&](const arch::Pte* at) { return start + static_cast<u32>(at - entries) * kPageSize; };
  const u32 usual = static_cast<u32>(kPresent), looked_at = usual | (area.is_shared() ? static_cast<u32>(kDirty) : 0);
  u32 anonymous = 0, file = 0, swapped = 0;
  while (entry != behind && entry->own_low() == 0) ++entry;
  const arch::Pte *const first = entry, *last = entry;
  for (; entry != behind; ++entry) {
    if (entry->own_low() == 0) continue;  // an entry in use has flags there
    if (gather.is_full()) break;
    const arch::PteValue old = entry->take();
    const u32 low = static_cast<u32>(old.raw()), high = static_cast<u32>(old.raw() >> 32);
    last = entry;
    if ((low & looked_at) != usual || is_lent(page_of(low, high))) [[unlikely]] {
      forget_unusual(area, va_of(entry), old, gather);
      if (is_swap_entry(old)) {
        ++swapped;
        continue;
      }
    } else {
      gather.add(page_of(low, high));
    }
    is_anonymous(page_of(low, high)) ? ++anonymous : ++file;
  }
  if (anonymous + file + swapped != 0) {
    gather.note_changed(va_of(first));
    gather.note_changed(va_of(last));
    anonymous_ -= anonymous;
    file_ -= file;
    view.note_emptied(anonymous + file + swapped);
  }
  if (entry == behind && view.is_empty()) gather.add_table(view.detach());
  return va_of(entry);
}

void UserSpace::zap(const Area& area, VirtAddr start, VirtAddr end, PageGather& gather) {
  while (start < end) {
    start = zap_table(area, start, end_of_table(start, end), gather);
    if (gather.is_full()) gather.flush();
  }
  if (area.is_shared()) gather.flush();
}

void UserSpace::change_access(const Area& area, VirtAddr start, VirtAddr end, PageGather& gather) {
  while (start < end) {
    const VirtAddr stop = end_of_table(start, end);
    const SpinGuard<NoIrq> guard{entries_};
    const TableView view{tables_, start};
    for (; view && start < stop; start += kPageSize) {
      if (view[start].own_low() == 0) continue;
      if (is_swap_entry(view[start].load())) continue;  // the fault that brings it back looks at the area
      (void)change_entry(view[start], [&](arch::PteValue old) { return with_access(old, area.access); });
      gather.note_changed(start);
    }
    start = stop;
  }
}

/// What was stored by now becomes dirty in the cache. Entries stay as they are, so stores that follow cost no fault;
/// the next call, or the end of the mapping, marks them.
void UserSpace::mark_stores(const Area& area, VirtAddr start, VirtAddr end) {
  while (start < end) {
    const VirtAddr stop = end_of_table(start, end);
    const SpinGuard<NoIrq> guard{entries_};
    const TableView view{tables_, start};
    for (; view && start < stop; start += kPageSize) {
      const arch::PteValue value = view[start].load();
      if (value.has(kDirty)) mark_dirty(area.file->contents(), area.page_at(start), page_of(value));
    }
    start = stop;
  }
}

}  // namespace paean
