// Entries of pages that are being moved, and spaces that must not end meanwhile. mm/lending.hpp has the protocol.
//
// Flushes are of the whole space: while mremap() is on its way an old translation may be at another address than the
// entry.
#include "kernel/wait.hpp"
#include "mm/lent_frames.hpp"
#include "mm/user_gather.hpp"

namespace paean {

namespace {

constinit WaitQueue unpinned;

/// Hidden ones too: they keep their page.
bool shows(arch::PteValue value, const Page* page) {
  return (value.present() || value.has(kHiddenEntry)) && page_of(value) == page;
}

/// False if it does not show the page.
template <typename Value>
bool change_entry_of(const Page* page, arch::Pte& entry, Value value) {
  arch::PteValue now = entry.load();
  while (shows(now, page)) {
    if (entry.compare_exchange(now, value(now))) return true;
  }
  return false;
}

}  // namespace

/// Neighbours share the lock and the way to their table.
template <typename Change>
void UserSpace::change_entries(std::span<PageMove> moves, Change change) {
  for (usize i = 0; i < moves.size();) {
    const VirtAddr table = moves[i].va.align_down(kLargePageSize);
    const SpinGuard<NoIrq> guard{entries_};
    const TableView view{tables_, table};
    for (; i < moves.size() && moves[i].va.align_down(kLargePageSize) == table; ++i)
      moves[i].done = view && change(view[moves[i].va], moves[i]);
  }
}

void UserSpace::protect_pages(std::span<PageMove> moves) {
  change_entries(moves, [](arch::Pte& entry, const PageMove& move) {
    return change_entry_of(move.from, entry, [](arch::PteValue now) { return now.without(arch::pte_bits::kWritable); });
  });
}

void UserSpace::replace_pages(std::span<PageMove> moves) {
  change_entries(moves, [this](arch::Pte& entry, const PageMove& move) {
    const auto moved = [&move](arch::PteValue now) { return with_page(now, move.to); };
    if (!move.done || !change_entry_of(move.from, entry, moved)) return false;
    note_unmapped(move.from, *this, move.va);
    move.to->get();
    if (is_lent(move.to)) note_mapped(move.to, *this, move.va);
    return true;
  });
}

bool UserSpace::drop_page(VirtAddr va, Page* page, Folio& folio) {
  arch::PteValue old;
  {
    const SpinGuard<NoIrq> guard{entries_};
    TableView view{tables_, va};
    if (!view || !shows(view[va].load(), page)) return false;
    old = view[va].exchange(arch::PteValue{});
    view.note_emptied();
    --file_;
    note_unmapped(page, *this, va);
  }
  flush_pages();
  // As in a gather: until the flush a CPU may have gone on storing.
  if (old.has(arch::pte_bits::kDirty)) (void)CacheOps::set_dirty(*folio.space(), folio);
  put_user_page(page);
  return true;
}

void UserSpace::flush_pages() { arch::flush_user_tlb(tables_.tlb()); }

/// All entries are gone, so nobody finds the space any more.
void UserSpace::wait_for_movers() {
  if (pins_.load(std::memory_order_acquire) == 0) return;
  unpinned.wait([this] { return pins_.load(std::memory_order_acquire) == 0; });
}

PinnedPlace::PinnedPlace(UserSpace& space, VirtAddr va) : space_(&space), va_(va) {
  space.pins_.fetch_add(1, std::memory_order_relaxed);
}

void PinnedPlace::unpin() {
  if (space_ == nullptr) return;
  UserSpace* space = std::exchange(space_, nullptr);
  // The space may be gone after this line.
  if (space->pins_.fetch_sub(1) == 1 && unpinned.waiting() != 0) unpinned.wake_all();
}

void PinnedPlace::protect(std::span<PageMove> moves) const { space_->protect_pages(moves); }
void PinnedPlace::replace(std::span<PageMove> moves) const { space_->replace_pages(moves); }
bool PinnedPlace::drop(Page* page, Folio& folio) const { return space_->drop_page(va_, page, folio); }
void PinnedPlace::flush() const { space_->flush_pages(); }

}  // namespace paean
