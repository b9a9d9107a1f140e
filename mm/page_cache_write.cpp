// Changing cached pages: writing, truncating, dropping.
#include <algorithm>
#include <bit>

#include "mm/page_cache_internal.hpp"
#include "mm/vm_events.hpp"

namespace paean {

namespace {

/// Of a file offset.
u32 in_page(u64 offset) { return static_cast<u32>(offset) % kPageSize; }
u32 page_of(u64 offset) { return static_cast<u32>(offset >> kPageShift); }

/// The largest folio that a write of so many bytes fills; a single page for anything that fills none.
Order order_for_write(u64 offset, usize bytes, Order largest) {
  if (in_page(offset) != 0 || bytes < 2 * kPageSize) return Order{0};
  u32 order = std::min(largest.value(), static_cast<u32>(std::bit_width(bytes >> kPageShift)) - 1);
  while (page_of(offset) % (1u << order) != 0) --order;
  return Order{order};
}

/// Up to the end of the folio; bytes copied.
u32 copy_in(Folio& folio, u64 offset, CopySource from) {
  const u32 bytes = static_cast<u32>(std::min<u64>(from.size(), folio.end() - offset));
  for (u32 done = 0; done < bytes;) {
    const u64 at = offset + done;
    const u32 part = std::min(bytes - done, kPageSize - in_page(at));
    from.subspan(done, part).copy_to(folio.page_at(page_of(at)), in_page(at));
    done += part;
  }
  return bytes;
}

void zero_folio(Folio& folio, u64 from) {
  for (u64 at = std::max(from, folio.offset()); at < folio.end(); at += kPageSize - in_page(at)) {
    zero_user(folio.page_at(page_of(at)), in_page(at), kPageSize - in_page(at));
  }
}

bool is_zero_from(const Folio& folio, u64 from) {
  for (u64 at = std::max(from, folio.offset()); at < folio.end(); at += kPageSize - in_page(at)) {
    const KmapLocal map{folio.page_at(page_of(at))};
    for (const u8 byte : map.bytes().subspan(in_page(at))) {
      if (byte != 0) return false;
    }
  }
  return true;
}

}  // namespace

bool AddressSpace::set_dirty(Folio& folio, u64 end) {
  const SpinGuard<IrqSave> guard{lock_};
  if (folio.has(FolioFlag::Gone)) return false;
  if (end > size_) set_size(end);
  make_dirty(folio);
  return true;
}

void AddressSpace::make_dirty(Folio& folio) {
  if (folio.has(FolioFlag::Dirty)) return;
  FolioOps::set(folio, FolioFlag::Dirty);
  if (!store_.writes_back()) return;
  FolioOps::set_dirtied_at(folio, ticks_now());
  index_.set_mark(folio.index(), IndexMark::Dirty);
  cache_counters.dirty.fetch_add(folio.pages(), std::memory_order_relaxed);
  count_event(VmEvent::Dirtied, folio.pages());
  if (dirty_.fetch_add(folio.pages(), std::memory_order_relaxed) == 0) list_unwritten(*this);
}

/// A page that the file does not have, or that is overwritten as a whole.
Result<u32> AddressSpace::write_new(u64 offset, CopySource from, Order order) {
  const u32 pages = order.pages();
  const FolioRef folio = TRY(add_largest(page_of(offset), pages, order, Place::Anywhere));
  if (in_page(offset) != 0 || from.size() < kPageSize) zero_folio(*folio, 0);
  const u32 copied = copy_in(*folio, offset, from);
  FolioOps::set(*folio, FolioFlag::UpToDate);
  ASSERT(set_dirty(*folio, offset + copied));  // nobody truncates it while it is locked
  folio->unlock();
  return copied;
}

/// The folio to be changed in part.
Result<FolioRef> AddressSpace::find_to_change(Found found, u32 index) {
  if (!found.folio) return read_page(index, nullptr);
  if (!found.folio->has(FolioFlag::UpToDate)) {
    found.folio->wait_until_read();
    TRY(read_again(*found.folio));
  }
  return std::move(found.folio);
}

/// Exists: the page came or went meanwhile, so once more.
Result<u32> AddressSpace::write_piece(u64 offset, CopySource from, Order order) {
  const u32 index = page_of(offset);
  Found found = find(index);
  const bool whole = in_page(offset) == 0 && from.size() >= kPageSize;
  if (!found.folio && (whole || index >= pages_in(found.size))) return write_new(offset, from, order);
  const FolioRef folio = TRY(find_to_change(std::move(found), index));
  FolioOps::touch(*folio);
  const u32 copied = copy_in(*folio, offset, from);
  if (!set_dirty(*folio, offset + copied)) return std::unexpected(Error::Exists);
  return copied;
}

/// The next of so many bytes that are to be written. A page may fit where a large folio does not.
Result<AddressSpace::Piece> AddressSpace::prepare_piece(u64 offset, usize bytes) {
  Order order = order_for_write(offset, bytes, store_.largest_folio());
  while (true) {
    const u32 piece = static_cast<u32>(std::min<usize>(bytes, order.pages() * kPageSize - in_page(offset)));
    const Result<> prepared = store_.prepare_write(*this, offset, piece);
    if (prepared) return Piece{order, piece};
    if (prepared.error() != Error::NoSpace || order.pages() == 1) return std::unexpected(prepared.error());
    order = Order{0};
  }
}

Result<u32> AddressSpace::write(u64 offset, CopySource from) {
  u32 done = 0;
  Result<> failure{};
  while (done < from.size()) {
    const u64 at = offset + done;
    if (at >= kMostBytes) {
      failure = std::unexpected(Error::TooLarge);
      break;
    }
    if (store_.writes_back()) throttle_writer();
    const Result<Piece> piece = prepare_piece(at, from.size() - done);
    if (!piece) {
      failure = std::unexpected(piece.error());
      break;
    }
    const Result<u32> copied = write_piece(at, from.subspan(done, piece->bytes), piece->order);
    if (copied) {
      done += *copied;
    } else if (copied.error() != Error::Exists) {
      failure = std::unexpected(copied.error());
      break;
    }
  }
  if (!failure && done == 0) return std::unexpected(failure.error());
  return done;
}

bool AddressSpace::remove(Folio& folio, Removal removal) {
  SpareNodes spare;
  {
    const SpinGuard<IrqSave> guard{lock_};
    if (folio.has(FolioFlag::WriteBack)) return false;
    const bool dirty = folio.has(FolioFlag::Dirty);
    // The tree's reference and the caller's: nobody can get another one but here.
    if (removal == Removal::IfUnused && (dirty || FolioOps::references(folio) != 2)) return false;
    // Nor to the pages, which programs map: a page that is mapped and a page that is read must be the same.
    if (removal == Removal::IfUnused && folio.page()->references() != 1) return false;
    index_.remove(folio.index(), folio.pages(), spare);
    FolioOps::set(folio, FolioFlag::Gone);
    pages_.fetch_sub(folio.pages(), std::memory_order_relaxed);
    cache_counters.pages.fetch_sub(folio.pages(), std::memory_order_relaxed);
    FolioOps::clear(folio, FolioFlag::Dirty);
    if (store_.writes_back()) {
      remove_from_ages(folio);
      if (dirty) {
        dirty_.fetch_sub(folio.pages(), std::memory_order_relaxed);
        cache_counters.dirty.fetch_sub(folio.pages(), std::memory_order_relaxed);
      }
    }
  }
  give_nodes(spare);
  FolioOps::put(&folio);
  return true;
}

void AddressSpace::shorten(u64 size) {
  const SpinGuard<IrqSave> guard{lock_};
  if (size < size_) set_size(size);
}

/// Makes the file end within a page, whose rest becomes zeros.
Result<> AddressSpace::cut_page(u64 size) {
  // What a memory file does not have is zeros.
  const bool is_there = store_.writes_back() || find_page(page_of(size));
  const FolioRef folio = is_there ? TRY(read_page(page_of(size), nullptr)) : FolioRef{};
  shorten(size);
  if (!folio) return {};
  // Write-back that has begun knows the file as it was, with blocks that become free now.
  folio->wait_until_written();
  // What is zero already may be a hole of the file, which is to stay one.
  if (is_zero_from(*folio, size)) return {};
  zero_folio(*folio, size);
  (void)set_dirty(*folio, 0);
  return {};
}

void AddressSpace::drop(Folio& folio) {
  folio.lock();
  while (!folio.has(FolioFlag::Gone) && !remove(folio, Removal::Always)) folio.wait_until_written();
  folio.unlock();
}

Result<> AddressSpace::truncate(u64 size) {
  if (size >= this->size()) {
    grow(size);
    return {};
  }
  if (in_page(size) != 0)
    TRY(cut_page(size));
  else
    shorten(size);
  for (u32 from = pages_in(size);;) {
    const FolioRef folio = next_folio(from);
    if (!folio) return {};
    if (folio->index() < pages_in(size)) {
      // A large folio over the end stays; what it has behind the end is zeroed, for when the file grows again.
      folio->lock();
      zero_folio(*folio, size);
      folio->unlock();
      folio->wait_until_written();  // as in cut_page()
      from = folio->index() + folio->pages();
      continue;
    }
    drop(*folio);
  }
}

void AddressSpace::discard(u32 index) {
  if (const FolioRef folio = find_page(index)) drop(*folio);
}

u32 AddressSpace::invalidate() {
  u32 dropped = 0;
  for (u32 from = 0;;) {
    const FolioRef folio = next_folio(from);
    if (!folio) return dropped;
    from = folio->index() + folio->pages();
    if (!folio->try_lock()) continue;
    if (!folio->has(FolioFlag::Gone) && remove(*folio, Removal::IfUnused)) dropped += folio->pages();
    folio->unlock();
  }
}

}  // namespace paean
