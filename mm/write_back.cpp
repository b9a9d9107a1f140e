// Write-back: which files have something to write, when it is written, and who waits for that.
#include <algorithm>

#include "arch/interrupts.hpp"
#include "mm/page_cache_internal.hpp"
#include "mm/reclaim_rules.hpp"
#include "mm/vm_events.hpp"
#include "mm/zone.hpp"

namespace paean {

namespace {

using arch::kTicksPerSecond;

constexpr u32 kThreads = 2;  // one device that is slow does not hold up another one
constexpr u32 kOldTicks = 5 * kTicksPerSecond;
constexpr u32 kLookMs = 1000;
// Eight megabytes keep every disk busy; more only takes memory for requests.
constexpr u32 kMostInFlight = 2048;
// No page written for so long: the writer goes on, lest it holds the lock that write-back waits for.
constexpr u32 kPatienceMs = 500;
// Lowmem that descriptors and nodes of dirty pages may take: a quarter, at 40 bytes a page.
constexpr u32 kDirtyPagesPerLowPage = kPageSize / 4 / 40;

constinit SpinLock files_lock{LockRank::Folios};
constinit CacheOps::Files files GUARDED_BY(files_lock);
constinit WaitQueue unpinned;  // files lose their last writer
constinit WaitQueue work;      // for the threads
constinit WaitQueue progress;  // pages have been written
constinit std::atomic<u32> asked{0};
constinit std::atomic<u32> listed{0};
constinit std::atomic<u32> pages_written{0};
constinit std::atomic<u32> fixed_limit{0};
constinit std::atomic<Thread*> threads[kThreads];

struct ComputedLimits {
  static constexpr u32 kNever = ~0u;  // a boot begins at tick 0
  std::atomic<u32> most{0}, background{0}, computed_at{kNever};
};
constinit ComputedLimits limits;

u32 unwritten_pages() {
  return cache_counters.dirty.load(std::memory_order_relaxed) +
         cache_counters.write_back.load(std::memory_order_relaxed);
}

void compute_limits() {
  u32 most = fixed_limit.load(std::memory_order_relaxed);
  if (most == 0) {
    const MemoryTotals low = low_totals(), high = high_totals();
    const u32 usable = (low.free + high.free).count() + cache_counters.pages.load(std::memory_order_relaxed);
    most = std::clamp(usable / 5, 64u, low.total.count() * kDirtyPagesPerLowPage);
    if (follows(OldRule::LowmemDirtyLimits)) most = low.total.count() / 5;
  }
  limits.most.store(most, std::memory_order_relaxed);
  limits.background.store(most / 2, std::memory_order_relaxed);
  limits.computed_at.store(ticks_now(), std::memory_order_relaxed);
}

void ask_threads() {
  if (asked.exchange(1) == 0) work.wake_all();
}

/// Waits until pages have been written, at most so long.
bool wait_for_progress(u32 seen) {
  return progress.wait_for_ms(kPatienceMs, [seen] { return pages_written.load() != seen; });
}

/// The first file that is `wanted`, pinned and moved to the end of the list; nullptr if there is none.
template <typename Wanted>
AddressSpace* pin_next(Wanted wanted) {
  const SpinGuard<IrqSave> guard{files_lock};
  AddressSpace* file = files.first();
  while (file != nullptr && !wanted(*file)) file = CacheOps::Files::behind(*file);
  if (file == nullptr) return nullptr;
  files.move_to_back(*file);
  ++CacheOps::pins(*file);
  return file;
}

void unpin(AddressSpace& file) {
  bool last;
  {
    const SpinGuard<IrqSave> guard{files_lock};
    last = --CacheOps::pins(file) == 0;
    if (CacheOps::is_listed(file) && CacheOps::unwritten(file) == 0) {
      files.erase(file);
      CacheOps::is_listed(file) = false;
      listed.fetch_sub(1);
    }
  }
  if (last) unpinned.wake_all();
}

enum class Why : u8 { Age, Memory };

void write_files(Why why) {
  for (u32 left = listed.load(); left != 0; --left) {
    AddressSpace* file = pin_next([](AddressSpace&) { return true; });
    if (file == nullptr) return;
    const u32 now = ticks_now();
    if (why == Why::Memory || now - CacheOps::dirtied_at(*file) >= kOldTicks) {
      CacheOps::dirtied_at(*file) = now;
      (void)file->start_write_back(~0u);
    }
    unpin(*file);
  }
}

void write_back_main(void* /*unused*/) {
  while (true) {
    work.wait([] { return listed.load() != 0; });
    (void)work.wait_for_ms(kLookMs, [] { return asked.load() != 0; });
    const bool hurry = asked.exchange(0) != 0 || unwritten_pages() > limits.background.load();
    write_files(hurry ? Why::Memory : Why::Age);
  }
}

}  // namespace

void init_write_back() {
  for (u32 i = 0; i < kThreads; ++i) {
    const Result<Thread*> thread = thread_create("writeback", write_back_main, nullptr, {.detach = Detach::Yes});
    if (!thread) panic("no memory for the write-back threads");
    threads[i].store(*thread);
  }
}

bool is_write_back_thread() {
  const Thread* me = current_thread();
  return std::ranges::any_of(threads, [me](const std::atomic<Thread*>& thread) { return thread.load() == me; });
}

DirtyLimits dirty_limits() {
  compute_limits();
  return {.most = limits.most.load(), .background = limits.background.load()};
}

void set_dirty_limit(u32 pages) {
  fixed_limit.store(pages, std::memory_order_relaxed);
  compute_limits();
}

void list_unwritten(AddressSpace& space) {
  {
    const SpinGuard<IrqSave> guard{files_lock};
    CacheOps::dirtied_at(space) = ticks_now();
    if (CacheOps::is_listed(space)) return;
    CacheOps::is_listed(space) = true;
    files.push_back(space);
    if (listed.fetch_add(1) != 0) return;
  }
  work.wake_all();
}

void forget_unwritten(AddressSpace& space) {
  const auto unused = [&space] {
    const SpinGuard<IrqSave> guard{files_lock};
    if (CacheOps::pins(space) != 0) return false;
    if (CacheOps::is_listed(space)) {
      files.erase(space);
      CacheOps::is_listed(space) = false;
      listed.fetch_sub(1);
    }
    return true;
  };
  if (!unused()) unpinned.wait(unused);
}

void note_written() {
  pages_written.fetch_add(1);
  if (progress.waiting() != 0) progress.wake_all();
}

void throttle_writer() {
  if (limits.computed_at.load(std::memory_order_relaxed) != ticks_now()) [[unlikely]]
    compute_limits();
  const u32 dirty = unwritten_pages();
  if (dirty <= limits.background.load(std::memory_order_relaxed)) [[likely]]
    return;
  ask_threads();
  if (dirty <= limits.most.load(std::memory_order_relaxed) || is_write_back_thread()) return;
  cache_counters.throttled.fetch_add(1, std::memory_order_relaxed);
  while (true) {
    const u32 seen = pages_written.load();
    if (unwritten_pages() <= limits.most.load(std::memory_order_relaxed)) return;
    ask_threads();
    if (!wait_for_progress(seen)) return;
  }
}

void start_cleaning() {
  if (unwritten_pages() != 0) ask_threads();
}

bool wait_for_clean_pages() {
  if (unwritten_pages() == 0 || is_write_back_thread()) return false;
  const u32 seen = pages_written.load();
  ask_threads();
  return wait_for_progress(seen);
}

void wait_for_write_room() {
  while (cache_counters.write_back.load(std::memory_order_relaxed) > kMostInFlight) {
    const u32 seen = pages_written.load();
    if (cache_counters.write_back.load(std::memory_order_relaxed) <= kMostInFlight || !wait_for_progress(seen)) return;
  }
}

Result<> sync_page_cache() {
  static constinit std::atomic<u32> rounds{0};
  const u32 round = rounds.fetch_add(1) + 1;
  Result<> result{};
  while (true) {
    AddressSpace* file = pin_next([round](AddressSpace& first) {
      const bool seen = static_cast<i32>(CacheOps::round(first) - round) >= 0;
      if (!seen) CacheOps::round(first) = round;
      return !seen;
    });
    if (file == nullptr) return result;
    const Result<> written = CacheOps::write_everything(*file);
    if (result) result = written ? CacheOps::pending_error(*file) : written;
    unpin(*file);
  }
}

bool AddressSpace::begin_write(Folio& folio) {
  if (!folio.has(FolioFlag::Dirty) || folio.has(FolioFlag::WriteBack)) return false;
  FolioOps::set(folio, FolioFlag::WriteBack);
  FolioOps::clear(folio, FolioFlag::Dirty);
  index_.clear_mark(folio.index(), IndexMark::Dirty);
  index_.set_mark(folio.index(), IndexMark::WriteBack);
  write_back_.fetch_add(folio.pages(), std::memory_order_relaxed);
  dirty_.fetch_sub(folio.pages(), std::memory_order_relaxed);
  cache_counters.write_back.fetch_add(folio.pages(), std::memory_order_relaxed);
  cache_counters.dirty.fetch_sub(folio.pages(), std::memory_order_relaxed);
  return true;
}

FolioRef AddressSpace::begin_next_write(u32 from) {
  const SpinGuard<IrqSave> guard{lock_};
  while (true) {
    auto* folio = static_cast<Folio*>(index_.next_marked(from, IndexMark::Dirty).entry);
    if (folio == nullptr) return {};
    if (begin_write(*folio)) return FolioOps::reference(*folio);
    from = folio->index() + folio->pages();
  }
}

u32 AddressSpace::start_write_back(u32 pages) {
  constexpr u32 kTogether = 16;
  Folio* folios[kTogether];  // nobody takes away what is under write-back
  u32 started = 0;
  for (u32 from = 0, count = kTogether; count == kTogether && started < pages;) {
    wait_for_write_room();  // with nothing in hand that the store has not got
    for (count = 0; count < kTogether && started < pages; ++count) {
      const FolioRef folio = begin_next_write(from);
      if (!folio) break;
      from = folio->index() + folio->pages();
      started += folio->pages();
      folios[count] = &*folio;
    }
    if (count != 0) store_.write_folios(*this, {folios, count});
  }
  return started;
}

FolioRef AddressSpace::next_unwritten(u32 from) const {
  const SpinGuard<IrqSave> guard{lock_};
  auto* dirty = static_cast<Folio*>(index_.next_marked(from, IndexMark::Dirty).entry);
  auto* writing = static_cast<Folio*>(index_.next_marked(from, IndexMark::WriteBack).entry);
  Folio* first = dirty == nullptr || (writing != nullptr && writing->index() < dirty->index()) ? writing : dirty;
  return first == nullptr ? FolioRef{} : FolioOps::reference(*first);
}

Result<> AddressSpace::write_everything() {
  (void)start_write_back(~0u);
  Result<> result{};
  for (u32 from = 0;;) {
    const FolioRef folio = next_unwritten(from);
    if (!folio) return result;
    from = folio->index() + folio->pages();
    folio->wait_until_written();
    // Changed while it was on its way, so what was dirty when we came may not have gone with it.
    const auto again = [&] {
      const SpinGuard<IrqSave> guard{lock_};
      return !folio->has(FolioFlag::Gone) && begin_write(*folio);
    };
    if (again()) store_.write_folio(*this, *folio);
    folio->wait_until_written();  // somebody else may have been the one who began
    const bool failed = folio->has(FolioFlag::Failed) && folio->error() == Error::OutOfMemory;
    if (failed && folio->has(FolioFlag::Dirty)) result = std::unexpected(Error::OutOfMemory);
  }
}

Result<> AddressSpace::tell_errors(u32& known) {
  if (known == write_errors_) return {};
  known = told_errors_ = write_errors_;
  return std::unexpected(write_error_);
}

u32 AddressSpace::known_errors() const {
  const SpinGuard<IrqSave> guard{lock_};
  return told_errors_;
}

Result<> AddressSpace::errors_since(u32& known) {
  const SpinGuard<IrqSave> guard{lock_};
  return tell_errors(known);
}

Result<> AddressSpace::sync() {
  const Result<> written = store_.writes_back() ? write_everything() : Result<>{};
  const SpinGuard<IrqSave> guard{lock_};
  const Result<> errors = tell_errors(synced_errors_);
  return errors ? written : errors;
}

/// The file may be gone when this has given its lock back. False: it is to be tried again, for want of memory.
bool AddressSpace::written(Folio& folio, Result<> result) {
  const SpinGuard<IrqSave> guard{lock_};
  const bool again = !result && result.error() == Error::OutOfMemory;
  if (again) make_dirty(folio);
  index_.clear_mark(folio.index(), IndexMark::WriteBack);
  write_back_.fetch_sub(folio.pages(), std::memory_order_relaxed);
  cache_counters.write_back.fetch_sub(folio.pages(), std::memory_order_relaxed);
  count_event(VmEvent::Written, folio.pages());
  if (result) {
    FolioOps::clear(folio, FolioFlag::Failed);
  } else {
    FolioOps::set_error(folio, result.error());
    if (!again) {
      write_error_ = result.error();
      ++write_errors_;
      count_event(VmEvent::Lost, folio.pages());
    }
  }
  FolioOps::clear(folio, FolioFlag::WriteBack);
  return !again;
}

}  // namespace paean
