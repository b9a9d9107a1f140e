// mremap: areas that grow, shrink and move with their pages.
#include "mm/lending.hpp"
#include "mm/user_gather.hpp"

namespace paean {

/// Every table that the moved entries will need, so that moving cannot fail half way.
Result<> UserSpace::make_tables_to_move(VirtAddr from, VirtAddr end, VirtAddr target) {
  for (VirtAddr va = from; va < end; va += kPageSize) {
    bool used = false;
    {
      const SpinGuard<NoIrq> guard{entries_};
      const TableView view{tables_, va};
      if (!view) {
        va = end_of_table(va, end) - kPageSize;
        continue;
      }
      used = view[va].own_low() != 0;
    }
    if (used) TRY(tables_.make_table(target + (va - from), entries_));
  }
  return {};
}

void UserSpace::move_entries(VirtAddr from, VirtAddr end, VirtAddr target) {
  for (VirtAddr va = from; va < end; va += kPageSize) {
    const SpinGuard<NoIrq> guard{entries_};
    TableView source{tables_, va};
    if (!source) {
      va = end_of_table(va, end) - kPageSize;
      continue;
    }
    if (source[va].own_low() == 0) continue;
    const VirtAddr to = target + (va - from);
    TableView destination{tables_, to};
    const arch::PteValue value = source[va].exchange(arch::PteValue{});
    destination[to].set(value);
    if (!is_swap_entry(value) && is_lent(page_of(value))) note_moved(page_of(value), *this, va, to);
    destination.note_filled();
    source.note_emptied();
  }
}

Result<VirtAddr> UserSpace::move_area(Area& area, VirtAddr target, u32 new_bytes, Spares& spares) {
  const VirtAddr from = area.start, end = area.end;
  PageGather gather{tables_.tlb()};
  if (const Result<> made = make_tables_to_move(from, end, target); !made) {
    zap(area, target, target + (end - from), gather);  // nothing there but empty tables
    return std::unexpected(made.error());
  }
  move_entries(from, end, target);
  // Old translations go before the new place can be unmapped and its pages freed: the layout lock is held until then.
  zap(area, from, end, gather);
  gather.note_changed(from);
  gather.note_changed(end - kPageSize);
  gather.flush();
  Area like;
  like.access = area.access;
  like.kind = area.kind;
  like.file = area.file;
  like.first_page = area.first_page;
  areas_.remove(area);
  spares.removed.push(area);
  (void)add_area(target, target + new_bytes, like, spares);
  return target;
}

Result<VirtAddr> UserSpace::remap_locked(VirtAddr start, u32 old_bytes, u32 new_bytes, Remap how, VirtAddr target,
                                         Spares& spares) {
  const VirtAddr old_end = start + old_bytes;
  const Area* found = areas_.at(start);
  if (found == nullptr || found->end < old_end) return std::unexpected(Error::BadAddress);
  if (areas_.count() + 3 > kMostAreas) return std::unexpected(Error::OutOfMemory);
  if (how == Remap::Fixed) { TRY(unmap_locked(target, target + new_bytes, spares)); }
  if (new_bytes < old_bytes) {
    TRY(unmap_locked(start + new_bytes, old_end, spares));
    if (how != Remap::Fixed) return start;
  }
  const u32 kept = new_bytes < old_bytes ? new_bytes : old_bytes;
  if (how != Remap::Fixed) {
    if (new_bytes == old_bytes) return start;
    Area* area = areas_.at(start);
    if (area->end == old_end && is_user_range(start, new_bytes) && areas_.is_free(old_end, start + new_bytes)) {
      areas_.extend_up(*area, start + new_bytes);
      (void)areas_.join(*area, spares.list);
      return start;
    }
    if (how == Remap::InPlace) return std::unexpected(Error::OutOfMemory);
    const auto gap = areas_.find_gap(new_bytes, kLowestUser, user_end());
    if (!gap) return std::unexpected(Error::OutOfMemory);
    target = *gap;
  }
  areas_.cut(start, start + kept, spares.list);
  return move_area(*areas_.at(start), target, new_bytes, spares);
}

Result<VirtAddr> UserSpace::remap(VirtAddr start, u32 old_bytes, u32 new_bytes, Remap how, VirtAddr target) {
  constexpr u32 kMost = 0xfffff000;
  if (!start.is_aligned(kPageSize) || old_bytes == 0 || new_bytes == 0) return std::unexpected(Error::InvalidArgument);
  if (old_bytes > kMost || new_bytes > kMost) return std::unexpected(Error::InvalidArgument);
  const u32 old_size = (old_bytes + kPageSize - 1) & ~(kPageSize - 1);
  const u32 new_size = (new_bytes + kPageSize - 1) & ~(kPageSize - 1);
  if (!is_user_range(start, old_size)) return std::unexpected(Error::BadAddress);
  if (how == Remap::Fixed) {
    if (!target.is_aligned(kPageSize) || !is_user_range(target, new_size))
      return std::unexpected(Error::InvalidArgument);
    if (target < kLowestUser) return std::unexpected(Error::NotPermitted);
    if (target < start + old_size && start < target + new_size) return std::unexpected(Error::InvalidArgument);
  }
  Spares spares;
  TRY(spares.take(6));  // two cuts and a new area, and those of what is unmapped
  const WriteGuard guard{layout_};
  return remap_locked(start, old_size, new_size, how, target, spares);
}

}  // namespace paean
