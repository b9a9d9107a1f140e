// The memory of the TLB checker on a machine of three pretended CPUs, against TLBs that are really there.
#include "arch/tlb_stamps.hpp"

#include <random>
#include <set>

#include "support.hpp"

using namespace paean;
using arch::CpuState;
using arch::may_be_stale;
using arch::TlbStamps;

namespace {

constexpr u32 kCpus = 3, kPages = 24;

/// Each CPU's TLB is the set of pages that it still has. Idle CPUs flush when they wake if there is a newer generation.
struct Machine {
  u32 newest = 0xfffffff0;  // passes the end of the counter soon
  u32 flushed[kCpus] = {newest, newest, newest};
  bool idle[kCpus] = {};
  std::set<u32> tlb[kCpus];

  void flush(u32 cpu) {
    tlb[cpu].clear();
    flushed[cpu] = newest;
  }
  void wake(u32 cpu) {
    if (static_cast<i32>(flushed[cpu] - newest) < 0) flush(cpu);
    idle[cpu] = false;
  }
  /// A CPU that idles will have flushed before it uses what it has, if there is a reason to.
  bool is_stale(u32 page) const {
    for (u32 cpu = 0; cpu < kCpus; ++cpu) {
      const bool will_flush = idle[cpu] && static_cast<i32>(flushed[cpu] - newest) < 0;
      if (!will_flush && tlb[cpu].contains(page)) return true;
    }
    return false;
  }
  bool is_reported(const TlbStamps& stamps, u32 page) const {
    const TlbStamps::Stamp* stamp = stamps.find(page);
    if (stamp == nullptr) return false;
    for (u32 cpu = 0; cpu < kCpus; ++cpu) {
      if (may_be_stale(*stamp, cpu, flushed[cpu], idle[cpu] ? CpuState::Idle : CpuState::Running, newest)) return true;
    }
    return false;
  }
};

}  // namespace

TEST_SUITE("tlb_stamps") {
  TEST_CASE("the younger of two keys in one place is remembered") {
    TlbStamps::Stamp places[4];
    TlbStamps stamps{places};
    CHECK(stamps.find(0) == nullptr);
    stamps.put({1, 7, TlbStamps::kNoCpu, 2});
    stamps.put({5, 8, TlbStamps::kNoCpu, 2});
    CHECK(stamps.find(1) == nullptr);
    REQUIRE(stamps.find(5) != nullptr);
    CHECK(stamps.find(5)->generation == 8);
    stamps.forget(1);  // is not there, and must not take the other with it
    CHECK(stamps.find(5) != nullptr);
    stamps.forget(5);
    CHECK(stamps.find(5) == nullptr);
  }

  TEST_CASE("who counts") {
    const TlbStamps::Stamp stamp{9, 100, 1, 3};
    CHECK(may_be_stale(stamp, 0, 99, CpuState::Running, 100));
    CHECK(!may_be_stale(stamp, 0, 100, CpuState::Running, 100));
    CHECK(!may_be_stale(stamp, 1, 99, CpuState::Running, 100));  // has flushed for itself
    CHECK(!may_be_stale(stamp, 3, 0, CpuState::Running, 100));   // came later
    CHECK(!may_be_stale(stamp, 2, 99, CpuState::Idle, 100));     // flushes on its way out
    CHECK(may_be_stale(stamp, 2, 99, CpuState::Idle, 99));       // has no reason to yet
  }

  TEST_CASE("every stale translation is reported") {
    std::mt19937 random{20};
    TlbStamps::Stamp places[32];
    TlbStamps stamps{places};
    Machine machine;
    bool mapped[kPages] = {};
    u32 reported = 0, stale = 0;
    for (u32 step = 0; step < 300'000; ++step) {
      const u32 cpu = random() % kCpus, page = random() % kPages;
      switch (random() % 20) {
        default:
          if (mapped[page] && !machine.idle[cpu]) machine.tlb[cpu].insert(page);
          break;
        case 0:
          if (!mapped[page] || machine.idle[cpu]) break;
          mapped[page] = false;
          machine.tlb[cpu].erase(page);
          stamps.put({page, machine.newest + 1, static_cast<u8>(cpu), kCpus});
          break;
        case 1: ++machine.newest; break;
        case 2: machine.idle[cpu] ? machine.wake(cpu) : machine.flush(cpu); break;
        case 3: machine.idle[cpu] = random() % 4 == 0; break;
        case 4:
        case 5:
          if (mapped[page]) break;
          if (machine.is_stale(page)) {
            CHECK(machine.is_reported(stamps, page));
            ++stale;
          }
          if (machine.is_reported(stamps, page)) {
            ++reported;
            break;
          }
          stamps.forget(page);
          mapped[page] = true;  // anew, as it is allowed
          break;
      }
    }
    CHECK(stale > 500);
    CHECK(reported >= stale);
  }
}
