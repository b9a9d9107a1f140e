// Stacks and objects of threads, kernel/thread.hpp's ThreadMemory; and stacks of CPUs.
//
//   vmalloc_start                                    slots of 12 KiB
//   | guard | stack 8 KiB | guard | stack 8 KiB | ...
//
// The guard pages are never mapped, so an overflow faults; its report comes from the double-fault task. A slot that was
// given back keeps its pages and its mapping, and is the first to be used again: a new thread then costs no allocation
// and no change of page tables. trim() takes the pages away, and tells every CPU before it frees them.
// Objects lie in lowmem, eight to a page.
//
// Threads for which there is no slot have stacks of the second kind, blocks of lowmem without a guard page:
// mm/direct_stacks.hpp. Stacks of CPUs are always in the window.
//
// How many slots: half of the top of vmalloc, or all but 60 MiB of it where that is more: 5,120 by default, 32,768 with
// `vmalloc=448M`. No more than would fill a quarter of memory.
#pragma once

#include <optional>

#include "lib/addr.hpp"
#include "lib/result.hpp"

namespace paean {

inline constexpr u32 kMostStackSlots = 65'000;
inline constexpr u32 kStackSlotBytes = 12 * kKiB;

/// Registers the pool with the threads. Boot CPU, once, after init_memory().
void init_stack_pool();

/// A stack for a CPU: its first one, or that of its double-fault task. Kept for ever; the address is its top. The page
/// below it is never mapped, as for threads. OutOfMemory; TooLarge if all slots are taken.
Result<VirtAddr> take_cpu_stack();
/// One that was never used, because its CPU could not be given all that it needs.
void give_back_cpu_stack(VirtAddr top);

/// Frees the pages of stacks and objects that no thread uses. May sleep; interrupts on.
void trim_stack_pool();

/// The dynamic area from here to layout().vmalloc_end() is not the pool's.
VirtAddr stack_window_end();
/// The lowest byte of the guard page below the stack that holds `inside`; nullopt if it is in no stack of the pool.
std::optional<VirtAddr> guard_page_below(VirtAddr inside);

struct StackPoolCounts {
  u32 slots, used, cached;       // of the window
  u32 direct_most, direct_used;  // in the direct map
};
StackPoolCounts stack_pool_counts();

/// How many stacks of either kind may be in use, beyond which threads get the other kind, or none. For tests: what was
/// set before.
struct StackLimits {
  u32 window, direct;
};
StackLimits set_stack_limits(StackLimits limits);

}  // namespace paean
