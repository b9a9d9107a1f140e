// Kernel stacks of the second kind: blocks of two pages of lowmem, used through the direct map.
//
//   | mark | ................ stack, 8 KiB ........ top |    below it lies whatever owns the frame before
//
// They cost no address space and no page tables, but lowmem; so they are for the threads for which the window of
// mm/stack_pool.hpp has no slot. There is no guard page: the mark in the lowest word is looked at whenever the thread
// gives up the CPU (kernel/scheduler.hpp). A block is freed as soon as its thread is gone: the direct map stays, so
// there is nothing to flush.
//
// How many: as fill half of lowmem, and with the window's no more than would fill a quarter of memory. So it is here,
// with an error for who wants one more process, that a crowd of threads ends, and not where the kernel's own requests
// would fail.
// Errors: OutOfMemory; TooLarge beyond the limit. Context: take() may sleep; give_back() in any context.
#pragma once

#include <atomic>

#include "kernel/thread.hpp"
#include "mm/slab.hpp"

namespace paean {

/// Room for a thread's object, and where its stack is.
struct ThreadCell {
  u8 object[kThreadObjectBytes];
  VirtAddr stack;  // its lowest byte
};
static_assert(sizeof(ThreadCell) == 512);

class DirectStacks {
 public:
  /// `others` are the stacks that the window has at most. Once.
  void init(u32 others);
  Result<ThreadPlace> take();
  void give_back(ThreadCell& cell);

  u32 used() const { return used_.load(std::memory_order_relaxed); }
  u32 limit() const { return limit_.load(std::memory_order_relaxed); }
  void set_limit(u32 limit) { limit_.store(limit, std::memory_order_relaxed); }

 private:
  Result<> reserve();
  ObjectCache cells_;
  std::atomic<u32> used_{0}, limit_{0};
};

}  // namespace paean
