// vmalloc's costs. A pair is: address, pages, entries written; entries cleared, pages freed, with its share of the
// flush and of the purge that follow a batch.
#include "mm/vmalloc.hpp"
#include "kernel/bench/kbench.hpp"
#include "kernel/bench/smp_bench.hpp"

namespace paean {

namespace {

void pair(BenchContext& bench, u32 pages) {
  const u32 bytes = pages * kPageSize;
  bench.run([=] {
    const Result<void*> at = vmalloc(bytes);
    keep(*at);
    vfree(*at);
  });
  vmalloc_purge();
}

struct OneArea {
  static bool prepare() { return true; }
  static void finish() {}
  void operator()(u32) const {
    const Result<void*> at = vmalloc(kPageSize);
    if (at) vfree(*at);
  }
};

}  // namespace

KBENCH(vmalloc_1, "vmalloc and vfree of one page") { pair(bench, 1); }
KBENCH(vmalloc_4, "vmalloc and vfree of 4 pages") { pair(bench, 4); }
KBENCH(smp_vmalloc, "vmalloc and vfree of one page on each CPU", .iterations = 20'000) {
  run_on_all_cpus<OneArea>(bench);
}

KBENCH(is_vmalloc_addr, "is an address in the vmalloc space?") {
  const void* at = &bench;
  bench.run([&] {
    asm volatile("" : "+r"(at));
    keep(is_vmalloc_addr(at));
  });
}

}  // namespace paean
