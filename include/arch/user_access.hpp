// Instructions that touch user memory from the kernel: the only ones, and each may fault.
//
// With SMAP they stand between stac and clac; a trap in between ends the permission until it returns (its frame has the
// flag). A fault that nobody resolves continues at a fix-up. Addresses are the caller's business: below user space's
// end.
// Source: Intel SDM vol. 3A 4.6 (SMAP).
#pragma once

#include "lib/types.hpp"

namespace paean::arch {

extern "C" {
/// Not zero: the CPU has SMAP and it is on.
extern u32 user_access_guarded;
/// Bytes that were not copied.
u32 user_copy_in(void* to, u32 from, u32 bytes);
u32 user_copy_out(u32 to, const void* from, u32 bytes);
u32 user_fill_zero(u32 to, u32 bytes);
/// 0, or 1 if the access faulted. `expected` becomes what was there.
u32 user_compare_exchange(u32 at, u32* expected, u32 desired);
}

/// Any context. Two instructions where there is no SMAP.
[[gnu::always_inline]] inline void end_user_access() {
  if (user_access_guarded != 0) asm volatile("clac" ::: "memory", "cc");
}

}  // namespace paean::arch
