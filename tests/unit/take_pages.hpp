// Single pages out of a buddy allocator, for its tests here, on the host and in the fuzzer.
#pragma once

#include "mm/buddy.hpp"

namespace paean {

/// The numbers of up to `want` pages into `out`, in as few runs as there are; how many it got.
inline u32 take_pages(Buddy& buddy, u32 want, u32* out) {
  u32 got = 0;
  while (got < want) {
    const Buddy::Run run = buddy.allocate_run(want - got);
    if (run.count == 0) break;
    for (u32 i = 0; i < run.count; ++i) out[got++] = run.first + i;
  }
  return got;
}

}  // namespace paean
