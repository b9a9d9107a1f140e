// Stacks and objects of threads: kernel/thread.hpp's ThreadMemory.
//
//   vmalloc_start                                    1024 slots of 12 KiB
//   | guard | stack 8 KiB | guard | stack 8 KiB | ...
//
// The guard pages are never mapped, so an overflow faults; its report comes from the double-fault task. A slot that was
// given back keeps its pages and its mapping, and is the first to be used again: a new thread then costs no allocation
// and no change of page tables. trim() takes the pages away, and tells every CPU before it frees them.
// Objects lie in lowmem, eight to a page.
#pragma once

#include <optional>

#include "lib/addr.hpp"

namespace paean {

inline constexpr u32 kStackSlots = 1024;
inline constexpr u32 kStackSlotBytes = 12 * kKiB;

/// Registers the pool with the threads. Boot CPU, once, after init_memory().
void init_stack_pool();

/// Frees the pages of stacks and objects that no thread uses. May sleep; interrupts on.
void trim_stack_pool();

/// The dynamic area from here to layout().vmalloc_end() is not the pool's.
VirtAddr stack_window_end();
/// The lowest byte of the guard page below the stack that holds `inside`; nullopt if it is in no stack of the pool.
std::optional<VirtAddr> guard_page_below(VirtAddr inside);

struct StackPoolCounts {
  u32 slots, used, cached;
};
StackPoolCounts stack_pool_counts();

}  // namespace paean
