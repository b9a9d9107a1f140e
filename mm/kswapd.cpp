// The thread that keeps memory free, and its helper.
#include "mm/kswapd.hpp"

#include <algorithm>

#include "arch/interrupts.hpp"
#include "kernel/wait.hpp"
#include "mm/lending.hpp"
#include "mm/lowmem_warning.hpp"
#include "mm/page_cache_internal.hpp"
#include "mm/page_stacks.hpp"
#include "mm/shrink.hpp"
#include "mm/slab.hpp"
#include "mm/vm_events.hpp"
#include "mm/vmalloc_cache.hpp"
#include "mm/zone.hpp"

namespace paean {

namespace {

constexpr u32 kTickMs = 1000 / arch::kTicksPerSecond;
constexpr u32 kPatienceMs = 500;                      // who waits may hold the lock that a shrinker waits for
constexpr u32 kHelperMs = 100;                        // so long for those that may wait for a disk
constexpr u32 kNothingTicks = 100 / kTickMs;          // when there was nothing to give, the next round is a while away
constexpr u32 kRestTicks = 1000 / kTickMs;            // when it was no help
constexpr u32 kStuckTicks = 20 / kTickMs;             // when all that is cached is dirty, or in use
constexpr u32 kGentlest = 4;                          // a sixteenth of everything
constexpr u32 kRecallMore = 64;                       // lent pages, beyond the high watermark
constexpr u32 kTurnsAtEach = 4;                       // before more is asked for
constexpr u32 kHelpfulRound = 32, kHelpfulPages = 4;  // pages of lowmem by a round; by a turn of the page cache
constexpr u32 kBatch = 64, kMostAtOnce = 1024;        // pages

constinit std::atomic<Thread*> kswapd{nullptr}, helper_thread{nullptr};
constinit std::atomic<u32> rounds{0};
constinit std::atomic<u32> nothing_until{0};  // ticks: nothing was to be had in lowmem just now
constinit WaitQueue work, round_over;
constinit std::atomic<u32> helper_asked{0}, helper_done{0}, helper_eagerness{0};
constinit WaitQueue helper_work, helper_over;

bool is_past(u32 ticks) { return static_cast<i32>(ticks_now() - ticks) >= 0; }

/// One of the two things that the thread is asked for.
struct Duty {
  std::atomic<u32> asked{0};
  std::atomic<u32> again_at{0};  // ticks: not before
  void ask() {
    if (asked.exchange(1) == 0) work.wake_all();
  }
  bool is_due() const { return asked.load() != 0 && is_past(again_at.load()); }
  void rest(u32 ticks) { again_at.store(ticks_now() + ticks); }
};
constinit Duty lowmem, balance;
constinit std::atomic<u32> needed{0};           // lowmem, by somebody who is about to fail
constinit std::atomic<u32> balance_highest{0};  // zones up to this one

/// One word, read without the zone's lock: a hint.
u32 free_in(const Zone& z) NO_THREAD_SAFETY_ANALYSIS { return z.buddy.free_pages(); }
u32 free_lowmem() { return free_in(zone(ZoneId::Normal)); }
bool is_short(PageCount Zone::* mark) { return free_lowmem() < (zone(ZoneId::Normal).*mark).count(); }

/// How much below the mark, for requests that could use zones up to `highest`.
u32 missing(const Zone& z, PageCount Zone::* mark, ZoneId highest) {
  const u32 wanted = (z.*mark).count() + z.reserve[std::to_underlying(highest)].count(), free = free_in(z);
  return free < wanted && !z.empty() ? wanted - free : 0;
}

bool helper_is_busy() { return helper_asked.load() != helper_done.load(); }

void helper_main(void* /*unused*/) {
  while (true) {
    helper_work.wait(helper_is_busy);
    (void)run_shrinkers(helper_eagerness.load(), Shrinker::Pace::WaitsForDisks);
    helper_done.store(helper_asked.load());
    helper_over.wake_all();
  }
}

/// Has it done its part? Nobody waits for it while it is late with an earlier one.
bool ask_helper(u32 eagerness) {
  if (helper_is_busy()) return false;
  helper_eagerness.store(eagerness);
  helper_asked.fetch_add(1);
  helper_work.wake_all();
  return helper_over.wait_for_ms(kHelperMs, [] { return !helper_is_busy(); });
}

/// Are cached pages still asked for in this round?
enum class CacheHelp : u8 { Asked, None };

/// Has anything become free?
bool take_cached_pages(CacheHelp& pages) {
  if (pages == CacheHelp::None) return false;
  const u32 before = free_lowmem();
  const bool any = give_cached_pages(ZoneId::Normal, kBatch, Evictor::Kswapd, Thoroughness::Few);
  drain_local_pages();
  if (free_lowmem() < before + kHelpfulPages) pages = CacheHelp::None;
  return any;
}

/// Cached pages and cached objects lose alike. Has anything become free?
bool give_back_some(u32 eagerness, CacheHelp& cached) {
  const bool pages = take_cached_pages(cached);
  const bool objects = run_shrinkers(eagerness, Shrinker::Pace::Prompt) != 0;
  const u32 before = free_lowmem();
  const bool helped = ask_helper(eagerness);
  const bool slabs = shrink_caches() != 0;
  drain_local_pages();  // where others find them
  return pages || objects || slabs || (helped && free_lowmem() > before);
}

/// Gentle first. Has anything become free?
bool give_back() {
  CacheHelp cached = CacheHelp::Asked;
  bool any = give_back_parked();
  any |= trim_descriptors() != 0;
  // First what costs nobody anything: lent pages go where there is room.
  if (const u32 free = free_lowmem(), wanted = zone(ZoneId::Normal).high.count() + kRecallMore; free < wanted) {
    any |= recall_lent_pages(wanted - free) != 0;
    drain_local_pages();
    if (!is_short(&Zone::high)) return any;
  }
  for (u32 eagerness = kGentlest + 1; eagerness-- != 0;) {
    for (u32 turn = 0; turn < kTurnsAtEach; ++turn) {
      const bool some = give_back_some(eagerness, cached);
      any = any || some;
      if (!is_short(&Zone::high)) return any;
      if (!some) break;
    }
  }
  return any;
}

void look_after_lowmem() {
  lowmem.asked.store(0);
  const bool urgent = needed.exchange(0) != 0;
  // Asked for before a rest that is over, perhaps: what has helped itself meanwhile costs nobody his cached objects.
  if (!urgent && !is_short(&Zone::high)) return;
  if (is_short(&Zone::low)) warn_of_lowmem();
  const u32 before = free_lowmem();
  const bool any = give_back();
  if (!any) nothing_until.store(ticks_now() + kNothingTicks);
  if (free_lowmem() < before + kHelpfulRound) lowmem.rest(kRestTicks);
  rounds.fetch_add(1);
  round_over.wake_all();
}

/// Until no zone is under its high mark, or lowmem is more urgent.
void balance_zones() {
  balance.asked.store(0);
  const auto highest = static_cast<ZoneId>(balance_highest.exchange(0));
  count_event(VmEvent::KswapdRuns);
  while (needed.load() == 0) {
    ZoneMask short_ones;
    u32 pages = 0;
    for (const ZoneId id : kAllZones) {
      const u32 lacks = id <= highest ? missing(zone(id), &Zone::high, highest) : 0;
      const CachedPages cached = cached_pages_in(id);
      if (lacks == 0 || cached.active + cached.inactive == 0) continue;
      short_ones.add(id);
      pages += lacks;
    }
    if (short_ones.empty()) return;
    const bool any = evict_pages(std::min(pages, kMostAtOnce), short_ones, Evictor::Kswapd, Thoroughness::Few) != 0;
    drain_local_pages();  // where others find them
    if (any) continue;
    start_cleaning();
    return balance.rest(kStuckTicks);
  }
}

void wait_for_work() {
  const auto due = [] { return needed.load() != 0 || lowmem.is_due() || balance.is_due(); };
  while (!due()) {
    if (lowmem.asked.load() != 0 || balance.asked.load() != 0)
      (void)work.wait_for_ms(kTickMs, due);
    else
      work.wait([] { return needed.load() != 0 || lowmem.asked.load() != 0 || balance.asked.load() != 0; });
  }
}

void kswapd_main(void* /*unused*/) {
  while (true) {
    wait_for_work();
    if (needed.load() != 0 || lowmem.is_due()) look_after_lowmem();
    if (balance.is_due()) balance_zones();
  }
}

Thread* start(const char* name, void (*main)(void*), Priority priority) {
  const Result<Thread*> thread = thread_create(name, main, nullptr, {.priority = priority, .detach = Detach::Yes});
  if (!thread) panic("no memory for the threads that keep memory free");
  return *thread;
}

/// Those who do what others would wait for, and so must not wait for it themselves.
bool is_one_of_us(const Thread* thread) { return thread == kswapd.load() || thread == helper_thread.load(); }

/// Is every zone that such a request could use under its low mark?
bool all_are_short(ZoneId highest) {
  for (u32 i = std::to_underlying(highest) + 1; i-- != 0;) {
    const Zone& z = zone(static_cast<ZoneId>(i));
    if (!z.empty() && missing(z, &Zone::low, highest) == 0) return false;
  }
  return true;
}

}  // namespace

void init_kswapd() {
  helper_thread.store(start("kswapd-io", helper_main, Priority::Normal));
  kswapd.store(start("kswapd", kswapd_main, Priority::High));
}

void watch_zones(ZoneId highest) {
  const bool low = is_short(&Zone::low), all = all_are_short(highest);
  if ((!low && !all) || kswapd.load(std::memory_order_relaxed) == nullptr) [[likely]]
    return;
  if (low) lowmem.ask();
  if (!all) return;
  u32 seen = balance_highest.load();
  while (seen < std::to_underlying(highest) &&
         !balance_highest.compare_exchange_weak(seen, std::to_underlying(highest))) {}
  balance.ask();
}

bool wait_for_shrinkers(AllocFlags flags, Order order) {
  if (kswapd.load() == nullptr || !is_past(nothing_until.load())) return false;
  if (is_one_of_us(current_thread()) || is_write_back_thread()) return false;
  if (flags.has(AllocFlags::Atomic) || flags.has(AllocFlags::NoIo) || flags.zone() == ZoneId::Dma) return false;
  if (order != Order{0} && !is_low(flags.zone()) && !is_short(&Zone::high)) return false;
  if (preempt_count.get() != 0 || !arch::irqs_enabled()) return false;
  const u32 seen = rounds.load();
  needed.store(1);
  lowmem.asked.store(1);
  work.wake_all();
  (void)round_over.wait_for_ms(kPatienceMs, [seen] { return rounds.load() != seen; });
  return true;
}

u32 shrink_rounds() { return rounds.load(); }

}  // namespace paean
