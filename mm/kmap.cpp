#include "mm/kmap.hpp"

#include "arch/address_space.hpp"
#include "arch/cpu.hpp"
#include "arch/fixmap.hpp"
#include "arch/tlb.hpp"
#include "kernel/fault.hpp"
#include "kernel/log_lines.hpp"
#include "kernel/preempt.hpp"
#include "kernel/wait.hpp"
#include "lib/log.hpp"
#include "mm/highmem.hpp"
#include "mm/kmap_block.hpp"
#include "mm/kmap_debug.hpp"
#include "mm/kmap_state.hpp"

namespace paean {

constinit arch::Pte* pkmap_entries = nullptr;
constinit u64 pkmap_flags = 0;
constinit Pkmap kmap_pool;
constinit SpinLock kmap_lock{LockRank::Kmap};
constinit KmapCounters kmap_counters;
constinit std::atomic<u32> kmap_wakes{0};
PER_CPU(u64, kmap_hits);
PER_CPU(u32, kmap_own_flushes);

namespace {

/// Threads in kmap or kmap_many that found no slot. Read by each put that frees a slot, written only by sleepers.
struct alignas(64) Waiters {
  std::atomic<u32> count{0};
};
constinit Waiters waiters;
constinit WaitQueue single_waiters;
constinit WaitQueue many_waiters;  // they need several slots: all look whenever one is free that no single wants

/// Who sleeps for which page: guarded by kmap_lock.
struct Sleeper {
  u32 key;
  Sleeper* next = nullptr;
};
constinit Sleeper* sleepers = nullptr;

/// Who needs one slot goes first, but not for ever.
[[gnu::noipa]] void wake_waiter() {
  constexpr u32 kTurnOfMany = 8;
  u32 woken = single_waiters.wake_one() ? 1 : 0;
  if (woken == 0 || kmap_wakes.load(std::memory_order_relaxed) % kTurnOfMany == 0) woken += many_waiters.wake_all();
  kmap_wakes.fetch_add(woken, std::memory_order_relaxed);
}

FAULT_SITE(kmap_slot, "a slot of the pool, where one may not sleep for it");

using Slot = Pkmap::Slot;
using Put = Pkmap::Put;
PER_CPU(u32, flushed_for);  // the youngest stamp that this CPU has flushed itself for
using Share = Pkmap::Share;
PER_CPU(Share*, share_now){kmap_pool.first_share()};  // the share of the pool that this CPU takes from

[[gnu::always_inline]] inline void count_hit() {
  asm volatile("addl $1, %%fs:%0; adcl $0, %%fs:4+%0" : "+m"(kmap_hits) : : "cc");
}

[[gnu::noipa]] void note_mapped_in_block(Page* page) {
  Page* head = page->type() == PageType::Slab ? page : block_head(page);
  if (head == nullptr || head->type() == PageType::Parked) {
    if (page->type() == PageType::Reserved) return;  // never freed
    return map_error(page);
  }
  if (!head->may_be_mapped()) head->note_mapped();
}
/// The word of the page's block remembers the map until the block is freed.
[[gnu::always_inline]] inline void note_mapped(Page* page) {
  if (!page->may_be_mapped()) note_mapped_in_block(page);
}

/// After a miss: a CPU that passes by flushes itself if there are stamps that it has not flushed for.
[[gnu::noipa]] void flush_this_cpu(u32 newest) {
  flushed_for.set(newest);
  kmap_own_flushes.set(kmap_own_flushes.get() + 1);
  arch::flush_tlb_all();
}
[[gnu::always_inline]] inline void flush_in_passing(u32 newest) {
  if (!flushed_for.is(newest)) [[unlikely]]
    flush_this_cpu(newest);
}

/// The number of the slot at an address of the window.
[[gnu::always_inline]] inline u32 pkmap_slot_at(const void* at) {
  return (reinterpret_cast<u32>(at) - arch::kPkmapStart.raw()) >> kPageShift;
}

/// Takes one user away, of whom we know that he was one.
void put_slot(Slot* slot) {
  const Put result = Pkmap::put(slot);
  ASSERT(result != Put::NotMapped);
  if (result == Put::Unused && waiters.count.load(std::memory_order_relaxed) != 0) wake_waiter();
}

/// Whoever lost a race in get() comes to where no slot is clean, or somebody has been woken since.
void wake_after_lost_race() {
  if (kmap_pool.take_lost() && waiters.count.load() != 0) wake_waiter();
}

/// The slot of a page that has one for sure. The look without the lock can lose its way: a slot in the chain that is
/// recycled, and taken for a page of another chain, leads there.
Slot* pin_held(u32 key) {
  if (Slot* slot = kmap_pool.get(key)) return slot;
  const SpinGuard<IrqSave> guard{kmap_lock};
  return kmap_pool.get(key);
}

/// Makes unused slots clean. False if there are none, or if this context may not wait for other CPUs.
[[gnu::noinline]] bool make_clean_slots() {
  wake_after_lost_race();
  const std::optional<u32> stamp = kmap_recycle_all();
  if (!stamp || (arch::online_cpus() > 1 && !arch::irqs_enabled())) return false;
  kmap_flush_others(*stamp);
  kmap_settle();
  return true;
}

[[gnu::noipa]] Share* refill_share() {
  Share* share = kmap_pool.refill(kmap_pool.share_of_cpu(arch::this_cpu()));
  if (share != nullptr) share_now.set(share);
  kmap_note_taken();
  return share;
}

/// With the lock held. A slot that the page has got meanwhile, or a clean one.
[[gnu::always_inline]] inline Slot* get_or_take(u32 key) {
  if (Slot* slot = kmap_pool.get(key)) [[unlikely]] {
    count_hit();
    return slot;
  }
  return kmap_pool.take(key, share_now.get(), refill_share);
}

/// The same for one page alone, with what a miss owes to the others.
[[gnu::always_inline]] inline Slot* get_or_take_with_reserve(u32 key) {
  Slot* slot = get_or_take(key);
  if (slot == nullptr) [[unlikely]]
    return nullptr;
  flush_in_passing(kmap_pool.newest());
  return slot;
}

/// A slot for the page if one is clean or can be made so without sleeping.
[[gnu::noinline]] Slot* map_without_sleeping(u32 key) {
  do {
    const SpinGuard<IrqSave> guard{kmap_lock};
    if (Slot* slot = get_or_take_with_reserve(key)) return slot;
  } while (make_clean_slots());
  return nullptr;
}

void add_sleeper(Sleeper& me) {
  waiters.count.fetch_add(1);
  const SpinGuard<IrqSave> guard{kmap_lock};
  me.next = sleepers;
  sleepers = &me;
  ++kmap_counters.sleeps;
}

/// True if others sleep for the same page.
bool remove_sleeper(Sleeper& me) {
  waiters.count.fetch_sub(1);
  const SpinGuard<IrqSave> guard{kmap_lock};
  bool shared = false;
  for (Sleeper** link = &sleepers; *link != nullptr;) {
    if (*link == &me) {
      *link = me.next;
      continue;
    }
    shared |= (*link)->key == me.key;
    link = &(*link)->next;
  }
  return shared;
}

[[gnu::noinline]] Slot* flush_or_sleep(u32 key, const void* caller) {
  Slot* slot = map_without_sleeping(key);
  if (slot != nullptr) return slot;
  might_sleep("kmap");
  check_no_hold_and_wait(caller);
  Sleeper me{key};
  add_sleeper(me);
  single_waiters.wait([&] {
    slot = map_without_sleeping(key);
    return slot != nullptr;
  });
  if (remove_sleeper(me)) {  // now his page is mapped for them too
    kmap_wakes.fetch_add(single_waiters.wake_all(), std::memory_order_relaxed);
  } else if (waiters.count.load() != 0) {  // the slot that he was woken for may be another sleeper's
    wake_waiter();
  }
  return slot;
}

/// kmap() ends in a jump here, so that its hit needs no frame.
[[gnu::noipa]] void* map_slowly(u32 key) {
  note_mapped(frame_words + key / Pkmap::kKeyStep);
  {
    const SpinGuard<IrqSave> guard{kmap_lock};
    if (const Slot* slot = get_or_take_with_reserve(key)) [[likely]] {
      note_held(+1);
      return slot->place.address;
    }
  }
  const Slot* slot = flush_or_sleep(key, __builtin_return_address(0));
  note_held(+1);
  return slot->place.address;
}

/// Pins a page that has a slot already.
Slot* get_cached(u32 key) {
  Slot* slot = pin_held(key);
  if (slot == nullptr) {
    wake_after_lost_race();
    return nullptr;
  }
  count_hit();
  note_held(+1);
  return slot;
}

/// Pins what has a slot; the others get nullptr, and this is how many they are. The lock is held.
u32 pin_cached(std::span<Page* const> pages, std::span<void*> at) {
  u32 missing = 0;
  for (u32 i = 0; i < pages.size(); ++i) {
    const Slot* slot = has_address(pages[i]) ? nullptr : kmap_pool.get(kmap_key(pages[i]));
    at[i] = has_address(pages[i]) ? direct_address(pages[i]) : slot != nullptr ? slot->place.address : nullptr;
    if (at[i] == nullptr) ++missing;
  }
  return missing;
}

void unpin_cached(std::span<Page* const> pages, std::span<void*> at) {
  for (u32 i = 0; i < pages.size(); ++i) {
    if (at[i] != nullptr && !has_address(pages[i])) put_slot(&kmap_pool.slot(pkmap_slot_at(at[i])));
  }
}

/// All pages or none.
bool map_all(std::span<Page* const> pages, std::span<void*> at) {
  for (;;) {
    u32 missing;
    {
      const SpinGuard<IrqSave> guard{kmap_lock};
      missing = pin_cached(pages, at);
      if (missing == 0 || kmap_pool.has_clean(missing)) {  // nobody else takes any until all of ours are taken
        for (u32 i = 0; i < pages.size(); ++i) {
          if (at[i] == nullptr)
            at[i] = get_or_take(kmap_key(pages[i]))->place.address;
          else if (!has_address(pages[i]))
            count_hit();
        }
        flush_in_passing(kmap_pool.newest());
        return true;
      }
    }
    unpin_cached(pages, at);  // whoever waits holds nothing
    if (!make_clean_slots()) return false;
    const SpinGuard<IrqSave> guard{kmap_lock};
    if (kmap_pool.parked() < missing) return false;
  }
}

/// The frame of the page table for an address of the window.
Pfn table_of(VirtAddr va) {
  const Pfn table = to_pfn(arch::walk_current(va).pt_page);
  ASSERT(to_low(table));  // allocate_boot_table() takes lowmem
  return table;
}

}  // namespace

void init_kmap(const CommandLine& options) {
  LogLines complaints{LogLevel::Warning};
  static constexpr std::string_view kForce[] = {"", "force"};
  direct_words = options.choice("kmap", kForce, 0, complaints) == 0 ? direct_map.end.raw() * sizeof(Page) : 0;
  u32 slots =
      static_cast<u32>(options.number_in("pkmap", kMinPkmapSlots, arch::kPkmapSlots, kDefaultPkmapSlots, complaints));
  const Pfn first = table_of(arch::kPkmapStart), second = table_of(arch::kPkmapStart + kLargePageSize);
  pkmap_entries = static_cast<arch::PageTable*>(to_low(first)->pointer())->entries;
  if (first + PageCount{1} != second && slots > arch::kEntriesPerTable) {  // boot memory in very small pieces
    slots = arch::kEntriesPerTable;
    log_warning("pkmap: only {} slots, its page tables are not adjacent", slots);
  }
  pkmap_flags = arch::leaf_flags_rw | (arch::cpu_features().pge ? arch::pte_bits::kGlobal : 0);
  kmap_pool.init(slots);
  init_block_windows(pkmap_flags);
  init_local_maps();
}

void share_out_kmaps() {
  const SpinGuard<IrqSave> guard{kmap_lock};
  if (!kmap_pool.share_out(arch::online_cpus())) return;
  for (u32 cpu = 0; cpu < arch::online_cpus(); ++cpu) share_now.on(cpu) = kmap_pool.share_of_cpu(cpu);
}

void* kmap(Page* page) {
  check_may_sleep("kmap");
  if (has_address(page)) return direct_address(page);
  const u32 key = kmap_key(page);
  const Slot* slot = kmap_pool.get(key);
  if (slot == nullptr) [[unlikely]]
    return map_slowly(key);
  count_hit();
  note_held(+1);
  return slot->place.address;
}

Result<void*> kmap_nonblock(Page* page) {
  if (has_address(page)) return direct_address(page);
  const u32 key = kmap_key(page);
  if (const Slot* slot = get_cached(key)) return slot->place.address;
  if (must_fail(fault_kmap_slot)) return std::unexpected(Error::Busy);
  note_mapped(page);
  const Slot* slot = map_without_sleeping(key);
  if (slot == nullptr) return std::unexpected(Error::Busy);
  note_held(+1);
  return slot->place.address;
}

Result<void*> kmap_if_mapped(Page* page) {
  if (has_address(page)) return direct_address(page);
  const Slot* slot = get_cached(kmap_key(page));
  if (slot == nullptr) return std::unexpected(Error::NotFound);
  return slot->place.address;
}

Result<> kmap_many(std::span<Page* const> pages, std::span<void*> at) {
  ASSERT(pages.size() == at.size());
  check_may_sleep("kmap_many");
  if (pages.size() > kmap_pool.slots() / 4) return std::unexpected(Error::TooLarge);
  for (Page* page : pages) {
    if (!has_address(page)) note_mapped(page);
  }
  if (!map_all(pages, at)) {
    might_sleep("kmap_many");
    check_no_hold_and_wait(__builtin_return_address(0));
    waiters.count.fetch_add(1);
    many_waiters.wait([&] { return map_all(pages, at); });
    wake_waiter();  // for what is left over
    waiters.count.fetch_sub(1);
  }
  note_held(static_cast<i32>(pages.size()));
  return {};
}

void kunmap_address(const void* at) {
  const u32 offset = reinterpret_cast<u32>(at) - arch::kPkmapStart.raw();
  if (offset >= arch::kPkmapSlots * kPageSize) [[unlikely]]
    return unmap_direct(at);
  note_held(-1);
  const Put result = Pkmap::put(&kmap_pool.slot(offset >> kPageShift));
  if (result == Put::Unused) [[likely]] {
    if (!word_is(waiters.count, 0)) [[unlikely]]
      return wake_waiter();
    return;
  }
  if (result == Put::NotMapped) return unmap_error(at, "it is not mapped");
}

void kunmap(const Page* page) {
  if (has_address(page)) return;
  Slot* slot = pin_held(kmap_key(page));
  if (slot == nullptr || slot->users() < 2) {  // ours, and the one that get() has just added
    return unmap_error(page, "the page of this word is not mapped");
  }
  put_slot(slot);
  put_slot(slot);
  note_held(-1);
}

u32 kmap_sleepers() { return single_waiters.waiting() + many_waiters.waiting(); }

void kunmap_many(std::span<Page* const> pages) {
  for (const Page* page : pages) kunmap(page);
}

}  // namespace paean
