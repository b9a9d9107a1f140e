// The end of maps that nobody uses: recycling, and what the free of a page owes to the maps that it has had.
#include "arch/irq.hpp"
#include "arch/tsc.hpp"
#include "kernel/preempt.hpp"
#include "kernel/thread.hpp"
#include "mm/kmap.hpp"
#include "mm/kmap_block.hpp"
#include "mm/kmap_state.hpp"
#include "mm/ledger.hpp"
#include "mm/page_alloc.hpp"
#include "mm/parked_blocks.hpp"

namespace paean {

namespace {

using Parked = ParkedBlocks<arch::kPkmapSlots>;
constinit Parked parked;  // guarded by kmap_lock; the count alone is read without it, as a hint

/// A get() that lost its race holds a slot for a few instructions, unless it is preempted there, or the host takes its
/// CPU away.
constexpr u32 kForgetSpins = 1u << 10;
constexpr u64 kForgetMicroseconds = 1'000'000;

/// Takes up to `pages` cached pages out of the pool. Returns the page that has a user, if any.
std::optional<Pfn> forget_pages(Pfn first, u32 pages) {
  const SpinGuard<IrqSave> guard{kmap_lock};
  for (u32 i = 0; i < pages; ++i) {
    switch (kmap_pool.forget(kmap_key(first + PageCount{i}))) {
      case Forget::NotMapped: break;
      case Forget::Dropped: ++kmap_counters.dropped; break;
      case Forget::InUse: return first + PageCount{i};
    }
  }
  return std::nullopt;
}

void forget_piece(Pfn first, u32 pages) {
  const u64 start = arch::microseconds_since_entry();
  for (u32 tries = 0; const std::optional<Pfn> used = forget_pages(first, pages); ++tries) {
    if (tries < kForgetSpins) {
      arch::cpu_relax();
      continue;
    }
    if (arch::microseconds_since_entry() - start > kForgetMicroseconds) {
      panic("free of frame {:#x}, which is mapped by kmap", *used);
    }
    if (!in_atomic_context()) thread_sleep_ms(1);  // whoever lost the race may wait for this CPU at a lower priority
  }
}

void move_in_ledger(LedgerRow from, LedgerRow to, Order order) {
  ledger_subtract(from, order.pages());
  ledger_add(to, order.pages());
}

/// What becomes of a block that is being freed. NoRoom: others must be settled first.
enum class Fate : u8 { Free, Park, NoRoom };

/// Parks the block if another CPU may still reach it.
Fate decide(Page* head, Order order, Seen in_windows) {
  const SpinGuard<IrqSave> guard{kmap_lock};
  const Pfn first = page_to_pfn(head);
  if (in_windows == Seen::No && !kmap_pool.may_be_seen(kmap_key(first), order.pages())) {
    head->note_unmapped();
    return Fate::Free;
  }
  if (parked.full()) return Fate::NoRoom;
  const LedgerRow row{head->ledger_row()}, parked_row{row.zone(), Owner::Parked};
  move_in_ledger(row, parked_row, order);
  head->set_word(Page::make_parked(order, parked_row.value()));
  parked.park(first, in_windows == Seen::Maybe ? PkmapMachine::new_generation() : kmap_pool.newest());
  ++kmap_counters.parked;
  if (parked.count() > kmap_counters.most_parked) kmap_counters.most_parked = parked.count();
  return Fate::Park;
}

std::optional<Parked::Block> take_settled() {
  const SpinGuard<IrqSave> guard{kmap_lock};
  const auto block = parked.take_settled(PkmapMachine::is_done);
  if (block) check_acknowledged(block->stamp, "frame", block->head.raw());
  return block;
}

u32 parked_hint() NO_THREAD_SAFETY_ANALYSIS { return parked.count(); }

std::optional<u32> newest_parked() {
  const SpinGuard<IrqSave> guard{kmap_lock};
  if (parked.count() == 0) return std::nullopt;
  return parked.newest();
}

}  // namespace

void kmap_free_block(Page* head, Order order) {
  constexpr u32 kPiece = 32;
  const Pfn first = page_to_pfn(head);
  for (u32 done = 0; done < order.pages(); done += kPiece) {
    forget_piece(first + PageCount{done}, order.pages() - done < kPiece ? order.pages() - done : kPiece);
  }
  const Seen in_windows = forget_in_windows(first, order);
  Fate fate;
  while ((fate = decide(head, order, in_windows)) == Fate::NoRoom) kmap_settle();
  if (fate == Fate::Free) free_pages(head, order);
  kmap_settle();
}

u32 kmap_settle() {
  u32 freed = 0;
  for (; parked_hint() != 0; ++freed) {
    const auto block = take_settled();
    if (!block) break;
    Page* head = pfn_to_page(block->head);
    ASSERT(head->type() == PageType::Parked);
    const Order order = head->order();
    head->set_word(Page::make_block(order, head->ledger_row()));
    free_pages(head, order);
  }
  return freed;
}

bool kmap_give_back() {
  const u32 before = parked_hint();
  if (before == 0) return false;
  u32 freed = kmap_settle();
  if (parked_hint() != 0 && !in_atomic_context()) {
    if (const std::optional<u32> stamp = newest_parked()) kmap_flush_others(*stamp);
    freed += kmap_settle();
  }
  return freed != 0 || parked_hint() < before;  // somebody else may have done it for us
}

u32 kmap_parked_blocks() { return parked.count(); }

std::optional<u32> kmap_recycle_all() {
  constexpr u32 kPiece = 128;
  // A piece more than there are slots: the last share has what is left over by the others.
  for (u32 looked = 0; looked < kmap_pool.slots() + kPiece; looked += kPiece) {
    const SpinGuard<IrqSave> guard{kmap_lock};
    (void)kmap_pool.recycle(kPiece);
  }
  const SpinGuard<IrqSave> guard{kmap_lock};
  kmap_note_high_water();
  if (kmap_pool.parked() == 0) return std::nullopt;
  return kmap_pool.newest();
}

void kmap_flush_others(u32 stamp) {
  const u32 sent = arch::tlb_wait_for_generation(stamp);
  const SpinGuard<IrqSave> guard{kmap_lock};
  ++kmap_counters.flushes;
  kmap_counters.ipis += sent;
}

void kmap_flush_unused() {
  const std::optional<u32> of_windows = forget_unused_windows(), of_slots = kmap_recycle_all();
  if (of_windows) kmap_flush_others(*of_windows);
  if (of_slots) kmap_flush_others(*of_slots);
  (void)kmap_give_back();
}

}  // namespace paean
