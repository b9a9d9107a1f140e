// Faults of object caches, heard instead of panicked about.
#pragma once

#include "access.hpp"
#include "mm/kmalloc.hpp"
#include "mm/slab_fault.hpp"

namespace paean {

/// What was reported while one of these lives. One at a time; faults may come from any CPU.
class FaultListener {
 public:
  FaultListener() : before_(set_slab_fault_hook(hear)) { heard_count = 0; }
  ~FaultListener() { set_slab_fault_hook(before_); }
  FaultListener(const FaultListener&) = delete;
  FaultListener& operator=(const FaultListener&) = delete;

  u32 count() const { return heard_count; }
  const SlabFault& last() const { return heard_last; }
  /// Exactly one fault since the last call, and of this kind.
  bool heard(SlabFaultKind kind) {
    const bool one = heard_count == 1 && heard_last.kind == kind;
    heard_count = 0;
    return one;
  }

 private:
  static void hear(const SlabFault& fault) {
    heard_last = fault;
    ++heard_count;
  }
  static inline constinit SlabFault heard_last{};
  static inline constinit u32 heard_count = 0;
  SlabFaultHook before_;
};

}  // namespace paean
