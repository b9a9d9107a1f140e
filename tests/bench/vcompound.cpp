// A virtual block and vmalloc of the same size: what the first costs beyond the second is its page words.
#include "mm/vcompound.hpp"

#include "kernel/bench/kbench.hpp"
#include "mm/vmalloc.hpp"

namespace paean {

KBENCH(vmalloc_16, "vmalloc and vfree of 16 pages") {
  bench.run([] {
    const Result<void*> at = vmalloc(16 * kPageSize);
    keep(*at);
    vfree(*at);
  });
  vmalloc_purge();
}

KBENCH(vfallback_order4, "a virtual block of 16 pages, taken and freed") {
  const ForceVFallback force;
  bench.run([] {
    const Result<Page*> head = alloc_pages(AllocFlags::HighUser | AllocFlags::VFallback, Order{4}, Owner::Test);
    keep(*head);
    free_pages(*head, Order{4});
  });
  vmalloc_purge();
}

}  // namespace paean
