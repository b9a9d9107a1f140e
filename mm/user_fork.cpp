// fork: the areas of a space, and of its pages only what the child could not bring itself.
//
//   parent, window            child, second window
//   | PTE  rw | page A  --->  | PTE  r- | page A       private pages of either: read-only in both, one reference more
//   | PTE  r- | file's  -x->  |    0    |              shared areas, and pages of files that nobody wrote to
//
// Tables of both are reached without a kmap: the parent is current, and its second window shows the child.
#include "mm/lending.hpp"
#include "mm/user_swap.hpp"

namespace paean {

namespace {

constexpr u32 kSpares = 64;  // taken at a time, for lent pages that the child shares

}  // namespace

/// From here on there is something for the child; `end` if there is not.
VirtAddr UserSpace::first_to_copy(VirtAddr start, VirtAddr end) {
  const SpinGuard<NoIrq> guard{entries_};
  const TableView view{tables_, start};
  for (; view && start < end; start += kPageSize) {
    const arch::PteValue value = view[start].own_value();
    if (value != arch::PteValue{} && (is_swap_entry(value) || is_anonymous(page_of(value)))) return start;
  }
  return end;
}

/// An entry of the swap, a hidden one, or one of a lent page. Later: the lent page wants a spare. Counted are pages by
/// the caller, slots here.
UserSpace::Share UserSpace::share_unusual(arch::Pte& source, arch::Pte& target, VirtAddr va, UserSpace& child,
                                          LentSpares& spares) {
  const arch::PteValue value = source.own_value();
  if (is_swap_entry(value)) {
    if (!share_swap_slot(SwapEntry{value})) return Share::Failed;
    ++child.swapped_;
    target.set(value);
    return Share::Done;
  }
  Page* page = page_of(value);
  const bool lent = is_lent(page);
  if (!is_anonymous(page)) return Share::Nothing;
  if (lent && spares.ask()) return Share::Later;
  page->get();
  if (lent) note_mapped(page, child, va, &spares);
  ++child.anonymous_;
  source.forbid_stores();
  target.set(value.without(arch::pte_bits::kWritable));
  return Share::Done;
}

/// Up to where: not to the end if lent pages want spares.
Result<VirtAddr> UserSpace::copy_table(VirtAddr start, VirtAddr end, UserSpace& child, LentSpares& spares) {
  constexpr u32 kPresent = static_cast<u32>(arch::pte_bits::kPresent);
  constexpr u32 kWritable = static_cast<u32>(arch::pte_bits::kWritable);
  start = first_to_copy(start, end);
  if (start == end) return end;
  TRY(child.tables_.make_table(start, child.entries_));
  if (spares.are_wanted()) TRY(spares.take(kSpares));
  const SpinGuard<NoIrq> guard{entries_};
  const TableView from{tables_, start};
  TableView to{child.tables_, start};
  arch::Pte *source = &from[start], *target = &to[start];
  const arch::Pte *const sources = source, *const behind = source + ((end - start) >> kPageShift);
  const auto here = [&] { return start + static_cast<u32>(source - sources) * kPageSize; };
  u32 usual = 0, unusual = 0;
  Share last = Share::Done;
  for (; source != behind; ++source, ++target) {
    const u32 low = source->own_low(), high = source->own_high();
    if (low == 0) continue;
    if ((low & kPresent) == 0 || is_lent(page_of(low, high))) [[unlikely]] {
      last = share_unusual(*source, *target, here(), child, spares);
      if (last == Share::Later || last == Share::Failed) break;
      unusual += last == Share::Done ? 1 : 0;
      continue;
    }
    if (!page_of(low, high)->try_get(Owner::User)) continue;  // a file's
    if ((low & kWritable) != 0) source->forbid_stores();
    target->set(low & ~kWritable, high);
    ++usual;
  }
  to.note_filled(usual + unusual);
  child.anonymous_ += usual;
  if (last == Share::Failed) return std::unexpected(Error::OutOfMemory);
  return here();
}

Result<> UserSpace::copy_area(const Area& area, UserSpace& child) {
  if (area.is_shared()) return {};
  LentSpares spares;
  for (VirtAddr at = area.start; at < area.end;) at = TRY(copy_table(at, end_of_table(at, area.end), child, spares));
  return {};
}

/// The child is nobody else's yet, so its locks are not taken.
Result<> UserSpace::copy_to(UserSpace& child) NO_THREAD_SAFETY_ANALYSIS {
  child.break_start_ = break_start_;
  child.break_ = break_;
  for (Area* area = areas_.first(); area != nullptr; area = areas_.next(*area)) {
    Spares spares;
    TRY(spares.take(1));
    (void)child.add_area(area->start, area->end, *area, spares);
    TRY(copy_area(*area, child));
  }
  return {};
}

Result<UserSpace*> UserSpace::fork() {
  UserSpace& parent = *current();
  UserSpace* child = TRY(create());
  const Result<> copied = [&] {
    const WriteGuard guard{parent.layout_};
    parent.tables_.open_other(child->tables_);
    const Result<> result = parent.copy_to(*child);
    {
      // Who moves a page of the child meanwhile may look through the window.
      const SpinGuard<NoIrq> entries{child->entries_};
      parent.tables_.close_other();
    }
    // Stores that worked before must fault now, and the second window must not show the child any more.
    arch::flush_user_tlb(parent.tables_.tlb());
    return result;
  }();
  if (copied) return child;
  child->put();
  return std::unexpected(copied.error());
}

}  // namespace paean
