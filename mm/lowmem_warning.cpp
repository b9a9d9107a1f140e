#include "mm/lowmem_warning.hpp"

#include <atomic>

#include "arch/interrupts.hpp"
#include "kernel/thread.hpp"
#include "lib/log.hpp"
#include "mm/ledger.hpp"
#include "mm/slab.hpp"
#include "mm/slab_paths.hpp"

namespace paean {

namespace {

constexpr u32 kQuietTicks = 30 * arch::kTicksPerSecond;

PageCount low_managed() { return zone(ZoneId::Dma).managed + zone(ZoneId::Normal).managed; }
PageCount low_pages_of(Owner owner) { return ledger_pages(ZoneId::Dma, owner) + ledger_pages(ZoneId::Normal, owner); }

/// Every holder once, in no order.
template <typename Visit>
void for_each_holder(Visit visit) {
  for (u32 i = 0; i < kOwnerCount; ++i) {
    const auto owner = static_cast<Owner>(i);
    if (owner != Owner::Slab) visit(LowmemHolder{name(owner), low_pages_of(owner)});
  }
  for (u32 i = 0; i < kMaxCaches; ++i) {
    if (const auto cache = cache_statistics(i)) {
      visit(LowmemHolder{cache->name, PageCount{cache->slabs * cache->layout.order.pages()}});
    }
  }
  visit(LowmemHolder{"kmalloc, whole pages", large_kmalloc_pages()});
}

u32 percent(PageCount pages) {
  const u32 managed = low_managed().count();
  return managed == 0 ? 0 : static_cast<u32>(u64{pages.count()} * 100 / managed);
}

}  // namespace

LowmemHolder largest_lowmem_holder(u32 n) {
  LowmemHolder largest[16]{};
  constexpr u32 kMost = std::size(largest);
  for_each_holder([&](LowmemHolder holder) {
    for (u32 at = 0; at < kMost; ++at) {
      if (holder.pages > largest[at].pages) std::swap(holder, largest[at]);
    }
  });
  return n < kMost ? largest[n] : LowmemHolder{};
}

void print_lowmem_holders(Sink& out, u32 count) {
  for (u32 n = 0; n < count; ++n) {
    const LowmemHolder holder = largest_lowmem_holder(n);
    if (holder.pages.count() == 0) return;
    format_to(out, "  {:<24}{:>12} kB{:>4} %\n", holder.name, holder.pages.kib(), percent(holder.pages));
  }
}

void warn_of_lowmem() {
  static constinit std::atomic<u32> said_at{0}, said{0};
  const u32 now = ticks_now();
  if (said.load() != 0 && now - said_at.load() < kQuietTicks) return;
  said_at.store(now);
  said.store(1);
  const LowmemHolder largest = largest_lowmem_holder(0);
  const PageCount free = free_pages_in(ZoneId::Dma) + free_pages_in(ZoneId::Normal);
  log_warning("lowmem: {} holds {} %, {} kB are free", largest.name, percent(largest.pages), free.kib());
}

}  // namespace paean
