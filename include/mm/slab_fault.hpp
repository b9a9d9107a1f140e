// Misuse of object caches: how it is told.
//
//   PANIC: slab: double free: object c1a40230 of cache inode, by fs_drop+0x41,
//          taken by fs_open+0x20 (CPU 0, thread 4), given back by fs_close+0x33 (CPU 1, thread 7)
//
// A fault panics. Tests set a hook, which hears of it instead; the operation is then left out (a free that is wrong) or
// repaired (red zones and fillings), so that the cache goes on. Context: any; a cache's lock may be held.
#pragma once

#include <optional>

#include "mm/slab_check.hpp"

namespace paean {

struct SlabFault {
  SlabFaultKind kind;
  const char* cache;   // nullptr if the address is of no cache
  const void* object;  // what was taken or freed
  const void* where;   // the first wrong byte, or the object
  u32 caller;          // where the call returns to: the user, unless the compiler made a jump of his last call
  std::optional<ObjectTrack> track{};  // of checked caches, as it was before
};

using SlabFaultHook = void (*)(const SlabFault& fault);
/// nullptr: panic. Returns the one before.
SlabFaultHook set_slab_fault_hook(SlabFaultHook hook);

/// Tells the hook, or panics.
[[gnu::cold]] void report_slab_fault(const SlabFault& fault);

}  // namespace paean
