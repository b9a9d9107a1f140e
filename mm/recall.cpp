// Which lent pages come back, and for whom.
#include "arch/irq.hpp"
#include "kernel/preempt.hpp"
#include "mm/frame_walk.hpp"
#include "mm/page_mover.hpp"
#include "mm/page_stacks.hpp"
#include "mm/reclaim.hpp"

namespace paean {

namespace {

constexpr u32 kBatch = 64;        // pages for a request that would fail otherwise, and some for the next ones
constexpr u32 kBlocksTried = 16;  // in which somebody used a page after all

constinit std::atomic<u32> cursor{0};  // of the frames with records, where the last recall ended
constinit std::atomic<u32> compacted{0}, compaction_failed{0};

bool is_there_highmem() { return zone(ZoneId::Dma32).managed.count() + zone(ZoneId::HighMem).managed.count() != 0; }
bool is_any_lent() { return lent_to_programs().count() + lent_to_files().count() != 0; }

/// Can a block be emptied by moves? Free: there is nothing to do.
enum class BlockState : u8 { Stuck, Movable, Free };
/// Something is known of who uses the block of frames around a page.
bool can_move(Page* page, Owner owner) {
  if (owner != Owner::User && owner != Owner::PageCache) return false;
  const Page* head = block_head(page);
  return head != nullptr && is_lent(head) && LentFrames::is_used(page_to_pfn(head));
}

BlockState look_at(Zone& zone, Pfn first, Order order) {
  const Pfn end = first + PageCount{order};
  BlockState state = BlockState::Free;
  for (Pfn at = first; at < end;) {
    const FrameRun run = frame_run_at(zone, at);
    if (run.use == FrameUse::Allocated && can_move(pfn_to_page(at), run.owner))
      state = BlockState::Movable;
    else if (run.use != FrameUse::Free || pfn_to_page(at)->type() == PageType::Cached)
      return BlockState::Stuck;  // in use for good, or in the stack of another CPU
    at = run.first + run.count;
  }
  return state;
}

bool has_free_block(Zone& zone, Order order) {
  const SpinGuard<IrqSave> guard{zone.lock};
  return zone.buddy.nonempty_orders() >> order.value() != 0;
}

bool is_free_block(Zone& zone, Pfn first, Order order) {
  const SpinGuard<IrqSave> guard{zone.lock};
  const u32 covering = zone.buddy.covering_order(zone.index_of(first));
  return covering != Buddy::kNone && covering >= order.value();
}

/// Empties a block. True if it is free as a whole now.
bool empty_block(Zone& zone, Pfn first, Order order, bool& has_room) {
  {
    PageMover mover{PageMover::Target::ElsewhereToo, first, PageCount{order}};
    for (u32 i = 0; i < order.pages() && mover.has_room(); ++i) {
      Page* head = block_head(pfn_to_page(first + PageCount{i}));
      if (head != nullptr && is_lent(head)) mover.add(head);
    }
    mover.finish();
    has_room = mover.has_room();
  }
  drain_local_pages();  // the pieces join
  return is_free_block(zone, first, order);
}

/// From the zone's end downwards: what is allocated comes from its beginning.
bool compact_zone(Zone& zone, Order order) {
  u32 tries = kBlocksTried;
  Pfn first = zone.end.align_down(order);
  const Pfn stop = zone.start + PageCount{order};
  bool has_room = true;
  while (first >= stop && tries != 0 && has_room) {
    first = first - PageCount{order};
    if (first < zone.start || look_at(zone, first, order) != BlockState::Movable) continue;
    if (empty_block(zone, first, order, has_room)) return true;
    --tries;
  }
  return false;
}

bool may_move_now(AllocFlags flags) {
  if (lent_words == 0 || lending_rule == LendingRule::LendForGood || flags.has(AllocFlags::Atomic)) return false;
  return preempt_count.get() == 0 && arch::irqs_enabled();
}

}  // namespace

u32 recall_lent_pages(u32 pages) {
  if (!is_there_highmem() || !may_move_now(AllocFlags::Kernel) || !is_any_lent()) return 0;
  PageMover mover{PageMover::Target::Highmem};
  const u32 end = (LentFrames::end() - Pfn{0}).count();
  u32 at = cursor.load(std::memory_order_relaxed);
  for (u32 left = end; left != 0 && mover.moved() < pages && mover.has_room(); --left) {
    at = at != 0 ? at - 1 : end - 1;
    const Pfn pfn = Pfn{0} + PageCount{at};
    if (LentFrames::is_used(pfn)) mover.add(pfn_to_page(pfn));
  }
  mover.finish();
  cursor.store(at, std::memory_order_relaxed);
  return mover.moved();
}

bool compact_lowmem(Order order) {
  if (!may_move_now(AllocFlags::Kernel) || order == Order{0} || order.value() >= kMaxOrder) return false;
  // What lies in the stack of a CPU cannot move, and may be all that is missing to a block.
  if (drain_all_pages() && has_free_block(zone(ZoneId::Normal), order)) return true;
  const bool done = compact_zone(zone(ZoneId::Normal), order) || compact_zone(zone(ZoneId::Dma), order);
  (done ? compacted : compaction_failed).fetch_add(1, std::memory_order_relaxed);
  return done;
}

bool recall_lowmem(AllocFlags flags, Order order) {
  if (!is_low(flags.zone()) || !may_move_now(flags) || !is_any_lent()) return false;
  // Where there is a block and the request fails for all that, pages are missing. Every turn leaves less that is lent,
  // or a block more, so the caller's loop ends.
  if (order != Order{0} && !has_free_block(zone(ZoneId::Normal), order) && compact_lowmem(order)) return true;
  const u32 pages = kBatch + order.pages();
  if (recall_lent_pages(pages) != 0) return true;
  // No room in highmem? Cached pages, which come from disks, go for those that would have to go to one.
  if (!is_there_highmem()) return false;
  return reclaim_page_cache({AllocFlags::HighUser | AllocFlags::NoIo, Order{0}}) && recall_lent_pages(pages) != 0;
}

LendingCounters lending_counters() {
  return LendingCounters{pages_moved(), pages_stayed(), compacted.load(), compaction_failed.load()};
}

void print_lending(Sink& out) {
  const LendingCounters now = lending_counters();
  format_to(out, "nr_lent_anon {}\nnr_lent_file {}\n", lent_to_programs(), lent_to_files());
  format_to(out, "pgmigrate_success {}\npgmigrate_fail {}\n", now.moved, now.stayed);
  format_to(out, "compact_success {}\ncompact_fail {}\n", now.compacted, now.compaction_failed);
}

}  // namespace paean
