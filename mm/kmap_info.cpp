// What the pool is doing, in numbers.
#include "mm/kmap.hpp"
#include "mm/kmap_state.hpp"
#include "mm/ledger.hpp"

namespace paean {

void kmap_note_high_water() {
  u32 live = 0;
  for (u32 i = 0; i < kmap_pool.slots(); ++i) live += kmap_pool.slot(i).users() != 0 ? 1 : 0;
  if (live > kmap_counters.high_water) kmap_counters.high_water = live;
}

void kmap_note_taken() {
  const u32 now = kmap_pool.taken();
  kmap_counters.taken += now - kmap_counters.taken_seen;
  kmap_counters.taken_seen = now;
}

KmapStatistics kmap_statistics() {
  KmapStatistics s{};
  const SpinGuard<IrqSave> guard{kmap_lock};
  kmap_note_high_water();
  s.slots = kmap_pool.slots();
  (void)kmap_pool.has_clean(s.slots);  // looks how far everybody has flushed
  s.waiting = kmap_pool.waiting();
  s.clean = kmap_pool.parked() - s.waiting;
  for (u32 i = 0; i < s.slots; ++i) {
    if (kmap_pool.slot(i).users() != 0) ++s.live;
    if (kmap_pool.slot(i).is_cached()) ++s.cached;
  }
  s.high_water = kmap_counters.high_water;
  for (u32 cpu = 0; cpu < arch::online_cpus(); ++cpu) {
    s.hits += kmap_hits.on(cpu);
    s.own_flushes += kmap_own_flushes.on(cpu);
  }
  kmap_note_taken();
  s.misses = kmap_counters.taken;
  s.flushes = kmap_counters.flushes;
  s.ipis = kmap_counters.ipis;
  s.wraps = s.slots == 0 ? 0 : static_cast<u32>(s.misses / s.slots);
  s.ipis_if_wrapped = s.wraps * (arch::online_cpus() - 1);
  s.sleeps = kmap_counters.sleeps;
  s.sleeping = kmap_sleepers();
  s.wakes = kmap_wakes.load();
  s.dropped = kmap_counters.dropped;
  s.blocks_parked = kmap_counters.parked;
  s.most_parked = kmap_counters.most_parked;
  s.parked_blocks = kmap_parked_blocks();
  for (const ZoneId id : kAllZones) s.parked_pages += ledger_pages(id, Owner::Parked).count();
  return s;
}

VirtAddr kmap_slot_address(u32 slot) { return arch::kPkmapStart + slot * kPageSize; }

}  // namespace paean
