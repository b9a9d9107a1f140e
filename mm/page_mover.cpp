#include "mm/page_mover.hpp"

namespace paean {

namespace {

constinit std::atomic<u32> moved_pages{0}, stayed_pages{0};

void count_stayed(u32 pages) { stayed_pages.fetch_add(pages, std::memory_order_relaxed); }

}  // namespace

/// Nobody is asked to give anything back for it: moving is what others are asked for.
Page* PageMover::take_target(Order order, Owner owner) {
  const AllocFlags flags = AllocFlags::HighUser | AllocFlags::Movable | AllocFlags::NoIo | AllocFlags::NoWarn;
  Page* page = take_block_quietly(flags, order, owner);
  const auto is_wanted = [&] {
    if (!is_lent(page)) return true;
    const Pfn first = page_to_pfn(page);
    return target_ == Target::ElsewhereToo && (first >= avoid_ + avoided_ || first + PageCount{order} <= avoid_);
  };
  if (page != nullptr && is_wanted()) return page;
  if (page != nullptr) free_pages(page, order);
  if (order == Order{0}) has_room_ = false;  // a large block may be missing where there are many pages
  return nullptr;
}

void PageMover::add(Page* page) {
  LentFrames::Use use = LentFrames::begin_move(page);
  switch (use.kind) {
    case LentFrames::Use::Kind::None: return;
    case LentFrames::Use::Kind::Busy: return count_stayed(1);
    case LentFrames::Use::Kind::Cached: return move_folio(*use.folio);
    case LentFrames::Use::Kind::Mapped:
      if (use.places != 1) return move_shared(page, use.places);
      return add_mapped(page, std::move(use.place));
  }
}

/// What the move held of both pages. The one that nobody else has is freed.
void PageMover::end_move(Page* from, Page* to) {
  if (from->put()) free_page(from);
  if (to->put()) free_page(to);
}

void PageMover::add_mapped(Page* from, PinnedPlace place) {
  Page* to = take_target(Order{0}, Owner::User);
  if (to == nullptr) return put_page(from);
  moves_[count_] = PageMove{from, to, place.va(), false};
  places_[count_++] = std::move(place);
  if (count_ == kMost) finish();
}

/// Neighbours are mostly of one space.
template <typename Work>
void PageMover::for_each_space(Work work) {
  for (u32 first = 0, end; first < count_; first = end) {
    for (end = first + 1; end < count_ && places_[end].space() == places_[first].space();) ++end;
    work(places_[first], std::span{moves_ + first, end - first});
  }
}

void PageMover::protect_all() {
  for_each_space([](const PinnedPlace& place, std::span<PageMove> moves) {
    place.protect(moves);
    place.flush();  // nobody stores by an old translation any more
  });
  // Whoever got hold of a page while stores went to it may still store: he has a reference, and it stays.
  for (u32 i = 0; i < count_; ++i) moves_[i].done = moves_[i].done && moves_[i].from->references() == 2;
}

void PageMover::replace_all() {
  for (u32 i = 0; i < count_; ++i) {
    if (moves_[i].done) copy_highpage(moves_[i].to, moves_[i].from);
  }
  for_each_space([](const PinnedPlace& place, std::span<PageMove> moves) {
    place.replace(moves);
    place.flush();  // nor reads by one: the old page may be freed, and the new one stored to
  });
}

void PageMover::finish() {
  if (count_ == 0) return;
  protect_all();
  replace_all();
  u32 replaced = 0;
  for (u32 i = 0; i < count_; ++i) {
    const PageMove& move = moves_[i];
    if (move.done) {
      ++replaced;
      (void)move.from->put();  // the entry's; ours is left
    }
    end_move(move.from, move.to);
    places_[i] = PinnedPlace{};
  }
  count_stayed(count_ - replaced);
  moved_ += replaced;
  moved_pages.fetch_add(replaced, std::memory_order_relaxed);
  count_ = 0;
}

/// One entry after the other: contents rest as long as we have a reference, so it does not matter that some programs
/// see the old page and some the new one meanwhile.
void PageMover::move_shared(Page* from, u32 places) {
  Page* to = take_target(Order{0}, Owner::User);
  if (to == nullptr) return put_page(from);
  bool rests = true;
  for (u32 n = 0; n < places && rests; ++n) {
    const PinnedPlace place = LentFrames::place(from, n);
    rests = static_cast<bool>(place);
    if (!rests) break;
    PageMove move{from, to, place.va(), false};
    place.protect({&move, 1});
    place.flush();
    rests = move.done;
  }
  u32 replaced = 0;
  if (rests && from->references() == places + 1) {
    copy_highpage(to, from);
    for (; replaced < places; ++replaced) {
      const PinnedPlace place = LentFrames::place(from, 0);
      if (!place) break;
      PageMove move{from, to, place.va(), true};
      place.replace({&move, 1});
      if (!move.done) break;
      place.flush();
      put_page(from);
    }
  }
  end_move(from, to);
  if (replaced != places) return count_stayed(1);
  ++moved_;
  moved_pages.fetch_add(1, std::memory_order_relaxed);
}

void PageMover::move_folio(Folio& folio) {
  const u32 pages = folio.pages();
  if (!folio.try_lock()) return count_stayed(pages);
  Page* const old = folio.page();
  bool moved = false;
  // In its file while it is locked and not gone, and so there is a file. Ours and the tree's are two references.
  if (!folio.has(FolioFlag::Gone) && !folio.has(FolioFlag::WriteBack) && FolioOps::references(folio) == 2) {
    Page* fresh = take_target(folio.order(), Owner::PageCache);
    for (u32 i = 0; fresh != nullptr && i < pages; ++i) {
      while (const PinnedPlace place = LentFrames::place(folio.page(i), 0)) {
        if (!place.drop(folio.page(i), folio)) break;
      }
    }
    if (fresh != nullptr) {
      moved = CacheOps::move(*folio.space(), folio, fresh);
      free_pages(moved ? old : fresh, folio.order());
    }
  }
  folio.unlock();
  if (!moved) return count_stayed(pages);
  moved_ += pages;
  moved_pages.fetch_add(pages, std::memory_order_relaxed);
}

/// Other pages for a folio. Whoever looks for one takes his reference under the lock of the file, and reads pages only
/// with a reference: so nobody sees the change. Reclaim takes one without that lock, and then leaves a locked folio
/// alone.
bool AddressSpace::move(Folio& folio, Page* fresh) {
  const SpinGuard<IrqSave> guard{lock_};
  if (folio.has(FolioFlag::Gone) || folio.has(FolioFlag::WriteBack) || !folio.has(FolioFlag::UpToDate)) return false;
  if (FolioOps::references(folio) != 2 || folio.page()->references() != 1) return false;
  for (u32 i = 0; i < folio.pages(); ++i) copy_highpage(fresh + i, folio.page(i));
  if (store_.writes_back()) remove_from_ages(folio);  // lists may be those of a zone
  FolioOps::clear(folio, FolioFlag::Active);
  note_uncached(folio.page());
  FolioOps::set_pages(folio, fresh);
  if (is_lent(fresh)) note_cached(fresh, folio);
  if (store_.writes_back()) add_to_ages(folio);
  return true;
}

u32 pages_moved() { return moved_pages.load(std::memory_order_relaxed); }
u32 pages_stayed() { return stayed_pages.load(std::memory_order_relaxed); }

}  // namespace paean
