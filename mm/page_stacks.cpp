#include "mm/page_stacks.hpp"

#include <atomic>

#include "arch/smp.hpp"
#include "arch/tlb.hpp"
#include "kernel/preempt.hpp"
#include "mm/page_alloc.hpp"

namespace paean {

using arch::IrqsOff;

PER_CPU(CpuStacks, page_stacks);

namespace {

PER_CPU(StackEvents, events);

ZoneStacks& stacks_of(const Zone& zone) { return page_stacks.local().zone[std::to_underlying(zone.id)]; }

/// Moves what is left of a stack to its bottom.
template <typename Stack>
void drop_oldest(Stack& stack, u32 blocks) {
  stack.count -= blocks;
  for (u32 i = 0; i < stack.count; ++i) stack.blocks[i] = stack.blocks[i + blocks];
}

constinit std::atomic<arch::CpuMask> to_be_drained{0};

void drain_if_unused(IrqsOff) {
  if (!percpu_claims.is_zero()) return;
  to_be_drained.fetch_and(~(1u << arch::this_cpu()));  // first, for others may want it once more meanwhile
  drain_local_pages();
}

bool have_others_any() {
  const u32 self = arch::this_cpu();
  for (u32 cpu = 0; cpu < arch::online_cpus(); ++cpu) {
    for (const ZoneId id : kAllZones) {
      if (cpu != self && stacked_pages(id, cpu).count() != 0) return true;
    }
  }
  return false;
}

}  // namespace

bool fill_singles(Zone& zone, IrqsOff) {
  ZoneStacks::Singles& stack = stacks_of(zone).singles;
  constexpr u32 kBatch = ZoneStacks::kSinglesBatch;
  Page* const base = pfn_to_page(zone.base);
  u32 got = 0;
  {
    const SpinGuard<NoIrq> guard{zone.lock};
    // No block is split just for the rest of a batch: its pieces would be the next batch's odd ends, for ever.
    while (got == 0 || (got < kBatch && (got < kBatch / 2 || zone.buddy.smallest_block() <= kBatch - got))) {
      const Buddy::Run run = zone.buddy.allocate_run(kBatch - got);
      if (run.count == 0) break;
      Page* page = base + run.first;
      Page** const first_slot = stack.blocks + got;
      for (Page** slot = first_slot + run.count; slot != first_slot;) {  // so that pops come in rising address order
        page->set_word(Page::make_cached(Order{0}));
        *--slot = page++;
      }
      got += run.count;
    }
  }
  stack.count = got;
  ++events.local().fills;
  return got != 0;
}

bool fill_small(Zone& zone, Order order, IrqsOff) {
  ZoneStacks::Small& stack = stacks_of(zone).small[small_stack_of(order)];
  const u32 batch = kSmallStackBatch[small_stack_of(order)];
  const SpinGuard<NoIrq> guard{zone.lock};
  while (stack.count < batch) {
    const u32 index = zone.buddy.allocate(order);
    if (index == Buddy::kNone) break;
    Page* page = pfn_to_page(zone.frame_at(index));
    page->set_word(Page::make_cached(order));
    stack.blocks[stack.count++] = page;
  }
  ++events.local().fills;
  return stack.count != 0;
}

void drain_singles(Zone& zone, u32 blocks, IrqsOff) {
  ZoneStacks::Singles& stack = stacks_of(zone).singles;
  Page* const base = pfn_to_page(zone.base);
  {
    const SpinGuard<NoIrq> guard{zone.lock};
    // Runs of neighbours, rising or falling, go as one range, which merges once instead of once for each page.
    Page** const stop = stack.blocks + blocks;
    for (Page** slot = stack.blocks; slot != stop;) {
      Page* first = *slot++;
      Page* last = first;
      first->set_word(0);
      for (; slot != stop && *slot == last + 1; ++slot) (++last)->set_word(0);
      for (; slot != stop && *slot == first - 1; ++slot) (--first)->set_word(0);
      zone.buddy.free_range(static_cast<u32>(first - base), static_cast<u32>(last - first) + 1);
    }
  }
  drop_oldest(stack, blocks);
  ++events.local().drains;
}

void drain_small(Zone& zone, Order order, u32 blocks, IrqsOff) {
  ZoneStacks::Small& stack = stacks_of(zone).small[small_stack_of(order)];
  Page* const base = pfn_to_page(zone.base);
  {
    const SpinGuard<NoIrq> guard{zone.lock};
    for (u32 i = 0; i < blocks; ++i) {
      stack.blocks[i]->set_word(0);
      zone.buddy.free(static_cast<u32>(stack.blocks[i] - base), order);
    }
  }
  drop_oldest(stack, blocks);
  ++events.local().drains;
}

bool drain_all_pages() {
  drain_local_pages();
  if (!have_others_any()) return false;
  const arch::CpuMask all = arch::online_cpu_mask();
  to_be_drained.fetch_or(all);
  while ((to_be_drained.load() & all) != 0) {
    arch::run_on_other_cpus(drain_if_unused);
    const arch::IrqsOffGuard off;
    drain_if_unused(off.token());  // wherever this thread is now
  }
  return true;
}

StackEvents stack_events() {
  StackEvents sum{};
  for (u32 cpu = 0; cpu < arch::online_cpus(); ++cpu) {
    sum.fills += events.on(cpu).fills;
    sum.drains += events.on(cpu).drains;
  }
  return sum;
}

}  // namespace paean
