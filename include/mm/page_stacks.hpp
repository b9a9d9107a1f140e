// Each CPU's stacks of free blocks: what makes allocation cheap.
//
// For every zone a CPU keeps single pages, and a few blocks of orders 1, 2, 3 and 9 (2 MiB), last in first out. They
// are filled from and drained to the buddy in batches, so that the zone's lock is taken once for 64 to 128 pages.
// Blocks in a stack count as free; their first page's word says Cached.
//
// The stacks belong to their CPU. Whoever uses them marks them busy with one instruction (percpu_claims of
// kernel/preempt.hpp) instead of turning interrupts off: an interrupt that finds them busy goes to the buddy, and a
// thread that holds the mark is not preempted. Other CPUs only read the counts.
// Source: per-CPU page lists of Linux 2.5; order 9 in them since 5.13.
#pragma once

#include "arch/irq.hpp"
#include "arch/percpu.hpp"
#include "mm/zone.hpp"

namespace paean {

/// Which of a zone's small stacks an order has; kNoStack for most. Order 0 has its own.
inline constexpr u32 kSmallStacks = 4;
inline constexpr u8 kNoStack = 0xff;
inline constexpr u8 kSmallStackOf[16] = {kNoStack, 0, 1,        2,        kNoStack, kNoStack, kNoStack, kNoStack,
                                         kNoStack, 3, kNoStack, kNoStack, kNoStack, kNoStack, kNoStack, kNoStack};
inline constexpr u8 kSmallStackOrder[kSmallStacks] = {1, 2, 3, 9};
/// How many blocks a small stack is filled with, and how many it may hold.
inline constexpr u8 kSmallStackBatch[kSmallStacks] = {8, 4, 2, 1};
inline constexpr u8 kSmallStackLimit[kSmallStacks] = {15, 15, 15, 2};

constexpr u32 small_stack_of(Order order) { return kSmallStackOf[order.value() & 15]; }

template <u32 kSlots>
struct BlockStack {
  static constexpr u32 kCapacity = kSlots;
  u32 count = 0;
  Page* blocks[kSlots]{};
};

struct ZoneStacks {
  using Singles = BlockStack<191>;  // with the others exactly 1 KiB, so that a zone's stacks are found by a shift
  using Small = BlockStack<15>;
  static constexpr u32 kSinglesBatch = 64;   // and twice as many for who takes one after the other
  static constexpr u32 kSinglesDrain = 128;  // what stays are the newest, still in this CPU's cache

  Singles singles;
  Small small[kSmallStacks];  // orders 1, 2, 3, 9
};
static_assert(sizeof(ZoneStacks) == 1024);

/// How many blocks of an order a CPU keeps at most.
constexpr u32 stack_limit(Order order) {
  return order == Order{0} ? ZoneStacks::Singles::kCapacity : kSmallStackLimit[small_stack_of(order)];
}

struct CpuStacks {
  ZoneStacks zone[kZoneCount];
};
extern arch::PerCpu<CpuStacks> page_stacks;

/// How many single pages the next fill is for: more, when nothing was drained since the last two.
u32 next_batch(const Zone& zone, arch::IrqsOff);
/// Fills an empty stack from its zone's buddy; watermarks are the caller's business. False if the buddy had nothing.
/// The stacks are not busy.
bool fill_singles(Zone& zone, u32 pages, arch::IrqsOff);
bool fill_small(Zone& zone, Order order, arch::IrqsOff);

/// Gives the oldest blocks back. The stacks are not busy. Of single pages perhaps fewer, but at least one: a block is
/// not cut for the sake of the number, if not all go.
void drain_singles(Zone& zone, u32 blocks, arch::IrqsOff);
void drain_small(Zone& zone, Order order, u32 blocks, arch::IrqsOff);

/// Every CPU gives its stacks back to the buddies: what is missing to a block may lie there. True if others had any.
/// A CPU that is in the middle of using its own is asked again. Threads, interrupts and preemption on; waits for CPUs.
bool drain_all_pages();

/// Batches moved between stacks and buddies since boot.
struct StackEvents {
  u32 fills, drains;
};
StackEvents stack_events();

}  // namespace paean
