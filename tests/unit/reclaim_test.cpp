// Which cached pages go, and when: proportion, order, and who has to wait; with the rules of others as controls.
#include "mm/reclaim.hpp"

#include "arch/percpu.hpp"
#include "ext2_space.hpp"
#include "fake_store.hpp"
#include "kernel/test/fail_nth.hpp"
#include "kernel/test/ktest.hpp"
#include "mm/reclaim_rules.hpp"
#include "mm/shrink.hpp"
#include "mm/vm_events.hpp"
#include "mm/zone_shares.hpp"
#include "tmpfs_space.hpp"

namespace paean {

namespace {

/// A file of single pages in zones up to that of `flags`, whose contents nobody touches.
class CachedFile {
 public:
  CachedFile(AllocFlags flags, u32 pages) : file_(0, PageCount{pages}.bytes()), pages_(pages) {
    file_->store.flags = flags;
    file_->store.largest = Order{0};
  }
  /// False without memory.
  bool fill() { return fill(0, pages_); }
  bool fill(u32 first, u32 end) {
    for (u32 i = first; i < end; ++i) {
      if (!file_->space.read_page(i, nullptr)) return false;
    }
    return true;
  }
  bool touch(u32 page) { return file_->space.read_page(page, nullptr).has_value(); }
  FakeFile& operator*() const { return *file_; }
  FakeFile* operator->() const { return &*file_; }

 private:
  FileHolder file_;
  u32 pages_;
};

u32 evictable_in(ZoneId id) {
  const CachedPages cached = cached_pages_in(id);
  return cached.active + cached.inactive;
}

/// What a run with this seed does to the shares of zones, as a number: computed by the compiler and by the machine.
constexpr u32 replay(u32 seed) {
  ZoneShares shares;
  for (u32 step = 0; step < 3000; ++step) {
    seed = seed * 1664525 + 1013904223;
    const u32 zone = seed >> 30;
    if (step % 16 == 0) shares.resize(zone, seed >> 12 & 0x3ffff);
    const u32 victim = shares.next(seed >> 8 & 15);
    if (victim != ZoneShares::kNone) shares.scanned(victim, 1 + (seed >> 20 & 15));
  }
  return shares.history();
}

/// Fills two zones in an order that follows from the seed, uses some pages again, evicts: which zones gave how much.
u32 history_of(u32 seed) {
  settle_memory();
  start_eviction_history();
  CachedFile low{AllocFlags::Kernel, 600}, high{AllocFlags::HighUser, 1500};
  if (!low.fill() || !high.fill()) return 0;
  for (u32 i = 0; i < 1000; ++i) {
    seed = seed * 1664525 + 1013904223;
    (void)((seed >> 31) != 0 ? low.touch(seed % 600) : high.touch(seed % 1500));
    if (i % 10 == 0) (void)shrink_page_cache(1 + (seed >> 16) % 8);
  }
  return eviction_history();
}

/// Free memory that a test takes away in large blocks, which cost the host nothing.
class BlockHog {
 public:
  /// Until about so many pages are left.
  void leave(u32 pages) {
    while (count_ < kMost && (low_totals().free + high_totals().free).count() > pages + (1u << kMaxOrder)) {
      Page* block = take_block_quietly(AllocFlags::HighUser, Order{kMaxOrder}, Owner::Test);
      if (block == nullptr) return;
      blocks_[count_++] = block;
    }
  }
  void let_go() {
    while (count_ != 0) free_pages(blocks_[--count_], Order{kMaxOrder});
  }

