#include "mm/kmap.hpp"

#include "arch/address_space.hpp"
#include "arch/cpu.hpp"
#include "arch/fixmap.hpp"
#include "arch/tlb.hpp"
#include "kernel/log_lines.hpp"
#include "kernel/preempt.hpp"
#include "kernel/wait.hpp"
#include "lib/log.hpp"
#include "mm/highmem.hpp"
#include "mm/kmap_debug.hpp"
#include "mm/kmap_pool.hpp"

namespace paean {

namespace {

constinit arch::Pte* entries = nullptr;  // of slot 0, in lowmem; set before the pool is
constinit u64 entry_flags = 0;

/// Threads in kmap or kmap_many that found no slot. Read by each put that frees a slot, written only by sleepers.
struct alignas(64) Waiters {
  std::atomic<u32> count{0};
};
constinit Waiters waiters;
constinit std::atomic<u32> wakes{0};
constinit WaitQueue single_waiters;
constinit WaitQueue many_waiters;  // they need several slots: all look whenever one is free that no single wants

[[gnu::noipa]] void wake_waiter() {
  wakes.fetch_add(single_waiters.wake_one() ? 1 : many_waiters.wake_all(), std::memory_order_relaxed);
}

struct PkmapMachine {
  struct Place {
    void* address;
    arch::Pte* entry;
  };
  static Place place(u32 number) {
    return {reinterpret_cast<void*>(kmap_slot_address(number).raw()), &entries[number]};
  }
  static void map(const Place& place, Pfn pfn) {
    place.entry->set((pfn.raw() << kPageShift) | static_cast<u32>(entry_flags),
                     (pfn.raw() >> (32 - kPageShift)) | static_cast<u32>(entry_flags >> 32));
  }
  static void unmap(const Place& place) {
    place.entry->clear();
    arch::invalidate_page(VirtAddr{reinterpret_cast<u32>(place.address)});  // others: until they flush
  }
  static u32 new_generation() { return arch::tlb_new_generation(); }
  static bool is_done(u32 generation) { return arch::tlb_generation_is_done(generation); }
};
static_assert(KmapPool<PkmapMachine>::kMaxSlots == arch::kPkmapSlots);

constinit KmapPool<PkmapMachine> pool;
using Slot = KmapPool<PkmapMachine>::Slot;
using Put = KmapPool<PkmapMachine>::Put;
constinit SpinLock lock{LockRank::Kmap};  // pool, but for get and put; counters

struct Counters {
  u32 flushes = 0, ipis = 0, high_water = 0, sleeps = 0, dropped = 0;
};
constinit Counters counters;
PER_CPU(u64, hits);
PER_CPU(u32, own_flushes);
PER_CPU(u32, flushed_for);  // the youngest stamp that this CPU has flushed itself for

[[gnu::always_inline]] inline void count_hit() {
  asm volatile("addl $1, %%fs:%0; adcl $0, %%fs:4+%0" : "+m"(hits) : : "cc");
}

[[gnu::noipa]] void note_mapped_in_block(Page* page) {
  Page* head = block_head(page);
  if (head != nullptr && !head->may_be_mapped()) head->note_mapped();  // reserved pages are never freed
}
/// The word of the page's block remembers the map until the block is freed.
[[gnu::always_inline]] inline void note_mapped(Page* page) {
  if (!page->may_be_mapped()) note_mapped_in_block(page);
}

/// After a miss: a CPU that passes by flushes itself if there are stamps that it has not flushed for.
[[gnu::noipa]] void flush_this_cpu(u32 newest) {
  flushed_for.set(newest);
  own_flushes.set(own_flushes.get() + 1);
  arch::flush_tlb_all();
}
[[gnu::always_inline]] inline void flush_in_passing(u32 newest) {
  if (flushed_for.get() != newest) [[unlikely]]
    flush_this_cpu(newest);
}

void note_high_water() {
  u32 live = 0;
  for (u32 i = 0; i < pool.slots(); ++i) live += pool.slot(i).users() != 0 ? 1 : 0;
  if (live > counters.high_water) counters.high_water = live;
}

/// Recycles everything that has no user. The lock is dropped between pieces, so that interrupts are not off for long.
/// Returns the stamp to wait for; nullopt if every slot has a user.
std::optional<u32> recycle_all() {
  constexpr u32 kPiece = 128;
  for (u32 looked = 0; looked < pool.slots(); looked += kPiece) {
    const SpinGuard<IrqSave> guard{lock};
    (void)pool.recycle(kPiece);
  }
  const SpinGuard<IrqSave> guard{lock};
  note_high_water();
  if (pool.parked() == 0) return std::nullopt;
  return pool.newest();
}

/// Waits until every CPU has flushed at or after `stamp`; the lock is not held, so no CPU spins for it meanwhile.
void flush_others(u32 stamp) {
  const u32 before = arch::tlb_events().ipis_sent;
  arch::tlb_wait_for_generation(stamp);
  const u32 sent = arch::tlb_events().ipis_sent - before;
  const SpinGuard<IrqSave> guard{lock};
  ++counters.flushes;
  counters.ipis += sent;
}

/// Takes one user away, of whom we know that he was one.
void put_slot(Slot* slot) {
  const Put result = KmapPool<PkmapMachine>::put(slot);
  ASSERT(result != Put::NotMapped);
  if (result == Put::Unused && waiters.count.load(std::memory_order_relaxed) != 0) wake_waiter();
}

/// Whoever lost a race in get() comes to where no slot is clean, or somebody has been woken since.
void wake_after_lost_race() {
  if (pool.take_lost() && waiters.count.load() != 0) wake_waiter();
}

/// Makes unused slots clean. False if there are none, or if this context may not wait for other CPUs.
[[gnu::noinline]] bool make_clean_slots() {
  wake_after_lost_race();
  const std::optional<u32> stamp = recycle_all();
  if (!stamp || (arch::online_cpus() > 1 && !arch::irqs_enabled())) return false;
  flush_others(*stamp);
  return true;
}

/// With the lock held. A slot that the page has got meanwhile, or a clean one.
[[gnu::always_inline]] inline Slot* get_or_take(Pfn pfn) {
  if (Slot* slot = pool.get(pfn)) [[unlikely]] {
    count_hit();
    return slot;
  }
  return pool.take(pfn);
}

/// The same for one page alone, with what a miss owes to the others.
[[gnu::always_inline]] inline Slot* get_or_take_with_reserve(Pfn pfn) {
  Slot* slot = get_or_take(pfn);
  if (slot == nullptr) [[unlikely]]
    return nullptr;
  pool.keep_reserve();
  flush_in_passing(pool.newest());
  return slot;
}

/// A slot for the page if one is clean or can be made so without sleeping.
[[gnu::noinline]] Slot* map_without_sleeping(Pfn pfn) {
  do {
    const SpinGuard<IrqSave> guard{lock};
    if (Slot* slot = get_or_take_with_reserve(pfn)) return slot;
  } while (make_clean_slots());
  return nullptr;
}

[[gnu::noinline]] Slot* flush_or_sleep(Pfn pfn, const void* caller) {
  Slot* slot = map_without_sleeping(pfn);
  if (slot != nullptr) return slot;
  might_sleep("kmap");
  check_no_hold_and_wait(caller);
  waiters.count.fetch_add(1);
  {
    const SpinGuard<IrqSave> guard{lock};
    ++counters.sleeps;
  }
  single_waiters.wait([&] {
    slot = map_without_sleeping(pfn);
    return slot != nullptr;
  });
  // He may have found his page mapped by somebody else, and the slot that he was woken for is another sleeper's.
  if (slot->users() > 1) wake_waiter();
  waiters.count.fetch_sub(1);
  return slot;
}

/// kmap() ends in a jump here, so that its hit needs no frame.
[[gnu::noipa]] void* map_slowly(Pfn pfn) {
  note_mapped(pfn_to_page(pfn));
  {
    const SpinGuard<IrqSave> guard{lock};
    if (const Slot* slot = get_or_take_with_reserve(pfn)) [[likely]] {
      note_held(+1);
      return slot->place.address;
    }
  }
  const Slot* slot = flush_or_sleep(pfn, __builtin_return_address(0));
  note_held(+1);
  return slot->place.address;
}

/// Pins a page that has a slot already.
Slot* get_cached(Pfn pfn) {
  Slot* slot = pool.get(pfn);
  if (slot == nullptr) {
    wake_after_lost_race();
    return nullptr;
  }
  count_hit();
  note_held(+1);
  return slot;
}

/// All pages or none.
bool map_all(std::span<Page* const> pages, std::span<void*> at) {
  const u32 count = static_cast<u32>(pages.size());
  for (;;) {
    {
      const SpinGuard<IrqSave> guard{lock};
      if (pool.has_clean(count)) {  // nobody else takes any until all of ours are taken
        for (u32 i = 0; i < count; ++i) {
          at[i] = has_address(pages[i]) ? direct_address(pages[i]) : get_or_take(page_to_pfn(pages[i]))->place.address;
        }
        pool.keep_reserve();
        flush_in_passing(pool.newest());
        return true;
      }
    }
    if (!make_clean_slots()) return false;
    const SpinGuard<IrqSave> guard{lock};
    if (pool.parked() < count) return false;
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
  entries = static_cast<arch::PageTable*>(to_low(first)->pointer())->entries;
  if (first + PageCount{1} != second && slots > arch::kEntriesPerTable) {  // boot memory in very small pieces
    slots = arch::kEntriesPerTable;
    log_warning("pkmap: only {} slots, its page tables are not adjacent", slots);
  }
  entry_flags = arch::leaf_flags_rw | (arch::cpu_features().pge ? arch::pte_bits::kGlobal : 0);
  pool.init(slots);
  init_local_maps();
}

void* kmap(Page* page) {
  check_may_sleep("kmap");
  if (has_address(page)) return direct_address(page);
  const Pfn pfn = page_to_pfn(page);
  const Slot* slot = pool.get(pfn);
  if (slot == nullptr) [[unlikely]]
    return map_slowly(pfn);
  count_hit();
  note_held(+1);
  return slot->place.address;
}

Result<void*> kmap_nonblock(Page* page) {
  if (has_address(page)) return direct_address(page);
  const Pfn pfn = page_to_pfn(page);
  if (const Slot* slot = get_cached(pfn)) return slot->place.address;
  note_mapped(page);
  const Slot* slot = map_without_sleeping(pfn);
  if (slot == nullptr) return std::unexpected(Error::Busy);
  note_held(+1);
  return slot->place.address;
}

Result<void*> kmap_if_mapped(Page* page) {
  if (has_address(page)) return direct_address(page);
  const Slot* slot = get_cached(page_to_pfn(page));
  if (slot == nullptr) return std::unexpected(Error::NotFound);
  return slot->place.address;
}

Result<> kmap_many(std::span<Page* const> pages, std::span<void*> at) {
  ASSERT(pages.size() == at.size());
  check_may_sleep("kmap_many");
  if (pages.size() > pool.slots() / 4) return std::unexpected(Error::TooLarge);
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
  const Put result = KmapPool<PkmapMachine>::put(&pool.slot(offset >> kPageShift));
  if (result == Put::Unused) [[likely]] {
    if (waiters.count.load(std::memory_order_relaxed) != 0) [[unlikely]]
      return wake_waiter();
    return;
  }
  if (result == Put::NotMapped) return unmap_error(at, "it is not mapped");
}

void kunmap(const Page* page) {
  if (has_address(page)) return;
  Slot* slot = pool.get(page_to_pfn(page));
  if (slot == nullptr || slot->users() < 2) {  // ours, and the one that get() has just added
    return unmap_error(page, "the page of this word is not mapped");
  }
  put_slot(slot);
  put_slot(slot);
  note_held(-1);
}

void kunmap_many(std::span<Page* const> pages) {
  for (const Page* page : pages) kunmap(page);
}

void kmap_flush_unused() {
  const std::optional<u32> stamp = recycle_all();
  if (stamp) flush_others(*stamp);
}

void kmap_drop_block(Page* head, Order order) {
  const Pfn first = page_to_pfn(head);
  for (u32 i = 0; i < order.pages(); ++i) {
    Forget result;
    {
      const SpinGuard<IrqSave> guard{lock};
      result = pool.forget(first + PageCount{i});
      if (result == Forget::Dropped) ++counters.dropped;
    }
    if (result == Forget::InUse) panic("free of frame {:#x}, which is mapped by kmap", first + PageCount{i});
  }
  head->note_unmapped();
}

KmapStatistics kmap_statistics() {
  KmapStatistics s{};
  const SpinGuard<IrqSave> guard{lock};
  note_high_water();
  s.slots = pool.slots();
  s.parked = pool.parked();
  for (u32 i = 0; i < s.slots; ++i) {
    if (pool.slot(i).users() != 0) ++s.live;
    if (pool.slot(i).is_cached()) ++s.cached;
  }
  s.high_water = counters.high_water;
  for (u32 cpu = 0; cpu < arch::online_cpus(); ++cpu) {
    s.hits += hits.on(cpu);
    s.own_flushes += own_flushes.on(cpu);
  }
  s.misses = pool.taken();
  s.flushes = counters.flushes;
  s.ipis = counters.ipis;
  s.wraps = s.slots == 0 ? 0 : pool.taken() / s.slots;
  s.ipis_if_wrapped = s.wraps * (arch::online_cpus() - 1);
  s.sleeps = counters.sleeps;
  s.wakes = wakes.load();
  s.dropped = counters.dropped;
  return s;
}

VirtAddr kmap_slot_address(u32 slot) { return arch::kPkmapStart + slot * kPageSize; }

}  // namespace paean
