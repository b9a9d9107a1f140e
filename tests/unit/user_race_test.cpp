// Two CPUs on one address space, and on a parent and its child: C3 to C6, C26 and C27.
#include "mm/highmem.hpp"
#include "threads.hpp"
#include "user_space.hpp"

namespace paean {

namespace {

constexpr VirtAddr kHere{0x10000000};
constexpr VirtAddr page_at(u32 n) { return kHere + n * kPageSize; }
constexpr u32 kPages = 8;

/// A thread on a space, on another CPU, that does `step(round)` until it is stopped.
template <typename Step>
class OnSpace {
 public:
  OnSpace(UserSpace& space, Step step) : space_(space), step_(step) {
    good_ = crew_.add("on-space", run, this, elsewhere());
    while (good_ && load(rounds_) == 0) thread_yield();
  }
  ~OnSpace() { stop(); }
  OnSpace(const OnSpace&) = delete;
  OnSpace& operator=(const OnSpace&) = delete;
  bool good() const { return good_; }
  u32 rounds() const { return load(rounds_); }
  void stop() {
    store(stop_, 1);
    crew_.join();
  }

 private:
  static void run(void* argument) {
    auto& me = *static_cast<OnSpace*>(argument);
    UserSpace::switch_to(&me.space_);
    for (u32 round = 0; load(me.stop_) == 0; ++round) {
      me.step_(round);
      add(me.rounds_, 1);
    }
    UserSpace::switch_to(nullptr);
  }
  UserSpace& space_;
  Step step_;
  u32 stop_ = 0, rounds_ = 0;
  bool good_ = false;
  Crew<1> crew_;
};

/// Is there anything but zeros in a page that nobody has written to?
bool is_dirty(const Page* page) {
  const KmapLocal map{page};
  for (u32 i = 0; i < kPageSize / 4; ++i) {
    if (map.as<u32>()[i] != 0) return true;
  }
  return false;
}

constexpr u32 kTaken = 48;

/// Cleared frames, which are likely to be those that were just freed: does anybody write to them?
u32 frames_written_to() {
  Page* taken[kTaken];
  u32 count = 0;
  for (; count < kTaken; ++count) {
    const Result<Page*> page = alloc_page(AllocFlags::HighUser | AllocFlags::Zero, Owner::Test);
    if (!page) break;
    taken[count] = *page;
  }
  for (u32 spin = 0; spin < 200; ++spin) asm volatile("pause");
  u32 written = 0;
  for (u32 i = 0; i < count; ++i) {
    written += is_dirty(taken[i]) ? 1 : 0;
    free_page(taken[i]);
  }
  return written;
}

}  // namespace

// C26, C27: whoever has an old translation writes into somebody else's page, or walks somebody else's table.
KTEST(user_race, unmap_against_touch, .flags = TestFlag::NeedsSmp) {
  const InSpace space;
  REQUIRE(space);
  u32 stores = 0, refused = 0;
  OnSpace toucher{*space, [&](u32 round) {
                    set_user_word(page_at(round % kPages) + 64, 0xdead0000 + round) ? ++stores : ++refused;
                  }};
  REQUIRE(toucher.good());
  u32 written = 0;
  for (u32 round = 0; round < 600; ++round) {
    REQUIRE(map_anonymous(*space, kPages, kHere).has_value());
    const u32 seen = toucher.rounds();
    while (toucher.rounds() - seen < kPages) arch::cpu_relax();  // it has translations of most
    REQUIRE(space->unmap(kHere, kPages * kPageSize).has_value());
    written += frames_written_to();
  }
  toucher.stop();
  EXPECT_EQ(written, 0u);
  test.note("{} stores, {} refused", stores, refused);
  EXPECT(stores > 600 && refused > 0);
  EXPECT_EQ(space->counters().anonymous, 0u);
  EXPECT_EQ(space->counters().tables, 0u);
}

// C26 as of mremap: what moves must not be written at its old place.
KTEST(user_race, move_against_touch, .flags = TestFlag::NeedsSmp) {
  const InSpace space;
  REQUIRE(space);
  OnSpace toucher{*space, [&](u32 round) { (void)set_user_word(page_at(round % kPages) + 64, 0xdead0000); }};
  REQUIRE(toucher.good());
  const VirtAddr away = kHere + 64 * kMiB;
  // Keeps the page table, whose end would flush by itself.
  const VirtAddr neighbour = kHere + kPages * kPageSize;
  REQUIRE(map_anonymous(*space, 1, neighbour).has_value() && set_user_word(neighbour, 1));
  u32 written = 0, changed = 0;
  for (u32 round = 0; round < 400; ++round) {
    REQUIRE(map_anonymous(*space, kPages, kHere).has_value());
    const u32 seen = toucher.rounds();
    while (toucher.rounds() - seen < kPages) arch::cpu_relax();
    REQUIRE(space->remap(kHere, kPages * kPageSize, kPages * kPageSize, UserSpace::Remap::Fixed, away).has_value());
    for (u32 i = 0; i < kPages; ++i) REQUIRE(set_user_word(away + i * kPageSize + 64, i));
    for (u32 i = 0; i < kPages; ++i) changed += user_word(away + i * kPageSize + 64) != i ? 1 : 0;
    REQUIRE(space->unmap(away, kPages * kPageSize).has_value());
    written += frames_written_to();
  }
  toucher.stop();
  EXPECT_EQ(written, 0u);
  EXPECT_EQ(changed, 0u);
}

// E20: fork while another thread of the parent writes; what the child has does not change any more.
KTEST(user_race, fork_against_stores, .flags = TestFlag::NeedsSmp) {
  const InSpace parent;
  REQUIRE(parent);
  REQUIRE(map_anonymous(*parent, kPages, kHere).has_value());
  u32 failed = 0;
  OnSpace writer{*parent, [&](u32 round) {
                   // Twice the same number, the second a little later.
                   const VirtAddr at = page_at(round % kPages);
                   if (!set_user_word(at, round) || !set_user_word(at + 2048, round)) ++failed;
                 }};
  REQUIRE(writer.good());
  u32 torn = 0, changed = 0;
  for (u32 round = 0; round < 150; ++round) {
    const Result<UserSpace*> child = UserSpace::fork();
    REQUIRE(child.has_value());
    u32 first[kPages];
    UserSpace::switch_to(*child);
    for (u32 i = 0; i < kPages; ++i) {
      first[i] = user_word(page_at(i));
      const u32 second = user_word(page_at(i) + 2048);
      if (first[i] != second && first[i] != second + kPages) ++torn;
    }
    const u32 seen = writer.rounds();
    while (writer.rounds() - seen < 2 * kPages) arch::cpu_relax();
    for (u32 i = 0; i < kPages; ++i) changed += user_word(page_at(i)) != first[i] ? 1 : 0;
    UserSpace::switch_to(&*parent);
    (*child)->put();
  }
  writer.stop();
  EXPECT_EQ(changed, 0u);
  // The first round of each page has a zero before it, not a number less by kPages.
  EXPECT(torn <= kPages);
  EXPECT_EQ(failed, 0u);
  EXPECT_EQ(parent->counters().anonymous, kPages);
}

// E20: both sides write to what they share, on two CPUs.
KTEST(user_race, copy_on_write_storm, .flags = TestFlag::NeedsSmp) {
  constexpr u32 kMany = 64;
  const InSpace parent;
  REQUIRE(parent);
  REQUIRE(map_anonymous(*parent, kMany, kHere).has_value());
  u32 wrong = 0;
  for (u32 round = 0; round < 40; ++round) {
    for (u32 i = 0; i < kMany; ++i) REQUIRE(set_user_word(page_at(i), round + i));
    const UserCounters before = parent->counters();
    const Result<UserSpace*> child = UserSpace::fork();
    REQUIRE(child.has_value());
    u32 wrong_there = 0;
    {
      OnSpace there{**child, [&](u32 step) {
                      if (step >= kMany) return;
                      if (user_word(page_at(step)) != round + step) ++wrong_there;
                      if (!set_user_word(page_at(step), 0xc0000000 + step)) ++wrong_there;
                    }};
      REQUIRE(there.good());
      for (u32 i = 0; i < kMany; ++i) {
        wrong += user_word(page_at(i)) != round + i ? 1 : 0;
        wrong += set_user_word(page_at(i), 0x80000000 + i) ? 0 : 1;
      }
      while (there.rounds() < kMany) thread_yield();
    }
    wrong += wrong_there;
    for (u32 i = 0; i < kMany; ++i) wrong += user_word(page_at(i)) != 0x80000000 + i ? 1 : 0;
    const UserCounters here_now = parent->counters(), there_now = (*child)->counters();
    // Each page was copied by one and kept by the other, or, if both looked at once, copied by both.
    const u32 copies = here_now.copies - before.copies + there_now.copies;
    const u32 reused = here_now.reused - before.reused + there_now.reused;
    EXPECT_EQ(copies + reused, 2 * kMany);
    EXPECT(copies >= kMany);
    EXPECT_EQ(there_now.anonymous, kMany);
    (*child)->put();
  }
  EXPECT_EQ(wrong, 0u);
}

// Two CPUs fault on the same pages of the same space: one page each, and no store is lost.
KTEST(user_race, faults_on_the_same_page, .flags = TestFlag::NeedsSmp) {
  const InSpace space;
  REQUIRE(space);
  for (u32 round = 0; round < 60; ++round) {
    REQUIRE(map_anonymous(*space, 64, kHere).has_value());
    u32 failed = 0;
    {
      OnSpace there{*space, [&](u32 step) {
                      if (step < 64 && !set_user_word(page_at(step) + 4, step + 1)) ++failed;
                    }};
      REQUIRE(there.good());
      for (u32 i = 0; i < 64; ++i) failed += set_user_word(page_at(i), i + 1) ? 0 : 1;
      while (there.rounds() < 64) thread_yield();
    }
    EXPECT_EQ(failed, 0u);
    EXPECT_EQ(space->counters().anonymous, 64u);
    for (u32 i = 0; i < 64; ++i) {
      REQUIRE_EQ(user_word(page_at(i)), i + 1);
      REQUIRE_EQ(user_word(page_at(i) + 4), i + 1);
    }
    REQUIRE(space->unmap(kHere, 64 * kPageSize).has_value());
  }
}

// A space ends while another CPU still has it loaded for a thread without one.
KTEST(user_race, end_while_borrowed, .flags = TestFlag::NeedsSmp) {
  for (u32 round = 0; round < 100; ++round) {
    Result<UserSpace*> space = UserSpace::create();
    REQUIRE(space.has_value());
    u32 bad = 0;
    {
      OnSpace there{**space, [&](u32 step) {
                      if (step != 0) return;
                      if (!map_anonymous(**space, 3, kHere) || !set_user_word(kHere, 1)) ++bad;
                    }};
      EXPECT(there.good());
    }
    EXPECT_EQ(bad, 0u);
    (*space)->put();
  }
}

}  // namespace paean