 private:
  static constexpr u32 kMost = 2048;
  Page* blocks_[kMost]{};
  u32 count_ = 0;
};
constinit BlockHog block_hog;

/// Pages looked at for each cached page of lowmem that goes, with a hundred times as many in highmem.
u32 looks_for_a_low_page(TestContext& test) {
  constexpr u32 kLow = 200, kHigh = 20'000;
  CachedFile high{AllocFlags::HighUser, kHigh}, low{AllocFlags::Kernel, kLow};
  EXPECT(high.fill() && low.fill());
  const u32 scanned = vm_events(VmEvent::ScanDirect), stolen = vm_events(VmEvent::StealDirect);
  (void)reclaim_page_cache({AllocFlags::Kernel, Order{0}});
  const u32 gone = vm_events(VmEvent::StealDirect) - stolen;
  return gone == 0 ? ~u32{0} : (vm_events(VmEvent::ScanDirect) - scanned) / gone;
}

/// Writers that had to wait while so many pages are dirty and one more is written.
u32 writers_that_wait(TestContext& test, u32 dirty) {
  CachedFile file{AllocFlags::HighUser, dirty};
  file->store.answers_writes = Answer::Later;
  static constinit u8 byte[1]{1};
  u32 wrong = 0;
  for (u32 i = 0; i < dirty; ++i) wrong += file->space.update(PageCount{i}.bytes(), 1, [](std::span<u8>) {}) ? 0 : 1;
  EXPECT_EQ(wrong, 0u);
  set_dirty_limit(0);  // as of now
  const u32 before = page_cache_totals().throttled;
  EXPECT(file->space.write(0, byte).has_value());
  const u32 waited = page_cache_totals().throttled - before;
  file->store.answers_writes = Answer::AtOnce;
  while (file->store.answer()) {}
  EXPECT(file->space.sync().has_value());
  return waited;
}

/// Files with a cached page each that nobody uses any more, nor has to write, attributes neither.
bool make_idle_files(u32 count) {
  return make_files("/e", count, "a page, however short") && sync_file_systems().has_value();
}

}  // namespace

KTEST(reclaim, zones_give_in_proportion_to_what_they_have_cached) {
  CachedFile low{AllocFlags::Kernel, 1600}, device{AllocFlags::Dma32, 4800}, high{AllocFlags::HighUser, 9600};
  REQUIRE(low.fill() && device.fill() && high.fill());
  start_eviction_history();
  u32 before[kZoneCount], all = 0;
  for (const ZoneId id : kAllZones) all += before[std::to_underlying(id)] = evictable_in(id);
  REQUIRE(all != 0);
  for (u32 gone = 0; gone < all / 2;) gone += shrink_page_cache(16);
  u32 gave[kZoneCount], gone = 0;  // where lowmem is short, kswapd has helped
  for (const ZoneId id : kAllZones) {
    const u32 zone = std::to_underlying(id);
    gone += gave[zone] = before[zone] - evictable_in(id);
  }
  for (const ZoneId id : kAllZones) {
    const u32 had = before[std::to_underlying(id)], given = gave[std::to_underlying(id)];
    const u32 share = static_cast<u32>(u64{had} * gone / all);
    if (had != 0) test.note("{}: {} of {} pages, its share is {}", name(id), given, had, share);
    EXPECT(given <= share + 32 && given + 32 >= share);
  }
}

KTEST(reclaim, a_million_scans_follow_the_sizes, .flags = TestFlag::Slow) {
  constexpr u32 kScans = 1'000'000;
  constexpr u32 kSizes[4] = {4'000, 200'000, 500'000, 300'000}, kAll = 1'004'000;
  ZoneShares shares;
  u32 given[4]{};
  for (u32 zone = 0; zone < 4; ++zone) shares.resize(zone, kSizes[zone]);
  for (u32 i = 0; i < kScans; ++i) {
    const u32 zone = shares.next(15);
    shares.scanned(zone, 1);
    ++given[zone];
  }
  for (u32 zone = 0; zone < 4; ++zone) {
    const u32 wanted = static_cast<u32>(u64{kScans} * kSizes[zone] / kAll);
    EXPECT(given[zone] <= wanted + wanted / 1000 + 1 && given[zone] + wanted / 1000 + 1 >= wanted);
  }
}

KTEST(reclaim, the_compiler_and_the_machine_replay_the_same_history) {
  constexpr u32 kFirst = replay(1), kSecond = replay(2);
  static_assert(kFirst != kSecond);
  u32 seed = 1;
  asm("" : "+r"(seed));  // the machine has to compute it
  EXPECT_EQ(replay(seed), kFirst);
  EXPECT_EQ(replay(seed + 1), kSecond);
}

KTEST(reclaim, the_same_seed_has_the_same_history) {
  const u32 seed = test.random(), first = history_of(seed), second = history_of(seed), other = history_of(seed + 1);
  EXPECT(first != 0);
  EXPECT_EQ(first, second);
  EXPECT(other != first);
}

KTEST(reclaim, what_was_used_again_stays) {
  CachedFile file{AllocFlags::HighUser, 400};
  REQUIRE(file.fill());
  for (u32 round = 0; round < 2; ++round) {
    for (u32 i = 0; i < 100; ++i) REQUIRE(file.touch(4 * i));
  }
  u32 gone = 0;
  while (gone < 200) gone += shrink_page_cache(10);
  u32 kept = 0;
  for (u32 i = 0; i < 100; ++i) kept += file->space.find_page(4 * i) ? 1 : 0;
  test.note("{} of 100 are kept", kept);
  EXPECT(kept >= 90);
}

KTEST(reclaim, a_lowmem_request_looks_at_lowmem_alone, .flags = TestFlag::NeedsHighmem) {
  EXPECT(looks_for_a_low_page(test) <= 3);
  settle_memory();
  const FollowOldRule node_wide{OldRule::NodeWideLists};
  const u32 looks = looks_for_a_low_page(test);
  test.note("in one list for all zones: {} looks for each page", looks);
  EXPECT(looks > 30);
  settle_memory();
}

KTEST(reclaim, a_steady_stream_never_stalls, .flags = TestFlag::Slow | TestFlag::NeedsHighmem) {
  constexpr u32 kRoom = 60'000, kParts = 40, kPart = 5000;
  // A host that takes the thread's CPU away stops the thread and not the stream. With one CPU it stops both.
  const u32 permitted = arch::online_cpus() == 1 ? 0 : kParts / 4;
  if ((low_totals().free + high_totals().free).mib() > 6 * 1024) SKIP("too much to take away");
  block_hog.leave(kRoom);
  const auto stalls = [] {
    return vm_events(VmEvent::AllocStallHigh) + vm_events(VmEvent::AllocStallNormal) +
           vm_events(VmEvent::AllocStallDma32) + vm_events(VmEvent::StealDirect);
  };
  {
    CachedFile file{AllocFlags::HighUser, kParts * kPart};
    const u32 kswapd = vm_events(VmEvent::StealKswapd);
    u32 parts_with_stalls = 0;
    for (u32 part = 0; part < kParts; ++part) {
      const u32 before = stalls();
      EXPECT(file.fill(part * kPart, (part + 1) * kPart));
      parts_with_stalls += stalls() != before ? 1 : 0;
    }
    test.note("{} pages stolen by kswapd; stalls in {} of {} parts", vm_events(VmEvent::StealKswapd) - kswapd,
              parts_with_stalls, kParts);
    EXPECT(parts_with_stalls <= permitted);
    EXPECT(vm_events(VmEvent::StealKswapd) - kswapd > kParts * kPart / 4);
  }
  block_hog.let_go();
}

KTEST(reclaim, dirty_high_pages_do_not_throttle, .flags = TestFlag::Slow | TestFlag::NeedsHighmem) {
  const u32 low_limit = low_totals().total.count() / 5, free = (low_totals().free + high_totals().free).count();
  if (free / 5 < 2 * low_limit) SKIP("hardly more highmem than lowmem");
  const u32 dirty = low_limit + low_limit / 2;
  EXPECT_EQ(writers_that_wait(test, dirty), 0u);
  settle_memory();
  const FollowOldRule lowmem_only{OldRule::LowmemDirtyLimits};
  EXPECT_EQ(writers_that_wait(test, dirty), 1u);
  settle_memory();
}

KTEST(reclaim, cached_pages_pin_no_inodes) {
  constexpr u32 kFiles = 16;
  Ext2Space space{256};
  REQUIRE(space.ready());
  {
    const FollowOldRule pinned{OldRule::CachePinsInodes};
    REQUIRE(make_idle_files(kFiles));
    EXPECT(file_caches().unused_inodes >= kFiles);
    (void)run_shrinkers(0);
    EXPECT(file_caches().unused_inodes >= kFiles);
  }
  const u32 stolen = vm_events(VmEvent::InodeSteal);
  (void)run_shrinkers(0);
  EXPECT(file_caches().unused_inodes < kFiles);
  EXPECT(vm_events(VmEvent::InodeSteal) - stolen >= kFiles);
}

}  // namespace paean
