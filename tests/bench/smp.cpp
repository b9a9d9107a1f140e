// Do the hot paths stay cheap when every CPU uses them at once?
#include "kernel/bench/smp_bench.hpp"
#include "mm/highmem.hpp"
#include "mm/kmap.hpp"
#include "mm/page_alloc.hpp"

namespace paean {

namespace {

/// Work on `kCount` high pages of its CPU's own.
template <u32 kCount>
class OwnPages {
 public:
  bool prepare() {
    const Result<void*> memory = kmalloc(kCount * sizeof(Page*), AllocFlags::Kernel);
    if (!memory) return false;
    pages_ = static_cast<Page**>(*memory);
    for (; taken_ < kCount; ++taken_) {
      const Result<Page*> page = alloc_page(AllocFlags::HighUser, Owner::Test);
      if (!page) return false;
      pages_[taken_] = *page;
    }
    return true;
  }
  void finish() {
    while (taken_ != 0) free_page(pages_[--taken_]);
    if (pages_ != nullptr) kfree(static_cast<void*>(pages_));
  }

 protected:
  Page* page(u32 number) const { return pages_[number]; }

 private:
  Page** pages_ = nullptr;
  u32 taken_ = 0;
};

struct KmapHit : OwnPages<1> {
  void operator()(u32) const {
    const Kmap map{page(0)};
    keep(*map.as<volatile u32>());
  }
};

/// Each of so many pages in turn.
template <u32 kCount>
struct KmapInTurn : OwnPages<kCount> {
  u32 next = 0;
  void operator()(u32) {
    const Kmap map{this->page(next)};
    keep(*map.as<volatile u32>());
    if (++next == kCount) next = 0;
  }
};
using KmapMix = KmapInTurn<300>;
/// Together with those of the other CPUs more than there are slots: every map is a miss. The boot CPU reads the
/// counters before the first sample of each placement and after the last.
struct KmapMiss : KmapInTurn<2048> {
  static inline KmapStatistics before;
  static inline BenchValue best_ratio = BenchValue::hundredths(0);
  bool prepare() {
    if (arch::this_cpu() == 0) before = kmap_statistics();
    return KmapInTurn::prepare();
  }
  void finish() {
    if (arch::this_cpu() == 0) {
      const KmapStatistics after = kmap_statistics();
      const u32 ipis = after.ipis - before.ipis;
      const BenchValue ratio = BenchValue::ratio(after.ipis_if_wrapped - before.ipis_if_wrapped, ipis == 0 ? 1 : ipis);
      if (ratio.in_hundredths() > best_ratio.in_hundredths()) best_ratio = ratio;
    }
    KmapInTurn::finish();
  }
};

struct Local : OwnPages<1> {
  void operator()(u32) const {
    const KmapLocal map{page(0)};
    keep(*map.as<volatile u32>());
  }
};

struct AllocFree {
  static bool prepare() { return true; }
  static void finish() {}
  void operator()(u32) const {
    const Result<Page*> page = alloc_page(AllocFlags::HighUser, Owner::Test);
    if (page) free_page(*page);
  }
};

}  // namespace

KBENCH(smp_kmap_hit, "kmap a page of its own on each CPU", .iterations = 20'000) { run_on_all_cpus<KmapHit>(bench); }
KBENCH(smp_kmap_mix, "kmap 300 pages in turn on each CPU", .iterations = 20'000) { run_on_all_cpus<KmapMix>(bench); }
// Streams of 100,000 maps by two CPUs, 25 in each placement, of which the best counts: where the host runs our CPUs in
// turns, each has to interrupt the other. One CPU alone sends none.
KBENCH(smp_kmap_miss_ipis, "how many times fewer IPIs kmaps that miss need than a flush each time over the slots",
       .iterations = 50'000) {
  if (arch::online_cpus() == 1) return bench.skip("one CPU has nobody to interrupt");
  KmapMiss::best_ratio = BenchValue::hundredths(0);
  const std::optional<SmpVerdict> all = work_on_all_cpus<KmapMiss>(bench);
  if (all) report_with_host(bench, *all, KmapMiss::best_ratio, "times fewer");
}
KBENCH(smp_alloc_free, "a high page on each CPU", .iterations = 20'000) { run_on_all_cpus<AllocFree>(bench); }
KBENCH(smp_kmap_local, "kmap_local on each CPU", .iterations = 20'000) { run_on_all_cpus<Local>(bench); }

}  // namespace paean
