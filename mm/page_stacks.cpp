#include "mm/page_stacks.hpp"

#include <algorithm>
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

struct FillsInARow {
  u32 zone[kZoneCount];
};
PER_CPU(FillsInARow, fills_in_a_row);

ZoneStacks& stacks_of(const Zone& zone) { return page_stacks.local().zone[std::to_underlying(zone.id)]; }

/// Moves what is left of a stack to its bottom.
template <typename Stack>
void drop_oldest(Stack& stack, u32 blocks) {
  stack.count -= blocks;
  std::copy_n(stack.blocks + blocks, stack.count, stack.blocks);  // which may overlap so
}

/// Neighbours that lie in a stack one after the other, rising or falling.
struct StackRun {
  Page* first;
  u32 pages;
};

/// The longest that begins here, in at most so many blocks.
StackRun find_run(Page* const* slots, u32 most) {
  Page* const first = slots[0];
  const auto rises = [&](u32 i) { return slots[i] == first + i; };
  const auto falls = [&](u32 i) { return slots[i] == first - i; };
  u32 pages = 1;
  if (most == 1 || !(rises(1) || falls(1))) return {first, 1};
  if (rises(1)) {
    while (pages + 4 <= most && rises(pages) && rises(pages + 1) && rises(pages + 2) && rises(pages + 3)) pages += 4;
    while (pages != most && rises(pages)) ++pages;
    return {first, pages};
  }
  while (pages != most && falls(pages)) ++pages;
  return {first - (pages - 1), pages};
}

/// Of a run that goes on behind what is to be drained, only whole blocks of 64 pages, if it has any: the next drain
/// then begins where the last one ended, and neither cuts a block into pieces.
void cut_to_whole_blocks(StackRun& run, Page* const* slots, Page* base) {
  constexpr u32 kMask = 64 - 1;
  const u32 first = static_cast<u32>(run.first - base), end = first + run.pages;
  if (slots[0] == run.first) {
    if (slots[run.pages] == run.first + run.pages && (end & ~kMask) > first) run.pages = (end & ~kMask) - first;
  } else if (const u32 start = (first + kMask) & ~kMask; slots[run.pages] == run.first - 1 && start < end) {
    run = {base + start, end - start};
  }
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

u32 next_batch(const Zone& zone, IrqsOff) {
  const bool many = fills_in_a_row.local().zone[std::to_underlying(zone.id)] >= 2;
  return many ? 2 * ZoneStacks::kSinglesBatch : ZoneStacks::kSinglesBatch;
}

bool fill_singles(Zone& zone, u32 pages, IrqsOff) {
  ZoneStacks::Singles& stack = stacks_of(zone).singles;
  Page* const base = pfn_to_page(zone.base);
  u32 got = 0;
  {
    const SpinGuard<NoIrq> guard{zone.lock};
    // No block is split just for the rest of a batch: its pieces would be the next batch's odd ends, for ever.
    while (got == 0 || (got < pages && (got < pages / 2 || zone.buddy.smallest_block() <= pages - got))) {
      const Buddy::Run run = zone.buddy.allocate_run(pages - got);
      if (run.count == 0) break;
      Page* const first = base + run.first;
      got += run.count;
#pragma GCC unroll 4
      for (u32 i = 0; i < run.count; ++i) {
        first[i].set_word(Page::make_cached(Order{0}));
        stack.blocks[got - 1 - i] = first + i;  // so that pops come in rising address order
      }
    }
  }
  stack.count = got;
  ++fills_in_a_row.local().zone[std::to_underlying(zone.id)];
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
    // Runs of neighbours go as one range, which merges once instead of once for each page.
    for (u32 gone = 0; gone < blocks;) {
      Page** const slot = stack.blocks + gone;
      StackRun run = find_run(slot, blocks - gone);
      if (gone + run.pages == blocks && blocks < stack.count) {
        cut_to_whole_blocks(run, slot, base);
        blocks = gone + run.pages;
      }
      Page::clear_words(run.first, run.pages);
      zone.buddy.free_range(static_cast<u32>(run.first - base), run.pages);
      gone += run.pages;
    }
  }
  drop_oldest(stack, blocks);
  fills_in_a_row.local().zone[std::to_underlying(zone.id)] = 0;
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
