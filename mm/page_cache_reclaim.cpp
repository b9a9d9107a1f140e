// Which cached pages go when memory is wanted: of the zone that has given least for its size (mm/zone_shares.hpp), the
// oldest that nobody has used again (mm/age_lists.hpp).
//
// A folio that is dirty, locked or held goes to the end of its list and waits for its next turn.
#include <array>

#include "mm/age_lists.hpp"
#include "mm/page_cache_internal.hpp"
#include "mm/reclaim.hpp"
#include "mm/reclaim_rules.hpp"
#include "mm/slab.hpp"
#include "mm/vm_events.hpp"
#include "mm/zone_shares.hpp"

namespace paean {

namespace {

struct FolioAged {
  using List = FolioOps::Ages;
  static u32 pages(const Folio& folio) { return folio.pages(); }
  static Age age(const Folio& folio) { return folio.has(FolioFlag::Active) ? Age::Active : Age::Inactive; }
  static void set_age(Folio& folio, Age age) {
    age == Age::Active ? FolioOps::set(folio, FolioFlag::Active) : FolioOps::clear(folio, FolioFlag::Active);
  }
  static bool test_and_clear_used(Folio& folio) {
    if (!folio.has(FolioFlag::Used)) return false;
    FolioOps::clear(folio, FolioFlag::Used);
    return true;
  }
};

/// What is cached in one zone and may go.
struct CachedZone {
  SpinLock lock{LockRank::Folios};
  AgeLists<Folio, FolioAged> ages GUARDED_BY(lock);
};

static_assert(ZoneShares::kZones == kZoneCount);
constinit std::array<CachedZone, kZoneCount> zones;
constinit SpinLock shares_lock{LockRank::Folios};
constinit ZoneShares shares GUARDED_BY(shares_lock);

constexpr u32 kBatch = 64;              // pages that are given back at a time
constexpr u32 kDescriptorBatch = 1024;  // pages of any zone, for the sake of the objects that describe them
constexpr u32 kTogether = 32;           // folios that are taken from a list under one lock
constexpr u32 kLooksForThem = 2 * kTogether;
// Looks at what may not go, before it is written rather than looked at again.
constexpr u32 kFewLooks = 4096;

constexpr u32 kAllInOne = std::to_underlying(ZoneId::HighMem);
u32 zone_index(const Folio& folio) { return std::to_underlying(zone_of(page_to_pfn(folio.page()))); }
CachedZone& list_of(const Folio& folio) {
  return zones[follows(OldRule::NodeWideLists) ? kAllInOne : zone_index(folio)];
}

/// Folios that may go: out of the lists, and locked, so that nobody else takes them out of their files.
struct Candidates {
  Folio* folios[kTogether];
  u32 count = 0;
  u32 pages = 0;   // of them
  u32 looked = 0;  // pages that were looked at to find them
  u32 looks = 0;
};

bool may_go(Folio& folio, ZoneMask wanted) {
  if (follows(OldRule::NodeWideLists) && !wanted.has(zone_index(folio))) return false;
  return !folio.has_any(FolioFlag::Dirty, FolioFlag::WriteBack) && folio.try_lock();
}

/// From the old end of a zone's lists, until they have so many pages; only those in `wanted` zones.
void take_oldest(CachedZone& zone, u32 pages, ZoneMask wanted, Candidates& found) {
  const SpinGuard<IrqSave> guard{zone.lock};
  const u32 activated = zone.ages.activated(), deactivated = zone.ages.deactivated();
  while (found.count < kTogether && found.pages < pages && found.looks < kLooksForThem && zone.ages.count() != 0) {
    ++found.looks;
    Folio* folio = zone.ages.take();
    const u32 size = folio == nullptr ? 1 : folio->pages();
    found.looked += size;
    if (folio == nullptr) continue;
    if (may_go(*folio, wanted)) {
      found.pages += size;
      found.folios[found.count++] = folio;
    } else {
      zone.ages.add(*folio);
    }
  }
  count_event(VmEvent::Activate, zone.ages.activated() - activated);
  count_event(VmEvent::Deactivate, zone.ages.deactivated() - deactivated);
}

void put_back(CachedZone& zone, std::span<Folio*> folios) {
  for (Folio* folio : folios) {
    {
      const SpinGuard<IrqSave> guard{zone.lock};
      zone.ages.add(*folio);
    }
    folio->unlock();
  }
}

/// Pages dropped.
u32 drop(CachedZone& zone, Candidates& candidates) {
  u32 dropped = 0;
  SpareNodes spare;
  for (u32 at = 0; at < candidates.count;) {
    // In its file while it is locked, and so there is a file.
    AddressSpace& space = *candidates.folios[at]->space();
    u32 end = at + 1;
    while (end < candidates.count && candidates.folios[end]->space() == &space) ++end;
    const std::span<Folio*> run{candidates.folios + at, end - at};
    const CacheOps::Evicted gone = CacheOps::evict(space, run, spare);
    dropped += gone.pages;
    FolioOps::end_all(run.first(gone.folios));
    put_back(zone, run.subspan(gone.folios));
    at = end;
  }
  give_nodes(spare);
  cache_counters.pages.fetch_sub(dropped, std::memory_order_relaxed);
  return dropped;
}

/// One word, read without its lock: a hint.
u32 evictable(u32 zone) NO_THREAD_SAFETY_ANALYSIS { return zones[zone].ages.pages(); }

/// The zone that gives next; ZoneShares::kNone if none of them has anything.
u32 next_victim(ZoneMask wanted) {
  if (follows(OldRule::NodeWideLists)) return evictable(kAllInOne) != 0 ? kAllInOne : ZoneShares::kNone;
  const SpinGuard<IrqSave> guard{shares_lock};
  for (u32 zone = 0; zone < kZoneCount; ++zone) shares.resize(zone, evictable(zone));
  return shares.next(wanted.bits());
}

void note_scanned(u32 zone, u32 pages) {
  const SpinGuard<IrqSave> guard{shares_lock};
  if (pages != 0 && shares.has_pages(zone)) shares.scanned(zone, pages);
}

u32 looks_at_all(ZoneMask wanted) NO_THREAD_SAFETY_ANALYSIS {
  u32 folios = 0;
  for (u32 zone = 0; zone < kZoneCount; ++zone) {
    if (wanted.has(zone) || follows(OldRule::NodeWideLists)) folios += zones[zone].ages.count();
  }
  return 4 * folios;
}

}  // namespace

CacheOps::Evicted CacheOps::evict(AddressSpace& space, std::span<Folio*> folios, SpareNodes& spare) {
  Evicted gone{};
  PageIndex::Finger finger;
  const SpinGuard<IrqSave> guard{space.lock_};
  for (Folio*& folio : folios) {
    if (folio->has_any(FolioFlag::Dirty, FolioFlag::WriteBack)) continue;
    // The tree's reference: nobody can get another one but here. Nor to the pages, which programs map: a page that is
    // mapped and a page that is read must be the same.
    if (folio->page()->references() != 1 || !FolioOps::take_last(*folio)) continue;
    const u32 pages = folio->pages();
    space.index_.remove(folio->index(), pages, spare, finger);
    gone.pages += pages;
    std::swap(folios[gone.folios++], folio);
  }
  space.pages_.fetch_sub(gone.pages, std::memory_order_relaxed);
  return gone;
}

// Without sleeping.
u32 evict_pages(u32 pages, ZoneMask wanted, Evictor who, Thoroughness how) {
  u32 dropped = 0, looked = 0;
  const u32 all = looks_at_all(wanted),
            few = cache_counters.dirty.load(std::memory_order_relaxed) != 0 ? kFewLooks : all;
  for (u32 left = how == Thoroughness::All ? all : std::min(all, few); left != 0 && dropped < pages;) {
    const u32 zone = next_victim(wanted);
    if (zone == ZoneShares::kNone) break;
    Candidates found;
    take_oldest(zones[zone], pages - dropped, wanted, found);
    note_scanned(zone, found.looked);
    looked += found.looked;
    left -= std::min(left, std::max(found.looks, 1u));
    dropped += drop(zones[zone], found);
  }
  count_event(who == Evictor::Kswapd ? VmEvent::ScanKswapd : VmEvent::ScanDirect, looked);
  count_event(who == Evictor::Kswapd ? VmEvent::StealKswapd : VmEvent::StealDirect, dropped);
  cache_counters.evicted.fetch_add(dropped, std::memory_order_relaxed);
  return dropped;
}

CachedPages cached_pages_in(ZoneId id) NO_THREAD_SAFETY_ANALYSIS {
  const auto& ages = zones[std::to_underlying(id)].ages;
  return {.active = ages.active_pages(), .inactive = ages.inactive_pages()};
}

u32 eviction_history() {
  const SpinGuard<IrqSave> guard{shares_lock};
  return shares.history();
}

void start_eviction_history() {
  const SpinGuard<IrqSave> guard{shares_lock};
  shares = {};
}

void add_to_ages(Folio& folio) {
  CachedZone& zone = list_of(folio);
  const SpinGuard<IrqSave> guard{zone.lock};
  zone.ages.add(folio);
}

void remove_from_ages(Folio& folio) {
  CachedZone& zone = list_of(folio);
  const SpinGuard<IrqSave> guard{zone.lock};
  zone.ages.remove(folio);
}

u32 shrink_page_cache(u32 pages) {
  u32 dropped = 0;
  while (true) {
    dropped += evict_pages(pages - dropped, ZoneMask::all(), Evictor::Request, Thoroughness::All);
    if (dropped >= pages || !wait_for_clean_pages()) return dropped;
  }
}

bool give_cached_pages(ZoneId highest, u32 pages, Evictor who, Thoroughness how) {
  if (evict_pages(pages, ZoneMask::up_to(highest), who, how) != 0) return true;
  // No cached page lies there. What describes others may: whole slabs of it have to become free.
  if (!is_low(highest) || evict_pages(kDescriptorBatch, ZoneMask::all(), who, how) == 0) return false;
  (void)shrink_caches();
  return true;
}

bool reclaim_page_cache(const ReclaimRequest& request) {
  if (cache_counters.folios.load(std::memory_order_relaxed) == 0 || !request.may_wait()) return false;
  const u32 pages = std::max(request.order.pages() * 4, kBatch);
  const auto how = request.may_start_io() ? Thoroughness::Few : Thoroughness::All;
  if (give_cached_pages(request.flags.zone(), pages, Evictor::Request, how)) return true;
  if (request.may_start_io() && wait_for_clean_pages()) return true;
  // What is dirty does not become clean: look behind it.
  return how == Thoroughness::Few &&
         give_cached_pages(request.flags.zone(), pages, Evictor::Request, Thoroughness::All);
}

}  // namespace paean
