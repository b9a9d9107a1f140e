#include "mm/page_alloc.hpp"

#include "arch/tlb_checker.hpp"
#include "kernel/fault.hpp"
#include "kernel/preempt.hpp"
#include "lib/log.hpp"
#include "mm/bad_free.hpp"
#include "mm/highmem.hpp"
#include "mm/kswapd.hpp"
#include "mm/ledger.hpp"
#include "mm/lending.hpp"
#include "mm/oom.hpp"
#include "mm/page_stacks.hpp"
#include "mm/reclaim.hpp"
#include "mm/vcompound.hpp"

namespace paean {

namespace {

using arch::IrqsOff;
using arch::IrqsOffGuard;

FAULT_SITE(page_alloc, "pages and blocks of frames");
FAULT_SITE(page_at, "a frame of a given number");
PER_CPU(u32, failures){0u};

/// How far below its watermark a zone may be taken.
enum class Effort : u8 { AboveLow, AboveMin, HalfOfMin };

/// What a request must leave in the zone for those that can be served nowhere else.
PageCount reserve_for(const Zone& z, AllocFlags flags) {
  const PageCount usual = z.reserve[std::to_underlying(flags.zone())];
  return flags.has(AllocFlags::Movable) && may_lend() && z.lend_reserve < usual ? z.lend_reserve : usual;
}

bool above_watermark(const Zone& z, u32 free, u32 wanted, PageCount reserve, Effort effort) {
  u32 mark = reserve.count();
  mark += effort == Effort::AboveLow ? z.low.count() : effort == Effort::AboveMin ? z.min.count() : z.min.count() / 2;
  return free >= mark + wanted;
}

ZoneStacks& stacks_for(u32 zone_index) { return page_stacks.local().zone[zone_index]; }

Page* take_from_buddy(Zone& z, Order order, Owner owner, PageCount reserve, Effort effort, IrqsOff) {
  const SpinGuard<NoIrq> guard{z.lock};
  if (!above_watermark(z, z.buddy.free_pages(), order.pages(), reserve, effort)) return nullptr;
  const u32 index = z.buddy.allocate(order);
  if (index == Buddy::kNone) return nullptr;
  Page* page = pfn_to_page(z.frame_at(index));
  PageFast::account_taken(page, order, LedgerRow{z.id, owner});
  return page;
}

/// Fills the stack that would have served this request, if the zone has plenty, and pops from it.
Page* take_through_stack(Zone& z, Order order, Owner owner, PageCount reserve, IrqsOff off) {
  ZoneStacks& stacks = stacks_for(std::to_underlying(z.id));
  const auto pop = [&](auto& stack) {
    Page* page = stack.blocks[--stack.count];
    PageFast::account_taken(page, order, LedgerRow{z.id, owner});
    return page;
  };
  const auto plenty = [&](u32 pages) NO_THREAD_SAFETY_ANALYSIS {  // one word, read without the lock: a hint
    return above_watermark(z, z.buddy.free_pages(), pages, reserve, Effort::AboveLow);
  };
  if (order == Order{0}) {
    if (stacks.singles.count != 0) return pop(stacks.singles);
    const u32 batch = next_batch(z, off);
    return plenty(batch) && fill_singles(z, batch, off) ? pop(stacks.singles) : nullptr;
  }
  const u32 index = small_stack_of(order);
  if (index == kNoStack) return nullptr;
  ZoneStacks::Small& stack = stacks.small[index];
  if (stack.count != 0) return pop(stack);
  return plenty(u32{kSmallStackBatch[index]} << order.value()) && fill_small(z, order, off) ? pop(stack) : nullptr;
}

Page* take_from_zones(AllocFlags flags, Order order, Owner owner, Effort effort, IrqsOff off) {
  for (u32 i = std::to_underlying(flags.zone()) + 1; i-- != 0;) {
    Zone& z = zone(static_cast<ZoneId>(i));
    if (z.empty()) continue;
    const PageCount reserve = reserve_for(z, flags);
    if (percpu_claims.is_zero()) {
      if (Page* page = take_through_stack(z, order, owner, reserve, off)) return page;
    }
    if (Page* page = take_from_buddy(z, order, owner, reserve, effort, off)) return page;
  }
  return nullptr;
}

void clear_block(Page* page, Order order) {
  for (u32 i = 0; i < order.pages(); ++i) clear_highpage(page + i);
}

void count_failure() {
  const IrqsOffGuard off;
  ++failures.local();
}

/// Without help from others; nullptr if that is not enough.
Page* take_or_drain(AllocFlags flags, Order order, Owner owner, Effort last) {
  const IrqsOffGuard off;
  if (Page* page = take_from_zones(flags, order, owner, Effort::AboveLow, off.token())) return page;
  drain_local_pages();  // blocks in this CPU's stacks may complete a larger one
  return take_from_zones(flags, order, owner, last, off.token());
}

Result<Page*> fail(AllocFlags flags, Order order, Owner owner) {
  count_failure();
  if (!flags.has(AllocFlags::NoWarn)) {
    log_warning("page allocation failed: order {}, highest zone {}, for {}", order, name(flags.zone()), name(owner));
  }
  return std::unexpected(Error::OutOfMemory);
}

/// May others be asked to give something back for it?
enum class Retry : u8 { No, Yes };

/// nullptr without memory; whoever asked counts that and says it.
Page* take_with_effort(AllocFlags flags, Order order, Owner owner, Retry retry) {
  const Effort last = flags.has(AllocFlags::Atomic) ? Effort::HalfOfMin : Effort::AboveMin;
  Page* page = take_or_drain(flags, order, owner, last);
  watch_zones(flags.zone());
  if (retry == Retry::No || page != nullptr) return page;
  Reclaim reclaim{flags, order};
  while (page == nullptr && reclaim.ask_next()) page = take_or_drain(flags, order, owner, last);
  return page;
}

/// The same, unless it is to fail.
Page* take_if_not_armed(AllocFlags flags, Order order, Owner owner, Retry retry) {
  return must_fail(fault_page_alloc) ? nullptr : take_with_effort(flags, order, owner, retry);
}

/// When nothing else helped. nullptr if that costs nobody's life, or nobody is left.
Page* take_at_others_cost(AllocFlags flags, Order order, Owner owner) {
  for (;;) {
    OomTurn turn{flags, order};
    if (!turn) return nullptr;
    // Somebody else's victim may have been enough.
    if (Page* page = take_with_effort(flags, order, owner, Retry::Yes)) return page;
    if (!turn.kill(flags, order)) return nullptr;
  }
}

/// What the word of a legal free looks like, but for the ledger row.
constexpr u32 free_pattern(Order order) { return Page::make_block(order, 0); }

/// Everything that the fast paths leave out: full stacks, orders without one, interrupts on top of a claim.
[[gnu::noinline]] void free_slowly(Page* page, Order order) {
  const LedgerRow row{page->ledger_row()};
  Zone& z = zone(row.zone());
  const IrqsOffGuard off;
  ledger_subtract(row, order.pages());
  if (percpu_claims.is_zero()) {
    ZoneStacks& stacks = stacks_for(row.zone_index());
    if (order == Order{0}) {
      if (stacks.singles.count == ZoneStacks::Singles::kCapacity) {
        drain_singles(z, ZoneStacks::kSinglesDrain, off.token());
      }
      page->set_word(Page::make_cached(order));
      stacks.singles.blocks[stacks.singles.count++] = page;
      return;
    }
  }
  page->set_word(0);
  const SpinGuard<NoIrq> guard{z.lock};
  z.buddy.free(z.index_of(page_to_pfn(page)), order);
}

/// As PageFast::pop(), for any order; nullptr too if there is no stack for it.
Page* pop_block(Order order, LedgerRow row) {
  switch (order.value()) {
    case 0: return PageFast::pop<0>(row);
    case 1: return PageFast::pop<1>(row);
    case 2: return PageFast::pop<2>(row);
    case 3: return PageFast::pop<3>(row);
    case 9: return PageFast::pop<9>(row);
    default: return nullptr;
  }
}

/// What PageFast::push() refused.
template <u32 kOrder>
void free_otherwise(Page* page) {
  if (page->word() - free_pattern(Order{kOrder}) > Page::kRowMask) [[unlikely]]
    return bad_free(page, Order{kOrder});  // or a virtual block
  free_slowly(page, Order{kOrder});
}

template <u32 kOrder>
[[gnu::always_inline]] inline void push(Page* page) {
  if (!PageFast::push<kOrder>(page)) [[unlikely]]
    free_otherwise<kOrder>(page);
}

}  // namespace

Result<Page*> take_block_slowly(AllocFlags flags, Order order, Owner owner) {
  if (order.value() > kMaxOrder) return std::unexpected(Error::InvalidArgument);
  if (must_fail(fault_page_alloc)) return fail(flags, order, owner);
  Page* page = take_with_effort(flags, order, owner, Retry::Yes);
  if (page == nullptr) page = take_at_others_cost(flags, order, owner);
  if (page == nullptr) return fail(flags, order, owner);
  return page;
}

template <u32 kOrder>
Result<Page*> take_block_of(AllocFlags flags, LedgerRow row) {
  Page* page = PageFast::pop<kOrder>(row);
  if (page == nullptr) [[unlikely]]
    return take_block_slowly(flags, Order{kOrder}, row.owner());
  return page;
}
template Result<Page*> take_block_of<0>(AllocFlags flags, LedgerRow row);
template Result<Page*> take_block_of<1>(AllocFlags flags, LedgerRow row);
template Result<Page*> take_block_of<2>(AllocFlags flags, LedgerRow row);
template Result<Page*> take_block_of<3>(AllocFlags flags, LedgerRow row);
template Result<Page*> take_block_of<9>(AllocFlags flags, LedgerRow row);

Page* take_page_quietly(AllocFlags flags, Owner owner) {
  Page* page = PageFast::pop<0>(LedgerRow{flags.zone(), owner});
  if (page == nullptr) [[unlikely]]
    return take_if_not_armed(flags, Order{0}, owner, Retry::Yes);
  return page;
}

Result<Page*> take_cleared_page(AllocFlags flags, LedgerRow row) {
  const Result<Page*> page = take_block_of<0>(flags, row);
  if (page) clear_highpage(*page);
  return page;
}

Page* take_block_quietly(AllocFlags flags, Order order, Owner owner) {
  Page* page = pop_block(order, LedgerRow{flags.zone(), owner});
  return page != nullptr ? page : take_if_not_armed(flags, order, owner, Retry::No);
}

Result<Page*> take_block(AllocFlags flags, Order order, Owner owner) {
  Page* page = pop_block(order, LedgerRow{flags.zone(), owner});
  if (page == nullptr) [[unlikely]]
    return take_block_slowly(flags, order, owner);
  return page;
}

Result<Page*> take_cleared_block(AllocFlags flags, Order order, Owner owner) {
  const Result<Page*> page = take_block(flags, order, owner);
  if (page) clear_block(*page, order);
  return page;
}

// The one place where virtual blocks take the place of frames: after the first attempt, before any verdict.
Result<Page*> take_any_block(AllocFlags flags, Order order, Owner owner) {
  if (order.value() > kMaxOrder) return std::unexpected(Error::InvalidArgument);
  const auto contiguous = [=] -> Page* {
    Page* page = pop_block(order, LedgerRow{flags.zone(), owner});
    if (page == nullptr) page = take_if_not_armed(flags, order, owner, Retry::No);
    if (page != nullptr && flags.has(AllocFlags::Zero)) clear_block(page, order);
    return page;
  };
  const bool forced = vfallback_is_forced();
  if (!forced) {
    if (Page* page = contiguous()) return page;
  }
  if (const Result<Page*> page = take_vcompound(flags, order, owner, __builtin_return_address(0))) return page;
  if (forced) {
    if (Page* page = contiguous()) return page;
  }
  return fail(flags, order, owner);
}

Result<Page*> alloc_page_at(Pfn pfn, Owner owner) {
  if (!pfn_valid(pfn)) return std::unexpected(Error::NotFound);
  if (must_fail(fault_page_at)) return std::unexpected(Error::Busy);
  const IrqsOffGuard off;
  drain_local_pages();
  Zone& z = zone(zone_of(pfn));
  const SpinGuard<NoIrq> guard{z.lock};
  if (!z.buddy.allocate_at(z.index_of(pfn), Order{0})) return std::unexpected(Error::Busy);
  PageFast::account_taken(pfn_to_page(pfn), Order{0}, LedgerRow{z.id, owner});
  return pfn_to_page(pfn);
}

void free_page_slowly(Page* page) { free_otherwise<0>(page); }

template <u32 kOrder>
void free_block_of(Page* page) {
  push<kOrder>(page);
}
template void free_block_of<1>(Page* page);
template void free_block_of<2>(Page* page);
template void free_block_of<3>(Page* page);
template void free_block_of<9>(Page* page);

void free_block(Page* page, Order order) {
  switch (order.value()) {
    case 0: return free_page(page);
    case 1: return push<1>(page);
    case 2: return push<2>(page);
    case 3: return push<3>(page);
    case 9: return push<9>(page);
    default: break;
  }
  if (page->word() - free_pattern(order) > Page::kRowMask) [[unlikely]]
    return bad_free(page, order);
  arch::check_frames(page_to_pfn(page), order.pages());
  free_slowly(page, order);
}

void put_page(Page* page) {
  if (page->put()) free_pages(page, compound_order(page));
}

Result<VirtAddr> __get_free_pages(AllocFlags flags, Order order, Owner owner) {
  ASSERT(is_low(flags.zone()));
  Page* page = TRY(alloc_pages(flags, order, owner));
  return *page_address(page);
}

Result<VirtAddr> get_zeroed_page(AllocFlags flags, Owner owner) {
  return __get_free_pages(flags | AllocFlags::Zero, Order{0}, owner);
}

void free_pages_at(VirtAddr address, Order order) {
  Page* page = address.is_aligned(kPageSize) ? page_with_address(address) : nullptr;
  if (page == nullptr) panic("bad free of address {:08x}: no page has it", address);
  free_pages(page, order);
}

void drain_local_pages() {
  const IrqsOffGuard off;
  if (!percpu_claims.is_zero()) return;
  for (const ZoneId id : kAllZones) {
    const ZoneStacks& stacks = stacks_for(std::to_underlying(id));
    if (stacks.singles.count != 0) drain_singles(zone(id), stacks.singles.count, off.token());
    for (u32 i = 0; i < kSmallStacks; ++i) {
      if (stacks.small[i].count == 0) continue;
      drain_small(zone(id), Order{kSmallStackOrder[i]}, stacks.small[i].count, off.token());
    }
  }
}

u32 allocation_failures() {
  u32 sum = 0;
  for (u32 cpu = 0; cpu < arch::online_cpus(); ++cpu) sum += failures.on(cpu);
  return sum;
}

}  // namespace paean
