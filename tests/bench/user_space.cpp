// The kernel's part of what programs' memory costs, with copies by the kernel in the place of a program's stores: trap,
// fault, fix of the entry, return; no ring 3.
#include "mm/user_space.hpp"
#include "kernel/bench/kbench.hpp"
#include "mm/user_copy.hpp"

namespace paean {

namespace {

constexpr VirtAddr kHere{0x10000000};
constexpr u32 kPages = 256;
constexpr u32 kBytes = kPages * kPageSize;
constexpr UserAccess kReadWrite = UserAccess::Read | UserAccess::Write;

class OnOwnSpace {
 public:
  OnOwnSpace() {
    if (const Result<UserSpace*> made = UserSpace::create()) UserSpace::switch_to(space_ = *made);
  }
  ~OnOwnSpace() {
    if (space_ != nullptr) space_->put();
    UserSpace::switch_to(nullptr);
  }
  OnOwnSpace(const OnOwnSpace&) = delete;
  OnOwnSpace& operator=(const OnOwnSpace&) = delete;
  UserSpace* get() const { return space_; }

 private:
  UserSpace* space_ = nullptr;
};

bool map(UserSpace& space) {
  return space.map({.at = kHere, .bytes = kBytes, .access = kReadWrite, .flags = MapFlag::Fixed}).has_value();
}

void touch_all() {
  for (u32 i = 0; i < kPages; ++i) keep(put_user(kHere + i * kPageSize, i).has_value());
}

/// Clocks of a part of a round, added up.
class Stopwatch {
 public:
  template <typename Work>
  void time(Work work) {
    const u64 begin = arch::read_tsc();
    work();
    sum_ += arch::read_tsc() - begin;
  }
  u64 sum() const { return sum_; }
  void report(BenchContext& bench, u32 rounds) const {
    bench.report(BenchValue::ratio(sum_, rounds * kPages), bench.unit());
  }

 private:
  u64 sum_ = 0;
};

constexpr u32 kRounds = 20;

}  // namespace

KBENCH(user_anon_fault, "first store to a page, from the kernel") {
  const OnOwnSpace own;
  Stopwatch watch;
  for (u32 round = 0; round < kRounds; ++round) {
    if (own.get() == nullptr || !map(*own.get())) return bench.skip("no memory");
    watch.time(touch_all);
    keep(own.get()->unmap(kHere, kBytes).has_value());
  }
  watch.report(bench, kRounds);
}

KBENCH(user_munmap_page, "munmap of touched pages, for each") {
  const OnOwnSpace own;
  Stopwatch watch;
  for (u32 round = 0; round < kRounds; ++round) {
    if (own.get() == nullptr || !map(*own.get())) return bench.skip("no memory");
    touch_all();
    watch.time([&] { keep(own.get()->unmap(kHere, kBytes).has_value()); });
  }
  watch.report(bench, kRounds);
}

KBENCH(user_cow_page, "first store to a page after fork, from the kernel") {
  const OnOwnSpace own;
  if (own.get() == nullptr || !map(*own.get())) return bench.skip("no memory");
  Stopwatch watch;
  touch_all();
  for (u32 round = 0; round < kRounds; ++round) {
    const Result<UserSpace*> child = UserSpace::fork();
    if (!child) return bench.skip("no memory");
    watch.time(touch_all);
    (*child)->put();
  }
  watch.report(bench, kRounds);
}

namespace {

/// Stores to pages that the other owner has left: a fault for each, which brings no page.
bool time_faults(Stopwatch& watch) {
  const OnOwnSpace own;
  if (own.get() == nullptr || !map(*own.get())) return false;
  for (u32 round = 0; round < kRounds; ++round) {
    touch_all();
    const Result<UserSpace*> child = UserSpace::fork();
    if (!child) return false;
    (*child)->put();
    watch.time(touch_all);
  }
  return true;
}

}  // namespace

KBENCH(user_reuse_page, "first store to a page that was shared and is not any more") {
  Stopwatch watch;
  if (!time_faults(watch)) return bench.skip("no memory");
  watch.report(bench, kRounds);
}

KBENCH(ukva_fault, "a fault that brings no page, of what it costs with ukva=off") {
  if (table_access() != TableAccess::Window) return bench.skip("ukva=off");
  Stopwatch window, kmap;
  bool timed = time_faults(window);
  set_table_access(TableAccess::Kmap);
  timed = time_faults(kmap) && timed;
  set_table_access(TableAccess::Window);
  if (!timed) return bench.skip("no memory");
  bench.report(BenchValue::ratio(100 * window.sum(), static_cast<u32>(kmap.sum())), "%");
}

KBENCH(ukva_kmaps, "kmaps for a fault, COW or first touch, of the running program") {
  if (table_access() != TableAccess::Window) return bench.skip("ukva=off");
  const OnOwnSpace own;
  if (own.get() == nullptr || !map(*own.get())) return bench.skip("no memory");
  u32 before = table_kmaps();
  touch_all();
  u32 kmaps = table_kmaps() - before;
  if (const Result<UserSpace*> child = UserSpace::fork()) {
    before = table_kmaps();
    touch_all();
    kmaps += table_kmaps() - before;
    (*child)->put();
  }
  bench.report(BenchValue::ratio(kmaps, 2 * kPages), "kmaps/fault");
}

KBENCH(user_fork_page, "fork of a space with 1 MiB touched, and its end, for each page") {
  const OnOwnSpace own;
  if (own.get() == nullptr || !map(*own.get())) return bench.skip("no memory");
  Stopwatch watch;
  touch_all();
  for (u32 round = 0; round < kRounds; ++round) {
    watch.time([&] {
      if (const Result<UserSpace*> child = UserSpace::fork()) (*child)->put();
    });
  }
  watch.report(bench, kRounds);
}

}  // namespace paean
