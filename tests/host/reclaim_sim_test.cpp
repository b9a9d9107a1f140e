#include "reclaim_sim.hpp"

#include <algorithm>
#include <cmath>
#include <random>

#include "support.hpp"

namespace paean::host {

namespace {

// A guest of 512 MiB, scaled by 1/16 in pages so that the sanitizers get through; the working set is four times that.
constexpr u32 kMemory = (512u << 8) / 16, kDisk = 4 * kMemory, kAccesses = 40 * kMemory;
constexpr u32 kWritesInHundred = 20;

class Traces {
 public:
  explicit Traces(u32 seed) : random_(seed) {}

  Trace uniform() {
    return make([this](u32) { return below(kDisk); });
  }
  /// The n-th page in popularity is wanted in proportion to 1 / n^power; popular ones lie anywhere.
  Trace zipf(double power) {
    std::vector<double> sums(kDisk);
    double sum = 0;
    for (u32 i = 0; i < kDisk; ++i) sums[i] = sum += 1 / std::pow(i + 1, power);
    std::vector<u32> places(kDisk);
    for (u32 i = 0; i < kDisk; ++i) places[i] = i;
    std::shuffle(places.begin(), places.end(), random_);
    return make([&, this](u32) {
      const double at = std::uniform_real_distribution{0.0, sum}(random_);
      return places[static_cast<u32>(std::lower_bound(sums.begin(), sums.end(), at) - sums.begin())];
    });
  }
  Trace cycle() {
    return make([](u32 n) { return n % kDisk; });
  }
  /// Nine of ten accesses go to a tenth of the disk.
  Trace hot_and_cold() {
    return make([this](u32) { return below(10) != 0 ? below(kDisk / 10) : below(kDisk); });
  }
  /// A working set of so many pages, which moves on now and then.
  Trace phases(u32 pages, u32 length) {
    return make([=, this](u32 n) { return (n / length * pages + below(pages)) % kDisk; });
  }
  /// One that is read in turn, again and again, before it moves on.
  Trace loops(u32 pages, u32 rounds) {
    return make([=](u32 n) { return (n / (pages * rounds) * pages + n % pages) % kDisk; });
  }
  /// A program with a hot set beside a backup that reads everything once.
  Trace backup() {
    return make([this, at = 0u](u32 n) mutable { return n % 2 == 0 ? below(kMemory * 3 / 4) : at++ % kDisk; });
  }
  /// Small files, written, read twice, left; some of them come back.
  Trace small_files() {
    constexpr u32 kFilePages = 8, kFiles = kDisk / kFilePages;
    return make([this, file = 0u, step = 0u](u32) mutable {
      if (step == 3 * kFilePages) {
        step = 0;
        file = below(4) != 0 ? (file + kFiles - below(kMemory / kFilePages / 2)) % kFiles : below(kFiles);
      }
      return file * kFilePages + step++ % kFilePages;
    });
  }

 private:
  template <typename Next>
  Trace make(Next next) {
    Trace trace;
    trace.reserve(kAccesses);
    for (u32 n = 0; n < kAccesses; ++n) trace.push_back({next(n), below(100) < kWritesInHundred});
    return trace;
  }
  u32 below(u32 bound) { return static_cast<u32>(u64{random_()} * bound >> 32); }
  std::mt19937 random_;
};

void compare(const std::string& name, const Trace& trace) {
  const Traffic kernel = play_kernel(trace, kDisk, kMemory), lru = play_lru(trace, kDisk, kMemory);
  const double ratio = static_cast<double>(kernel.all()) / static_cast<double>(lru.all());
  MESSAGE(name << ": " << kernel.all() << " transfers, exact LRU " << lru.all() << ", ratio " << ratio);
  CHECK(ratio <= 1.3);
}

}  // namespace

TEST_SUITE("reclaim simulator") {
  TEST_CASE("a working set of four times memory costs the disk at most 1.3 times what exact LRU does") {
    Traces traces{1};
    compare("uniform", traces.uniform());
    compare("zipf 0.8", traces.zipf(0.8));
    compare("zipf 1.0", traces.zipf(1.0));
    compare("cycle", traces.cycle());
    compare("hot and cold", traces.hot_and_cold());
    compare("backup", traces.backup());
    compare("small files", traces.small_files());
  }

  TEST_CASE("a working set that moves is cached again") {
    Traces traces{2};
    compare("phases of half", traces.phases(kMemory / 2, 4 * kMemory));
    compare("phases of 9/10", traces.phases(kMemory * 9 / 10, 10 * kMemory));
    compare("loops of half", traces.loops(kMemory / 2, 8));
    compare("loops of 4/5", traces.loops(kMemory * 4 / 5, 12));
  }
}

}  // namespace paean::host
