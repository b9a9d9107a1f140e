// Finding and reading cached pages.
#include "mm/page_cache.hpp"

#include <algorithm>
#include <bit>

#include "arch/percpu.hpp"
#include "mm/page_cache_internal.hpp"

namespace paean {

namespace {

struct ReadCounters {
  u64 hits, misses, ahead;
};
PER_CPU(ReadCounters, read_counters);

/// Interrupts off.
void count_hit() { ++read_counters.local().hits; }
void count_miss() {
  const PreemptGuard guard;
  ++read_counters.local().misses;
}
void count_ahead(u32 pages) {
  const PreemptGuard guard;
  read_counters.local().ahead += pages;
}

}  // namespace

PageCacheTotals page_cache_totals() {
  const auto now = [](const std::atomic<u32>& counter) { return counter.load(std::memory_order_relaxed); };
  PageCacheTotals totals{};
  totals.pages = now(cache_counters.pages);
  for (const ZoneId id : {ZoneId::Dma32, ZoneId::HighMem}) {
    totals.high_pages += ledger_pages(id, Owner::PageCache).count();
  }
  totals.dirty = now(cache_counters.dirty);
  totals.write_back = now(cache_counters.write_back);
  for (const ZoneId id : kAllZones) {
    const CachedPages cached = cached_pages_in(id);
    totals.active += cached.active;
    totals.inactive += cached.inactive;
  }
  totals.folios = now(cache_counters.folios);
  totals.nodes = now(cache_counters.nodes);
  totals.evicted = now(cache_counters.evicted);
  const DirtyLimits limits = dirty_limits();
  totals.dirty_limit = limits.most;
  totals.background_limit = limits.background;
  totals.throttled = now(cache_counters.throttled);
  for (u32 cpu = 0; cpu < arch::online_cpus(); ++cpu) {
    const ReadCounters& counters = read_counters.on(cpu);
    totals.hits += counters.hits;
    totals.misses += counters.misses;
    totals.read_ahead_pages += counters.ahead;
  }
  return totals;
}

void init_page_cache() {
  init_folios();
  init_write_back();
}

AddressSpace::AddressSpace(BackingStore& store, u64 size)
    : store_(store), size_(std::min(size, kMostBytes)), whole_pages_(static_cast<u32>(size_ >> kPageShift)) {}

AddressSpace::~AddressSpace() {
  forget_unwritten(*this);
  const SpinGuard<IrqSave> guard{lock_};  // whoever ended the last write has left
  ASSERT(index_.empty());
}

u64 AddressSpace::size() const {
  const SpinGuard<IrqSave> guard{lock_};
  return size_;
}

void AddressSpace::set_size(u64 size) {
  size_ = size;
  whole_pages_ = static_cast<u32>(size >> kPageShift);
}

void AddressSpace::grow(u64 size) {
  const SpinGuard<IrqSave> guard{lock_};
  if (size > size_) set_size(std::min(size, kMostBytes));
}

AddressSpace::Found AddressSpace::find(u32 index) const {
  const SpinGuard<IrqSave> guard{lock_};
  auto* folio = static_cast<Folio*>(index_.find(index));
  if (folio == nullptr) return {FolioRef{}, size_};
  count_hit();
  return {FolioOps::reference(*folio), size_};
}

FolioRef AddressSpace::find_page(u32 index) const { return find(index).folio; }

FolioRef AddressSpace::next_folio(u32 from) const {
  const SpinGuard<IrqSave> guard{lock_};
  auto* folio = static_cast<Folio*>(index_.next(from).entry);
  return folio == nullptr ? FolioRef{} : FolioOps::reference(*folio);
}

/// How many of so many pages have no folio yet, counted from the first one.
u32 AddressSpace::room_at(u32 index, u32 pages) const {
  const SpinGuard<IrqSave> guard{lock_};
  const PageIndex::Hit hit = index_.next(index);
  return hit.entry == nullptr ? pages : std::min(pages, hit.index - index);
}

/// Nodes that are still missing; 0: the folio is in the tree.
Result<u32> AddressSpace::try_add(Folio& folio, Place place, SpareNodes& spare) {
  const u32 index = folio.index(), pages = folio.pages();
  const SpinGuard<IrqSave> guard{lock_};
  if (place != Place::Anywhere && index >= pages_in(size_)) return std::unexpected(Error::NotFound);
  const PageIndex::Hit hit = index_.next(index);
  if (hit.entry != nullptr && hit.index - index < pages) return std::unexpected(Error::Exists);
  if (const u32 needed = index_.nodes_needed(index); needed > spare.count()) return needed;
  index_.insert(index, pages, &folio, spare);
  FolioOps::get(folio);  // the tree's
  pages_.fetch_add(pages, std::memory_order_relaxed);
  cache_counters.pages.fetch_add(pages, std::memory_order_relaxed);
  if (store_.writes_back()) add_to_ages(folio);
  return 0;
}

Result<FolioRef> AddressSpace::add_folio(u32 index, Order order, Place place) {
  const AllocFlags effort =
      place == Place::Ahead ? AllocFlags::Kernel | AllocFlags::NoIo | AllocFlags::NoWarn : AllocFlags::Kernel;
  Folio* created = TRY(FolioOps::create(*this, index, order, effort));
  FolioRef folio = FolioOps::adopt(created);
  SpareNodes spare;
  Result<u32> missing = try_add(*folio, place, spare);
  while (missing && *missing != 0) {
    const Result<> taken = take_nodes(spare, *missing, effort);
    missing = taken ? try_add(*folio, place, spare) : std::unexpected(taken.error());
  }
  give_nodes(spare);
  if (!missing) return std::unexpected(missing.error());
  return folio;
}

/// The largest folio at `at` that the plan, the store, the neighbours and free memory allow.
Result<FolioRef> AddressSpace::add_largest(u32 at, u32 pages, Order largest, Place place) {
  const u32 room = room_at(at, pages);
  if (room == 0) return std::unexpected(Error::Exists);
  u32 order = std::min({largest.value(), store_.largest_folio().value(), static_cast<u32>(std::bit_width(room)) - 1});
  while (at % (1u << order) != 0) --order;
  while (true) {
    Result<FolioRef> folio = add_folio(at, Order{order}, place);
    if (folio || folio.error() != Error::OutOfMemory || order == 0) return folio;
    --order;
  }
}

/// Reads what the plan has and the file has not, behind `first`, if that is given. New folios are locked until they
/// have been read, so nobody takes them away meanwhile.
void AddressSpace::read_more(const ReadPlan& plan, Folio* first) {
  constexpr u32 kTogether = 16;
  Folio* folios[kTogether] = {first};
  u32 count = first != nullptr ? 1 : 0;
  const u32 end = plan.start + plan.pages;
  for (u32 at = plan.start; at < end;) {
    const Result<FolioRef> folio = add_largest(at, end - at, plan.largest, Place::Ahead);
    if (!folio && folio.error() != Error::Exists) break;  // it was a favour
    at += folio ? (*folio)->pages() : 1;
    if (!folio) continue;
    count_ahead((*folio)->pages());
    if (count == kTogether) store_.read_folios(*this, {folios, std::exchange(count, 0)});
    folios[count++] = &**folio;
  }
  if (count != 0) store_.read_folios(*this, {folios, count});
}

/// The page is not there. Exists: now it is.
Result<FolioRef> AddressSpace::read_absent(u32 index, u32 wanted, u32 file_pages, ReadAhead* ahead) {
  count_miss();
  const ReadPlan plan = ahead == nullptr ? ReadPlan{index, 1} : plan_for_miss(*ahead, index, wanted, file_pages);
  FolioRef folio = TRY(add_largest(index, plan.pages, plan.largest, Place::InFile));
  const u32 pages = std::min(plan.pages, folio->pages());
  read_more({index + pages, plan.pages - pages, plan.largest}, &*folio);
  folio->wait_until_read();
  if (!folio->has(FolioFlag::UpToDate)) return std::unexpected(folio->error());
  return folio;
}

/// Somebody's reading of this folio has failed, or was given up. Exists: it has left the file.
Result<> AddressSpace::read_again(Folio& folio) {
  folio.lock();
  if (folio.has(FolioFlag::Gone) || folio.has(FolioFlag::UpToDate)) {
    folio.unlock();
    if (!folio.has(FolioFlag::UpToDate)) return std::unexpected(Error::Exists);
    return {};
  }
  FolioOps::clear(folio, FolioFlag::Failed);
  store_.read_folio(*this, folio);
  folio.wait_until_read();
  if (folio.has(FolioFlag::UpToDate)) return {};
  return std::unexpected(folio.has(FolioFlag::Failed) ? folio.error() : Error::Exists);
}

void AddressSpace::note_read(ReadAhead& ahead, u32 index, u64 size) {
  if (note_hit(ahead, index, pages_in(size))) read_more(plan_ahead(ahead, pages_in(size)), nullptr);
}

Result<AddressSpace::Found> AddressSpace::find_to_read(u32 index, u32 wanted, ReadAhead* ahead) {
  while (true) {
    Found found = find(index);
    if (index >= pages_in(found.size)) return std::unexpected(Error::NotFound);
    if (!found.folio) {
      Result<FolioRef> folio = read_absent(index, wanted, pages_in(found.size), ahead);
      if (folio) return Found{std::move(*folio), size()};
      if (folio.error() != Error::Exists) return std::unexpected(folio.error());
      continue;
    }
    Folio& folio = *found.folio;
    if (!folio.has(FolioFlag::UpToDate)) [[unlikely]] {
      folio.wait_until_read();
      if (const Result<> again = read_again(folio); !again) {
        if (again.error() != Error::Exists) return std::unexpected(again.error());
        continue;
      }
    }
    // A large folio that is read through once, page by page, has been used once.
    if (index == folio.index()) FolioOps::touch(folio);
    if (ahead != nullptr) note_read(*ahead, index, found.size);
    return found;
  }
}

Result<FolioRef> AddressSpace::read_page(u32 index, ReadAhead* ahead) {
  return std::move(TRY(find_to_read(index, 1, ahead)).folio);
}

/// Apart from read_ready(), which must stay short.
[[gnu::noinline]] void AddressSpace::go_on_reading(ReadAhead& ahead, u32 index) { note_read(ahead, index, size()); }

/// What is usual: a part of one page that lies before the file's last one, and it is there. Bytes read; 0 if anything
/// else is the case. A function of its own with numbers of 32 bits, so that they stay in registers.
[[gnu::noinline]] u32 AddressSpace::read_ready(u32 index, u32 in_page, CopyTarget into, ReadAhead* ahead) {
  Folio* folio;
  {
    const SpinGuard<IrqSave> guard{lock_};
    if (index >= whole_pages_) return 0;
    folio = static_cast<Folio*>(index_.find(index));
    if (folio == nullptr || !folio->has(FolioFlag::UpToDate)) return 0;
    FolioOps::get(*folio);
    count_hit();
  }
  const u32 n = index - folio->index();
  if (n == 0) FolioOps::touch(*folio);
  if (ahead != nullptr) {
    const bool before_mark = ahead->window == 0 || index + ahead->window < ahead->ahead_to;
    if (index == ahead->next && before_mark) [[likely]]
      ahead->next = index + 1;
    else
      go_on_reading(*ahead, index);
  }
  u32 copied;
  {
    const KmapLocal map{folio->page(n)};
    copied = into.fill(map.as<u8>() + in_page);
  }
  FolioOps::put(folio);
  return copied;
}

/// Bytes read, 0 at the end of the file.
[[gnu::noinline]] Result<u32> AddressSpace::read_slowly(u64 offset, CopyTarget into, ReadAhead* ahead) {
  const u32 index = static_cast<u32>(offset >> kPageShift), in_page = static_cast<u32>(offset) % kPageSize;
  u32 zeros = 0;
  if (!store_.writes_back()) {
    // What such a store has no page of is a hole, and none comes of reading it: a sparse file is read without memory.
    const SpinGuard<IrqSave> guard{lock_};
    if (offset < size_ && index_.find(index) == nullptr)
      zeros = static_cast<u32>(std::min<u64>({into.size(), kPageSize - in_page, size_ - offset}));
  }
  if (zeros != 0) {
    const u32 cleared = into.first(zeros).clear();
    if (cleared == 0) return std::unexpected(Error::BadAddress);
    return cleared;
  }
  const Result<Found> found = find_to_read(index, pages_for(in_page + into.size()).count(), ahead);
  if (!found) {
    if (found.error() == Error::NotFound) return 0;
    return std::unexpected(found.error());
  }
  if (offset >= found->size) return 0;
  const u32 bytes = static_cast<u32>(std::min<u64>({into.size(), kPageSize - in_page, found->size - offset}));
  const KmapLocal map{found->folio->page_at(index)};
  const u32 copied = into.first(bytes).fill(map.as<u8>() + in_page);
  if (copied == 0 && bytes != 0) return std::unexpected(Error::BadAddress);
  return copied;
}

[[gnu::noinline]] Result<u32> AddressSpace::read_parts(u64 offset, CopyTarget into, ReadAhead* ahead) {
  u32 done = 0;
  while (done < into.size() && offset < kMostBytes) {
    const u32 index = static_cast<u32>(offset >> kPageShift), in_page = static_cast<u32>(offset) % kPageSize;
    u32 got = read_ready(index, in_page, into.subspan(done, std::min(into.size() - done, kPageSize - in_page)), ahead);
    if (got == 0) [[unlikely]] {
      const Result<u32> slowly = read_slowly(offset, into.subspan(done), ahead);
      if (!slowly && done == 0) return slowly;
      got = slowly.value_or(0);
      if (got == 0) break;
    }
    done += got;
    offset += got;
  }
  return done;
}

Result<u32> AddressSpace::read(u64 offset, CopyTarget into, ReadAhead* ahead) {
  const u32 in_page = static_cast<u32>(offset) % kPageSize;
  if (offset < kMostBytes && into.size() <= kPageSize - in_page) [[likely]] {
    if (const u32 got = read_ready(static_cast<u32>(offset >> kPageShift), in_page, into, ahead); got != 0) return got;
  }
  return read_parts(offset, into, ahead);
}

}  // namespace paean
