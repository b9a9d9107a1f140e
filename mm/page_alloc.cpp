#include "mm/page_alloc.hpp"

#include "kernel/preempt.hpp"
#include "lib/log.hpp"
#include "mm/bad_free.hpp"
#include "mm/highmem.hpp"
#include "mm/ledger.hpp"
#include "mm/page_stacks.hpp"

namespace paean {

namespace {

using arch::IrqsOff;
using arch::IrqsOffGuard;

PER_CPU(u32, failures){0u};

/// How far below its watermark a zone may be taken.
enum class Effort : u8 { AboveLow, AboveMin, HalfOfMin };

bool above_watermark(const Zone& z, u32 free, u32 wanted, ZoneId highest, Effort effort) {
  u32 mark = z.reserve[std::to_underlying(highest)].count();
  mark += effort == Effort::AboveLow ? z.low.count() : effort == Effort::AboveMin ? z.min.count() : z.min.count() / 2;
  return free >= mark + wanted;
}

/// Keeps the compiler from moving memory accesses across the marks; the CPU sees its own accesses in order.
[[gnu::always_inline]] inline void compiler_barrier() { asm volatile("" ::: "memory"); }

/// Claims this CPU's stacks, unless an interrupt came into the middle of somebody else's claim.
[[gnu::always_inline]] inline bool claim_stacks() { return percpu_claims.claim(); }
[[gnu::always_inline]] inline void release_stacks() {
  compiler_barrier();
  percpu_claims.set(0);
}

[[gnu::always_inline]] inline void account_taken(Page* page, Order order, LedgerRow row) {
  ledger_counters.local().pages[row.value()] += order.pages();
  page->set_word(Page::make_block(order, row.value()));
}

[[gnu::always_inline]] inline ZoneStacks& stacks_for(u32 zone_index) { return page_stacks.local().zone[zone_index]; }

/// The address is computed once: without this the compiler derives it anew, in more instructions, at every use.
template <typename Stack>
[[gnu::always_inline]] inline Stack* once(Stack& stack) {
  Stack* address = &stack;
  asm("" : "+r"(address));
  return address;
}

/// nullptr if the stack is empty.
template <typename Stack>
[[gnu::always_inline]] inline Page* pop(Stack* stack) {
  const u32 left = stack->count - 1;
  if (static_cast<i32>(left) < 0) [[unlikely]]
    return nullptr;
  stack->count = left;
  Page* page = stack->blocks[left];
  if (page == nullptr) __builtin_unreachable();  // so that the callers' test is the one above
  return page;
}

Page* take_from_buddy(Zone& z, Order order, Owner owner, ZoneId highest, Effort effort, IrqsOff) {
  const SpinGuard<NoIrq> guard{z.lock};
  if (!above_watermark(z, z.buddy.free_pages(), order.pages(), highest, effort)) return nullptr;
  const u32 index = z.buddy.allocate(order);
  if (index == Buddy::kNone) return nullptr;
  Page* page = pfn_to_page(z.frame_at(index));
  account_taken(page, order, LedgerRow{z.id, owner});
  return page;
}

/// Fills the stack that would have served this request, if the zone has plenty, and pops from it.
Page* take_through_stack(Zone& z, Order order, Owner owner, ZoneId highest, IrqsOff off) {
  ZoneStacks& stacks = stacks_for(std::to_underlying(z.id));
  const auto pop = [&](auto& stack) {
    Page* page = stack.blocks[--stack.count];
    account_taken(page, order, LedgerRow{z.id, owner});
    return page;
  };
  const auto plenty = [&](u32 pages) NO_THREAD_SAFETY_ANALYSIS {  // one word, read without the lock: a hint
    return above_watermark(z, z.buddy.free_pages(), pages, highest, Effort::AboveLow);
  };
  if (order == Order{0}) {
    if (stacks.singles.count != 0) return pop(stacks.singles);
    return plenty(ZoneStacks::kSinglesBatch) && fill_singles(z, off) ? pop(stacks.singles) : nullptr;
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
    if (percpu_claims.is_zero()) {
      if (Page* page = take_through_stack(z, order, owner, flags.zone(), off)) return page;
    }
    if (Page* page = take_from_buddy(z, order, owner, flags.zone(), effort, off)) return page;
  }
  return nullptr;
}

void clear_block(Page* page, Order order) {
  for (u32 i = 0; i < order.pages(); ++i) clear_highpage(page + i);
}

[[gnu::noinline]] Result<Page*> allocate_slowly(AllocFlags flags, Order order, Owner owner) {
  if (order.value() > kMaxOrder) return std::unexpected(Error::InvalidArgument);
  Page* page = nullptr;
  {
    const IrqsOffGuard off;
    page = take_from_zones(flags, order, owner, Effort::AboveLow, off.token());
    if (page == nullptr) {  // blocks in this CPU's stacks may complete a larger one
      drain_local_pages();
      const Effort last = flags.has(AllocFlags::Atomic) ? Effort::HalfOfMin : Effort::AboveMin;
      page = take_from_zones(flags, order, owner, last, off.token());
    }
    if (page == nullptr) ++failures.local();
  }
  if (page == nullptr) {
    if (!flags.has(AllocFlags::NoWarn)) {
      log_warning("page allocation failed: order {}, highest zone {}, for {}", order, name(flags.zone()), name(owner));
    }
    return std::unexpected(Error::OutOfMemory);
  }
  if (flags.has(AllocFlags::Zero)) clear_block(page, order);
  return page;
}

/// What the word of a legal free looks like, but for the ledger row.
constexpr u32 free_pattern(Order order) { return Page::make_block(order, 0); }

/// Everything that the fast paths leave out: full stacks, orders without one, interrupts on top of a claim.
[[gnu::noinline]] void free_slowly(Page* page, Order order) {
  const LedgerRow row{page->ledger_row()};
  Zone& z = zone(row.zone());
  const IrqsOffGuard off;
  ledger_counters.local().pages[row.value()] -= order.pages();
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

}  // namespace

Result<Page*> take_page(AllocFlags flags, LedgerRow row) {
  if (!claim_stacks()) [[unlikely]]
    return allocate_slowly(flags, Order{0}, row.owner());
  Page* page = pop(once(stacks_for(row.zone_index()).singles));
  if (page == nullptr) [[unlikely]] {
    release_stacks();
    return allocate_slowly(flags, Order{0}, row.owner());
  }
  account_taken(page, Order{0}, row);
  release_stacks();
  return page;
}

Result<Page*> take_cleared_page(AllocFlags flags, LedgerRow row) {
  const Result<Page*> page = take_page(flags, row);
  if (page) clear_highpage(*page);
  return page;
}

Result<Page*> take_block(AllocFlags flags, Order order, Owner owner) {
  const u32 index = small_stack_of(order);
  if (index == kNoStack || flags.has(AllocFlags::Zero) || !claim_stacks()) return allocate_slowly(flags, order, owner);
  const LedgerRow row{flags.zone(), owner};
  Page* page = pop(once(stacks_for(row.zone_index()).small[index]));
  if (page == nullptr) [[unlikely]] {
    release_stacks();
    return allocate_slowly(flags, order, owner);
  }
  account_taken(page, order, row);
  release_stacks();
  return page;
}

Result<Page*> alloc_page_at(Pfn pfn, Owner owner) {
  if (!pfn_valid(pfn)) return std::unexpected(Error::NotFound);
  const IrqsOffGuard off;
  drain_local_pages();
  Zone& z = zone(zone_of(pfn));
  const SpinGuard<NoIrq> guard{z.lock};
  if (!z.buddy.allocate_at(z.index_of(pfn), Order{0})) return std::unexpected(Error::Busy);
  account_taken(pfn_to_page(pfn), Order{0}, LedgerRow{z.id, owner});
  return pfn_to_page(pfn);
}

void free_page(Page* page) {
  const u32 row = page->word() - free_pattern(Order{0});  // one subtraction checks type, order and references
  if (row > Page::kRowMask) [[unlikely]]
    return bad_free(page, Order{0});
  if (!claim_stacks()) [[unlikely]]
    return free_slowly(page, Order{0});
  ZoneStacks::Singles* stack = once(stacks_for(LedgerRow{row}.zone_index()).singles);
  const u32 count = stack->count;
  if (count == ZoneStacks::Singles::kCapacity) [[unlikely]] {
    release_stacks();
    return free_slowly(page, Order{0});
  }
  ledger_counters.local().pages[row] -= 1;
  page->set_word(Page::make_cached(Order{0}));
  stack->blocks[count] = page;
  stack->count = count + 1;
  release_stacks();
}

void free_block(Page* page, Order order) {
  const u32 row = page->word() - free_pattern(order);
  if (row > Page::kRowMask) [[unlikely]]
    return bad_free(page, order);
  const u32 index = small_stack_of(order);
  if (index == kNoStack || !claim_stacks()) return free_slowly(page, order);
  ZoneStacks::Small* stack = once(stacks_for(LedgerRow{row}.zone_index()).small[index]);
  const u32 count = stack->count;
  if (count == kSmallStackLimit[index]) [[unlikely]] {
    release_stacks();
    return free_slowly(page, order);
  }
  ledger_counters.local().pages[row] -= order.pages();
  page->set_word(Page::make_cached(order));
  stack->blocks[count] = page;
  stack->count = count + 1;
  release_stacks();
}

void put_page(Page* page) {
  if (page->put()) free_pages(page, page->order());
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
  const Result<LowPfn> low = low_frame_at(address);
  if (!low || !address.is_aligned(kPageSize)) panic("bad free of address {:08x}: not a lowmem page", address);
  free_pages(pfn_to_page(low->pfn()), order);
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
