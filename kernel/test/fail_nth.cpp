#include "kernel/test/fail_nth.hpp"

#include "kernel/thread.hpp"
#include "mm/kmap.hpp"
#include "mm/ledger.hpp"
#include "mm/page_cache.hpp"
#include "mm/shrink.hpp"
#include "mm/slab.hpp"
#include "mm/stack_pool.hpp"
#include "mm/vmalloc.hpp"

namespace paean {

LedgerMark::LedgerMark() {
  static_assert(std::size(decltype(pages_){}) == kZoneCount);
  for (u32 i = 0; i < kZoneCount; ++i) pages_[i] = ledger_total(static_cast<ZoneId>(i)).count();
}

void settle_memory() {
  reap_threads();
  (void)sync_page_cache();
  (void)shrink_page_cache(~0u);
  kmap_flush_unused();
  vmalloc_purge();
  trim_stack_pool();
  run_shrinkers(0);
  // Slabs may be areas of vmalloc, and descriptors of areas are in slabs.
  shrink_caches();
  vmalloc_purge();
  shrink_caches();
}

}  // namespace paean
