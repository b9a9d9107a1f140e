#include "mm/oom.hpp"

#include "arch/irq.hpp"
#include "kernel/preempt.hpp"
#include "kernel/wait.hpp"
#include "mm/page_cache.hpp"
#include "mm/page_cache_internal.hpp"

namespace paean {

namespace {

constexpr u32 kTurnMs = 1000;  // whoever has the turn may wait for one who waits here

constinit std::atomic<OomKiller> oom_killer{nullptr};
constinit std::atomic<u32> taken{0};
constinit WaitQueue turn_over;

bool is_worth_a_life(AllocFlags flags, Order order) {
  if (oom_killer.load(std::memory_order_relaxed) == nullptr || order.value() > kWorthALife) return false;
  if (flags.has(AllocFlags::Atomic) || flags.has(AllocFlags::NoIo) || flags.has(AllocFlags::NoWarn)) return false;
  if (is_low(flags.zone()) || is_write_back_thread()) return false;
  return preempt_count.get() == 0 && arch::irqs_enabled();
}

void print_zone(const Zone& z, Sink& out) {
  format_to(out, "{} free:{}kB min:{}kB low:{}kB high:{}kB present:{}kB managed:{}kB\n", name(z.id),
            free_pages_in(z.id).kib(), z.min.kib(), z.low.kib(), z.high.kib(), z.present.kib(), z.managed.kib());
  format_to(out, "lowmem_reserve[]:");
  for (const PageCount reserve : z.reserve) format_to(out, " {}", reserve);
  format_to(out, "\n");
}

void print_blocks(ZoneId id, Sink& out) {
  u64 kib = 0;
  u32 block_kib = kPageSize / kKiB;
  format_to(out, "{}:", name(id));
  for (const u32 blocks : free_blocks_in(id)) {
    format_to(out, " {}*{}kB", blocks, block_kib);
    kib += u64{blocks} * block_kib;
    block_kib *= 2;
  }
  format_to(out, " = {}kB\n", kib);
}

}  // namespace

void set_oom_killer(OomKiller killer) { oom_killer.store(killer); }

OomTurn::OomTurn(AllocFlags flags, Order order) {
  if (!is_worth_a_life(flags, order)) return;
  const auto take = [] { return taken.exchange(1) == 0; };
  mine_ = turn_over.wait_for_ms(kTurnMs, take);
}

OomTurn::~OomTurn() {
  if (!mine_) return;
  taken.store(0);
  (void)turn_over.wake_all();
}

bool OomTurn::kill(AllocFlags flags, Order order) { return mine_ && oom_killer.load()(flags, order); }

void print_memory_report(Sink& out) {
  const PageCacheTotals cache = page_cache_totals();
  format_to(out, "Mem-Info:\n");
  format_to(out, "active_file:{} inactive_file:{} dirty:{} writeback:{}\n", cache.active, cache.inactive, cache.dirty,
            cache.write_back);
  for (const ZoneId id : kAllZones) {
    if (!zone(id).empty()) print_zone(zone(id), out);
  }
  PageCount managed{0}, high{0}, present{0};
  for (const ZoneId id : kAllZones) {
    const Zone& z = zone(id);
    if (z.empty()) continue;
    print_blocks(id, out);
    managed += z.managed;
    present += z.present;
    if (!is_low(id)) high += z.managed;
  }
  format_to(out, "{} total pagecache pages\n", cache.pages);
  format_to(out, "{} pages RAM\n{} pages HighMem/MovableOnly\n{} pages reserved\n", present, high, present - managed);
  print_ledger_summary(out);
}

}  // namespace paean
