#include "mm/swap.hpp"

#include "kernel/fault.hpp"
#include "lib/log.hpp"
#include "mm/swap_turn.hpp"
#include "mm/user_swap.hpp"
#include "mm/vm_events.hpp"

namespace paean {

namespace {

FAULT_SITE(swap_slot, "slots of the swap for pages");
FAULT_SITE(swap_read, "a page that comes back from the swap");
FAULT_SITE(swap_write, "pages on their way to the swap");

/// As Linux has it where nobody says otherwise: the first area is used first.
constexpr i32 kFirstPriority = -2;
constexpr u32 kMostShown = 255;  // of a path

struct SwapArea {
  SwapStore* store = nullptr;  // nullptr: the place is free
  SwapMap* map = nullptr;
  i32 priority = 0;
  bool leaving = false;  // gives no more slots
};

/// A leaf, taken under the lock of page tables: nothing else is taken with it held.
constinit SpinLock swap_lock{LockRank::Swap};
constinit SwapArea areas[SwapEntry::kMostAreas] GUARDED_BY(swap_lock);
constinit std::atomic<u32> read_errors{0}, write_errors{0};

/// The one with the highest priority below `below`; nullptr if there is none.
SwapArea* next_area(i32 below) REQUIRES(swap_lock) {
  SwapArea* best = nullptr;
  for (SwapArea& area : areas) {
    if (area.store == nullptr || area.priority >= below) continue;
    if (best == nullptr || area.priority > best->priority) best = &area;
  }
  return best;
}

SwapArea* find_area(std::string_view path) REQUIRES(swap_lock) {
  for (SwapArea& area : areas) {
    if (area.store != nullptr && area.store->path() == path) return &area;
  }
  return nullptr;
}

SwapArea& area_of(SwapEntry entry) REQUIRES(swap_lock) {
  SwapArea& area = areas[entry.area()];
  ASSERT(area.store != nullptr);
  return area;
}

/// While a slot of it is used, or it is somebody's turn, the store stays.
SwapStore& store_of(u32 area) {
  const SpinGuard<IrqSave> guard{swap_lock};
  return *area_of(SwapEntry{area, 0}).store;
}

bool is_empty(u32 area) {
  const SpinGuard<IrqSave> guard{swap_lock};
  return areas[area].map->used() == 0;
}

}  // namespace

Result<> add_swap(SwapStore& store, SwapMap& map) {
  const SpinGuard<IrqSave> guard{swap_lock};
  if (find_area(store.path()) != nullptr) return std::unexpected(Error::Exists);
  i32 priority = kFirstPriority;
  SwapArea* free = nullptr;
  for (SwapArea& area : areas) {
    if (area.store == nullptr) {
      if (free == nullptr) free = &area;
    } else if (area.priority <= priority) {
      priority = area.priority - 1;
    }
  }
  if (free == nullptr) return std::unexpected(Error::NoSpace);
  *free = SwapArea{.store = &store, .map = &map, .priority = priority};
  return {};
}

Result<SwapStore*> remove_swap(std::string_view path) {
  const MutexGuard turn{swap_turn};
  u32 index;
  {
    const SpinGuard<IrqSave> guard{swap_lock};
    SwapArea* area = find_area(path);
    if (area == nullptr) return std::unexpected(Error::NotFound);
    area->leaving = true;
    index = static_cast<u32>(area - areas);
  }
  const Result<> back = swap_in_everything(index, is_empty);
  const SpinGuard<IrqSave> guard{swap_lock};
  SwapArea& area = areas[index];
  area.leaving = false;
  if (!back) return std::unexpected(back.error());
  return std::exchange(area, SwapArea{}).store;
}

SwapRun take_swap_slots(u32 most) {
  if (must_fail(fault_swap_slot)) return {};
  const SpinGuard<IrqSave> guard{swap_lock};
  for (i32 below = 0; SwapArea* area = next_area(below); below = area->priority) {
    if (area->leaving) continue;
    const SwapMap::Run run = area->map->allocate(most);
    if (run.slots != 0) return {static_cast<u32>(area - areas), run.first, run.slots};
  }
  return {};
}

bool share_swap_slot(SwapEntry entry) {
  const SpinGuard<IrqSave> guard{swap_lock};
  return area_of(entry).map->share(entry.slot());
}

void hold_swap_slot(SwapEntry entry) {
  const SpinGuard<IrqSave> guard{swap_lock};
  area_of(entry).map->hold(entry.slot());
}

void release_swap_slot(SwapEntry entry) {
  const SpinGuard<IrqSave> guard{swap_lock};
  (void)area_of(entry).map->release(entry.slot());
}

Result<> read_swap_slots(SwapEntry first, std::span<Page* const> into) {
  SwapStore& store = store_of(first.area());
  const Result<> read = must_fail(fault_swap_read) ? std::unexpected(Error::Io) : store.read(first.slot(), into);
  if (read) {
    count_event(VmEvent::SwapIn, into.size());
    return read;
  }
  read_errors.fetch_add(1, std::memory_order_relaxed);
  log_warning("Read-error on swap-device {}, page {}: {}", store.path(), first.slot(), error_name(read.error()));
  return read;
}

Result<> write_swap_slots(const SwapRun& run, std::span<Page* const> pages) {
  SwapStore& store = store_of(run.area);
  const Result<> written = must_fail(fault_swap_write) ? std::unexpected(Error::Io) : store.write(run.first, pages);
  if (written) {
    count_event(VmEvent::SwapOut, pages.size());
    return written;
  }
  write_errors.fetch_add(1, std::memory_order_relaxed);
  log_warning("Write-error on swap-device {}, page {}: {}", store.path(), run.first, error_name(written.error()));
  return written;
}

SwapTotals swap_totals() {
  const SpinGuard<IrqSave> guard{swap_lock};
  SwapTotals totals{.total = 0,
                    .free = 0,
                    .in = vm_events(VmEvent::SwapIn),
                    .out = vm_events(VmEvent::SwapOut),
                    .read_errors = read_errors.load(),
                    .write_errors = write_errors.load()};
  for (const SwapArea& area : areas) {
    if (area.store == nullptr) continue;
    totals.total += area.map->usable();
    if (!area.leaving) totals.free += area.map->usable() - area.map->used();
  }
  return totals;
}

void print_swaps(Sink& out) {
  format_to(out, "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n");
  for (i32 below = 0;;) {
    char path[kMostShown + 1];
    BufferSink text{path};
    std::string_view kind;
    u64 size, used;
    {
      const SpinGuard<IrqSave> guard{swap_lock};
      const SwapArea* area = next_area(below);
      if (area == nullptr) return;
      below = area->priority;
      format_to(text, "{}", area->store->path());
      kind = area->store->kind();
      size = PageCount{area->map->usable()}.kib();
      used = PageCount{area->map->used()}.kib();
    }
    constexpr u64 kOneTab = 10'000'000;  // a number as wide as a tab stop needs no second one
    format_to(out, "{:<39} {}{}\t{}\t{}{}\t{}{}\n", text.view(), kind, kind.size() < 8 ? "\t" : "", size,
              size < kOneTab ? "\t" : "", used, used < kOneTab ? "\t" : "", below);
  }
}

}  // namespace paean
