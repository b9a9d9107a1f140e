// Page faults: what is missing is brought, what is shared is copied.
//
//   entry       access   private, anonymous   private, of a file        shared
//   zero        read     zeroed page, ours    the file's, read-only     the file's, read-only
//   zero        write    zeroed page, ours    copy of the file's        the file's, dirty
//   in the swap any      read into a page, ours    the same                 -
//   read-only   write    last owner? reuse it : copy                    the file's, dirty
//   otherwise            nothing to do: another thread was here, or the CPU had an old translation
//
// The layout lock is held for reading, so areas stay; entries may change whenever the spin lock is not held, so whoever
// had to let it go looks again.
#include "arch/fixmap.hpp"
#include "mm/lending.hpp"
#include "mm/page_cache_internal.hpp"
#include "mm/user_gather.hpp"

namespace paean {

namespace {

constexpr AllocFlags kUserPage = AllocFlags::HighUser | AllocFlags::Movable;

/// Pages of a file that one fault may bring. Aligned blocks of them never cross a page table.
constexpr u32 kAround = 16 * kPageSize;
static_assert(kLargePageSize % kAround == 0);

FaultResult result_of(Error error) {
  return error == Error::OutOfMemory ? FaultResult::OutOfMemory : FaultResult::BusError;
}

bool allows(const Area& area, UserAccess access) {
  if (has(access, UserAccess::Write) && !has(area.access, UserAccess::Write)) return false;
  if (has(access, UserAccess::Execute) && !has(area.access, UserAccess::Execute)) return false;
  return area.access != UserAccess::None;
}

Store stores_in(const Area& area) { return has(area.access, UserAccess::Write) ? Store::Works : Store::Faults; }

/// Before a program writes to a page of a file: there will be a place for it, and write-back knows.
Result<> prepare_to_write(AddressSpace& contents, Folio& folio, u32 index) {
  TRY(contents.store().prepare_write(contents, u64{index} << kPageShift, kPageSize));
  if (!CacheOps::set_dirty(contents, folio)) return std::unexpected(Error::NotFound);
  return {};
}

}  // namespace

/// False if somebody else has filled the entry meanwhile. There is a table.
bool UserSpace::enter(VirtAddr va, arch::PteValue value, u32& counter, LentSpares* spares) {
  const SpinGuard<NoIrq> guard{entries_};
  TableView view{tables_, va};
  if (view[va].own_low() != 0) return false;
  view[va].set(value);
  view.note_filled();
  ++counter;
  if (is_lent(page_of(value))) [[unlikely]]
    note_mapped(page_of(value), *this, va, spares);
  return true;
}

FaultResult UserSpace::fill_anonymous(const Area& area, VirtAddr page) {
  const Result<Page*> fresh = alloc_page(kUserPage | AllocFlags::Zero, Owner::User);
  if (!fresh) return FaultResult::OutOfMemory;
  if (!enter(page, user_leaf(*fresh, area.access, stores_in(area)), anonymous_)) free_page(*fresh);
  return FaultResult::Handled;
}

FaultResult UserSpace::fill_from_file(const Area& area, VirtAddr page, UserAccess access) {
  AddressSpace& contents = area.file->contents();
  const u32 index = area.page_at(page);
  const Result<FolioRef> read = contents.read_page(index, nullptr);
  if (!read) return result_of(read.error());
  Folio& folio = **read;
  Page* cached = folio.page_at(index);
  const bool writes = has(access, UserAccess::Write);
  if (writes && !area.is_shared()) {
    const Result<Page*> copy = alloc_page(kUserPage, Owner::User);
    if (!copy) return FaultResult::OutOfMemory;
    copy_highpage(*copy, cached);
    if (enter(page, user_leaf(*copy, area.access, Store::Works), anonymous_))
      copies_.fetch_add(1, std::memory_order_relaxed);
    else
      free_page(*copy);
    return FaultResult::Handled;
  }
  if (writes) {
    if (const Result<> ready = prepare_to_write(contents, folio, index); !ready) return result_of(ready.error());
  }
  arch::PteValue value = user_leaf(cached, area.access, Store::Faults);
  if (writes) value = value.with(arch::pte_bits::kWritable | arch::pte_bits::kDirty);
  LentSpares spares;
  if (is_lent(cached)) {
    if (const Result<> taken = spares.take(1); !taken) return result_of(taken.error());
  }
  get_user_page(cached);
  if (!enter(page, value, file_, &spares)) put_user_page(cached);
  if (!writes) map_around(area, page);
  return FaultResult::Handled;
}

/// The neighbours of a page that was read, as far as they are in the cache: whoever reads on has no fault for them.
/// Not those that are lent, which would need memory for their records.
void UserSpace::map_around(const Area& area, VirtAddr page) {
  AddressSpace& contents = area.file->contents();
  const u32 file_pages = pages_for(contents.size()).count();
  const VirtAddr block = page.align_down(kAround);
  const VirtAddr end = block + kAround < area.end ? block + kAround : area.end;
  const SpinGuard<NoIrq> guard{entries_};
  TableView view{tables_, block};
  if (!view) return;
  u32 filled = 0;
  for (VirtAddr va = block < area.start ? area.start : block; va < end;) {
    const u32 index = area.page_at(va);
    const FolioRef folio = index < file_pages ? contents.find_page(index) : FolioRef{};
    if (!folio || !folio->has(FolioFlag::UpToDate) || is_lent(folio->page())) {
      va += kPageSize;
      continue;
    }
    const u32 behind = folio->index() + folio->pages(), last = behind < file_pages ? behind : file_pages;
    u32 used = 0;
    for (u32 at = index; at < last && va < end; ++at, va += kPageSize) {
      if (view[va].own_low() != 0) continue;
      view[va].set(user_leaf(folio->page_at(at), area.access, Store::Faults));
      ++used;
    }
    if (used != 0) folio->page()->get_many(used);
    filled += used;
  }
  view.note_filled(filled);
  file_ += filled;
}

FaultResult UserSpace::fill(const Area& area, VirtAddr page, UserAccess access) {
  return area.file == nullptr ? fill_anonymous(area, page) : fill_from_file(area, page, access);
}

/// Does the entry still show what was seen there?
bool UserSpace::is_entry(VirtAddr page, arch::PteValue seen) {
  const SpinGuard<NoIrq> guard{entries_};
  const TableView view{tables_, page};
  return view && view[page].load().address() == seen.address();
}

FaultResult UserSpace::write_shared(const Area& area, VirtAddr page, arch::PteValue seen) {
  AddressSpace& contents = area.file->contents();
  const u32 index = area.page_at(page);
  const Result<FolioRef> read = contents.read_page(index, nullptr);
  if (!read) return result_of(read.error());
  if ((*read)->page_at(index) != page_of(seen)) {
    // The page was moved before we held it, and the entry dropped; or the file was truncated and has grown again since
    // it was mapped, and what is mapped is no part of it.
    return is_entry(page, seen) ? FaultResult::BusError : FaultResult::Handled;
  }
  if (const Result<> ready = prepare_to_write(contents, **read, index); !ready) return result_of(ready.error());
  const SpinGuard<NoIrq> guard{entries_};
  const TableView view{tables_, page};
  if (!view) return FaultResult::Handled;
  arch::PteValue now = view[page].load();
  while (now.present() && now.address() == seen.address()) {
    if (view[page].compare_exchange(now, now.with(arch::pte_bits::kWritable | arch::pte_bits::kDirty))) break;
  }
  arch::invalidate_page(page);
  return FaultResult::Handled;
}

FaultResult UserSpace::write_private(const Area& area, VirtAddr page, arch::PteValue seen) {
  Page* old = page_of(seen);
  {
    const SpinGuard<NoIrq> guard{entries_};
    const TableView view{tables_, page};
    if (!view || view[page].load().address() != seen.address()) return FaultResult::Handled;
    if (is_anonymous(old) && old->references() == 1) {
      // Others may fault once more for the entry that they remember.
      (void)view[page].exchange(user_leaf(old, area.access, Store::Works));
      arch::invalidate_page(page);
      reused_.fetch_add(1, std::memory_order_relaxed);
      return FaultResult::Handled;
    }
    get_user_page(old);
  }
  PageGather gather{tables_.tlb()};
  const Result<Page*> copy = alloc_page(kUserPage, Owner::User);
  if (!copy) {
    put_user_page(old);
    return FaultResult::OutOfMemory;
  }
  copy_highpage(*copy, old);
  bool entered = false;
  {
    const SpinGuard<NoIrq> guard{entries_};
    const TableView view{tables_, page};
    arch::PteValue now = view ? view[page].load() : arch::PteValue{};
    if (now.present() && now.address() == seen.address() && !now.has(arch::pte_bits::kWritable)) {
      (void)view[page].exchange(user_leaf(*copy, area.access, Store::Works));
      if (!is_anonymous(old)) --file_, ++anonymous_;
      if (is_lent(old)) note_unmapped(old, *this, page);
      if (is_lent(*copy)) note_mapped(*copy, *this, page);
      gather.add(page, old);
      entered = true;
    }
  }
  if (entered)
    copies_.fetch_add(1, std::memory_order_relaxed);
  else
    free_page(*copy);
  put_user_page(old);  // ours; the entry's goes with the gather
  return FaultResult::Handled;
}

FaultResult UserSpace::fault_in(const Area& area, VirtAddr page, UserAccess access) {
  if (!allows(area, access)) return FaultResult::NotAllowed;
  arch::PteValue seen;
  bool has_table = false;
  {
    const SpinGuard<NoIrq> guard{entries_};
    const TableView view{tables_, page};
    has_table = static_cast<bool>(view);
    if (view && view[page].own_low() != 0) seen = view[page].load();
  }
  // Tables go only when areas do, so it stays while the layout lock is held.
  if (!has_table && !tables_.make_table(page, entries_)) return FaultResult::OutOfMemory;
  if (seen == arch::PteValue{}) return fill(area, page, access);
  if (is_swap_entry(seen)) return swap_in(area, page, seen, swap_window(page));
  if (has(access, UserAccess::Write) && !seen.has(arch::pte_bits::kWritable))
    return area.is_shared() ? write_shared(area, page, seen) : write_private(area, page, seen);
  arch::invalidate_page(page);
  return FaultResult::Handled;
}

FaultResult UserSpace::handle_fault(VirtAddr address, UserAccess access) {
  if (address < kLowestUser || address >= user_end()) return FaultResult::NotMapped;
  const VirtAddr page = address.align_down(kPageSize);
  faults_.fetch_add(1, std::memory_order_relaxed);
  for (;;) {
    {
      const ReadGuard guard{layout_};
      if (const Area* area = areas_.at(page)) return fault_in(*area, page, access);
      const Area* above = areas_.at_or_above(page);
      if (above == nullptr || !above->grows()) return FaultResult::NotMapped;
    }
    if (!grow_stack(page)) return FaultResult::NotMapped;
  }
}

/// The page at an address for who reads it, with a reference for the caller, after whatever faults that takes.
Result<Page*> UserSpace::hold_page(VirtAddr page) {
  for (;;) {
    if (handle_fault(page, UserAccess::Read) != FaultResult::Handled) return std::unexpected(Error::BadAddress);
    const SpinGuard<NoIrq> guard{entries_};
    const TableView view{tables_, page};
    const arch::PteValue now = view ? view[page].load() : arch::PteValue{};
    if (!now.present()) continue;
    get_user_page(page_of(now));
    return page_of(now);
  }
}

/// Within one page, while its entry lets stores through and keeps doing so. A reference would not do: entries become
/// read-only for fork, the swap and movers, and then the program's next store goes to a copy, and a late one of ours to
/// a page that the space does not show any more.
Result<> UserSpace::store(VirtAddr to, std::span<const u8> from) {
  const VirtAddr page = to.align_down(kPageSize);
  for (;;) {
    if (handle_fault(page, UserAccess::Write) != FaultResult::Handled) return std::unexpected(Error::BadAddress);
    const SpinGuard<NoIrq> guard{entries_};
    const TableView view{tables_, page};
    const arch::PteValue now = view ? view[page].load() : arch::PteValue{};
    if (!now.present() || !now.has(arch::pte_bits::kWritable)) continue;
    copy_to_page(page_of(now), to.page_offset(), from);
    return {};
  }
}

/// Of one page table, up to the first page that is not there.
u32 UserSpace::hold_present(VirtAddr from, std::span<Page*> pages) {
  const SpinGuard<NoIrq> guard{entries_};
  const TableView view{tables_, from};
  const u32 most = (end_of_table(from, user_end()) - from) >> kPageShift;
  u32 held = 0;
  for (; view && held < most && held < pages.size(); ++held, from += kPageSize) {
    const arch::PteValue value = view[from].own_value();
    if (!value.present()) break;
    get_user_page(pages[held] = page_of(value));
  }
  return held;
}

u32 UserSpace::hold_pages(VirtAddr from, std::span<Page*> pages) {
  u32 held = 0;
  while (held < pages.size()) {
    const VirtAddr next = from + held * kPageSize;
    if (next >= user_end()) break;
    const u32 more = hold_present(next, pages.subspan(held));
    held += more;
    if (more == 0 && handle_fault(next, UserAccess::Read) != FaultResult::Handled) break;
  }
  return held;
}

Result<> UserSpace::write(VirtAddr to, std::span<const u8> from) {
  if (!is_user_range(to, from.size())) return std::unexpected(Error::BadAddress);
  while (!from.empty()) {
    const u32 room = kPageSize - to.page_offset();
    const u32 part = from.size() < room ? from.size() : room;
    TRY(store(to, from.first(part)));
    from = from.subspan(part);
    to += part;
  }
  return {};
}

Result<> UserSpace::read(std::span<u8> into, VirtAddr from) {
  if (!is_user_range(from, into.size())) return std::unexpected(Error::BadAddress);
  while (!into.empty()) {
    const u32 room = kPageSize - from.page_offset();
    const u32 part = into.size() < room ? into.size() : room;
    Page* page = TRY(hold_page(from.align_down(kPageSize)));
    copy_from_page(into.first(part), page, from.page_offset());
    put_user_page(page);
    into = into.subspan(part);
    from += part;
  }
  return {};
}

}  // namespace paean
