// Pages of one space on their way to the swap and back.
//
// The clock and the swap's readers work on spaces that need not be current, and whose layout lock they do not hold on
// the way out: tables stay while `entries_` is held, and what the entry must become needs no area.
#include "mm/user_swap.hpp"

#include <algorithm>

#include "mm/lending.hpp"

namespace paean {

using namespace arch::pte_bits;

namespace {
constexpr u32 kReadTogether = 16;
static_assert(kReadTogether <= SwapStore::kMostTogether);
}  // namespace

void OldPages::add(VirtAddr va, arch::PteValue value, Page* page) {
  at[count] = va;
  seen[count] = value;
  pages[count++] = page;
}

void UserSpace::choose_in_table(VirtAddr start, VirtAddr end, ZoneId highest, OldPages& old) {
  const SpinGuard<NoIrq> guard{entries_};
  const TableView view{tables_, start};
  for (VirtAddr va = start; view && va < end && !old.is_full(); va += kPageSize) {
    clock_at_ = va + kPageSize;
    if (view[va].own_low() == 0) continue;
    const arch::PteValue value = view[va].load();
    if (is_swap_entry(value)) continue;
    Page* page = page_of(value);
    if (!is_anonymous(page) || zone_of(page_to_pfn(page)) > highest) continue;
    if (value.has(kAccessed)) {
      (void)change_entry(view[va], [](arch::PteValue now) { return now.without(kAccessed); });
      continue;
    }
    const arch::PteValue before = change_entry(view[va], [](arch::PteValue now) { return now.without(kWritable); });
    if (before.has(kAccessed)) continue;  // just now
    page->get();
    old.add(va, before.without(kWritable), page);
  }
}

/// Goes on where the last look ended. False at the end of the space; the next one begins anew.
bool UserSpace::choose_old(ZoneId highest, OldPages& old) {
  while (clock_at_ < user_end()) {
    if (old.is_full()) return true;
    const VirtAddr start = clock_at_, end = end_of_table(start, user_end());
    choose_in_table(start, end, highest, old);
    if (!old.is_full()) clock_at_ = end;
  }
  clock_at_ = kLowestUser;
  return false;
}

/// The entry takes the slot, if nobody has touched the page since it was chosen.
bool UserSpace::give_up(const OldPages& old, u32 i, PageGather& gather) {
  const SpinGuard<NoIrq> guard{entries_};
  const TableView view{tables_, old.at[i]};
  if (!view) return false;
  arch::PteValue now = old.seen[i];
  if (!view[old.at[i]].compare_exchange(now, old.gone[i])) return false;
  --anonymous_;
  ++swapped_;
  if (is_lent(old.pages[i])) note_unmapped(old.pages[i], *this, old.at[i]);
  gather.add(old.at[i], old.pages[i]);
  return true;
}

/// Pages whose entries name the swap now.
u32 UserSpace::swap_out(OldPages& old) {
  if (old.count == 0) return 0;
  {
    PageGather stores{tables_.tlb()};  // none by an old translation while the page is being written
    for (u32 i = 0; i < old.count; ++i) stores.note_changed(old.at[i]);
  }
  for (u32 done = 0; done < old.count;) {
    const SwapRun run = take_swap_slots(old.count - done);
    if (run.slots == 0) break;
    const bool written = write_swap_slots(run, std::span{old.pages}.subspan(done, run.slots)).has_value();
    for (u32 i = 0; i < run.slots; ++i, ++done) {
      old.gone[done] = run.entry(i).value();
      if (written)
        old.written |= 1u << done;
      else
        release_swap_slot(run.entry(i));
    }
  }
  u32 gone = 0;
  {
    PageGather gather{tables_.tlb()};
    for (u32 i = 0; i < old.count; ++i) {
      if ((old.written >> i & 1) == 0) continue;
      if (give_up(old, i, gather))
        ++gone;
      else
        release_swap_slot(SwapEntry{old.gone[i]});
    }
  }
  for (u32 i = 0; i < old.count; ++i) put_user_page(old.pages[i]);
  return gone;
}

void UserSpace::forget_slot(arch::PteValue entry) {
  --swapped_;
  release_swap_slot(SwapEntry{entry});
}

bool UserSpace::has_entry(VirtAddr page, arch::PteValue value) {
  const SpinGuard<NoIrq> guard{entries_};
  const TableView view{tables_, page};
  return view && view[page].load() == value;
}

/// Pages that a fault there reads: twice as many as last time for who comes where that ended, one for others.
u32 UserSpace::swap_window(VirtAddr page) {
  const bool goes_on = VirtAddr{swap_next_.load(std::memory_order_relaxed)} == page;
  const u32 window = goes_on ? std::min(2 * swap_window_.load(std::memory_order_relaxed), kReadTogether) : 1;
  swap_window_.store(window, std::memory_order_relaxed);
  return window;
}

/// From `page` on, so many entries name neighbouring slots, `seen` and those behind it; they are held. Without the hold
/// a page could come back, be changed and go again, into the same slot, while we read.
u32 UserSpace::hold_slots(VirtAddr page, VirtAddr end, arch::PteValue seen, u32 most) {
  const SwapEntry first{seen};
  const SpinGuard<NoIrq> guard{entries_};
  const TableView view{tables_, page};
  u32 held = 0;
  for (VirtAddr va = page; view && held < most && va < end; va += kPageSize, ++held) {
    const arch::PteValue value = view[va].load();
    if (!is_swap_entry(value)) break;
    const SwapEntry entry{value};
    if (entry.area() != first.area() || entry.slot() != first.slot() + held) break;
    hold_swap_slot(entry);
  }
  return held;
}

/// Those whose entries are still what they were. The others are left in `pages`.
void UserSpace::enter_read(const Area& area, VirtAddr page, arch::PteValue seen, std::span<Page*> pages) {
  const Store store = has(area.access, UserAccess::Write) ? Store::Works : Store::Faults;
  const SwapEntry first{seen};
  const SpinGuard<NoIrq> guard{entries_};
  const TableView view{tables_, page};
  for (u32 i = 0; view && i < pages.size(); ++i) {
    const VirtAddr va = page + i * kPageSize;
    const arch::PteValue entry = SwapEntry{first.area(), first.slot() + i}.value();
    if (view[va].load() != entry) continue;
    const arch::PteValue leaf = user_leaf(pages[i], area.access, store);
    (void)view[va].exchange(i == 0 ? leaf : leaf.without(kAccessed));  // nobody has asked for the others yet
    ++anonymous_;
    if (is_lent(pages[i])) note_mapped(pages[i], *this, va);
    forget_slot(entry);
    pages[i] = nullptr;
  }
}

/// For a fault, and for whoever empties an area: the layout lock is held for reading.
FaultResult UserSpace::swap_in(const Area& area, VirtAddr page, arch::PteValue seen, u32 window) {
  constexpr AllocFlags kFlags = AllocFlags::HighUser | AllocFlags::Movable;
  const Result<Page*> fresh = alloc_page(kFlags, Owner::User);
  if (!fresh) return FaultResult::OutOfMemory;
  Page* pages[kReadTogether]{*fresh};
  u32 count = 1;
  for (; count < window; ++count) {
    pages[count] = take_block_quietly(kFlags, Order{0}, Owner::User);
    if (pages[count] == nullptr) break;
  }
  const SwapEntry first{seen};
  const u32 held = hold_slots(page, end_of_table(page, area.end), seen, count);
  u32 read = held;
  Result<> result{};
  if (held != 0) result = read_swap_slots(first, {pages, read});
  if (!result && held > 1) result = read_swap_slots(first, {pages, read = 1});  // the others may be to blame
  if (result) enter_read(area, page, seen, {pages, read});
  for (u32 i = 0; i < held; ++i) release_swap_slot(SwapEntry{first.area(), first.slot() + i});
  for (u32 i = 0; i < count; ++i) {
    if (pages[i] != nullptr) free_page(pages[i]);
  }
  swap_next_.store((page - VirtAddr{}) + std::max(read, 1u) * kPageSize, std::memory_order_relaxed);
  return result || !has_entry(page, seen) ? FaultResult::Handled : FaultResult::BusError;
}

Result<> UserSpace::swap_in_table(const Area& area, VirtAddr start, VirtAddr end, u32 swap_area) {
  for (VirtAddr va = start; va < end; va += kPageSize) {
    arch::PteValue value;
    {
      const SpinGuard<NoIrq> guard{entries_};
      const TableView view{tables_, va};
      if (!view) return {};
      value = view[va].load();
    }
    if (!is_swap_entry(value) || SwapEntry{value}.area() != swap_area) continue;
    switch (swap_in(area, va, value, kReadTogether)) {
      case FaultResult::BusError: return std::unexpected(Error::Io);
      case FaultResult::OutOfMemory: return std::unexpected(Error::OutOfMemory);
      default: break;
    }
  }
  return {};
}

Result<> UserSpace::swap_in_all(u32 swap_area) {
  const ReadGuard guard{layout_};
  for (Area* area = areas_.first(); area != nullptr; area = areas_.next(*area)) {
    for (VirtAddr at = area->start; at < area->end;) {
      const VirtAddr stop = end_of_table(at, area->end);
      TRY(swap_in_table(*area, at, stop, swap_area));
      at = stop;
    }
  }
  return {};
}

Result<> swap_in_everything(u32 area, bool (*is_empty)(u32 area)) {
  constexpr u32 kMostPasses = 20;  // a fork carries entries from behind us to where we have been
  for (u32 pass = 0; !is_empty(area); ++pass) {
    if (pass == kMostPasses) return std::unexpected(Error::Busy);
    for (UserSpace* space = UserSpaceList::pin_first(); space != nullptr; space = UserSpaceList::pin_next(space)) {
      const Result<> done = space->swap_in_all(area);
      if (done) continue;
      UserSpaceList::unpin(*space);
      return done;
    }
  }
  return {};
}

}  // namespace paean
