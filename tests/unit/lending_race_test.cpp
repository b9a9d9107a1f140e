// Pages that come back from lowmem while another CPU uses them: C26 and C28.
#include "lending.hpp"
#include "threads.hpp"

namespace paean {

namespace {

constexpr u32 kPages = 32;
constexpr u32 kRounds = 60;

/// A thread of the space, on another CPU, that works on the pages while it is let.
class Worker {
 public:
  enum class Work : u8 { Count, Read };
  Worker(UserSpace& space, Work work) : space_(space), work_(work) {
    good_ = crew_.add("worker", run, this, elsewhere());
  }
  ~Worker() {
    store(state_, kStop);
    crew_.join();
  }
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;
  bool good() const { return good_; }

  /// It has been through all pages when this returns.
  void start() {
    for (u32& count : counts_) count = 0;
    store(turns_, 0);
    store(state_, kGo);
    while (load(turns_) < 2) arch::cpu_relax();
  }
  /// It does not touch them any more when this returns.
  void pause() {
    store(state_, kPause);
    while (load(resting_) == 0) arch::cpu_relax();
  }
  u32 count(u32 page) const { return load(counts_[page]); }
  /// Words that it has read and nobody of the program has written.
  u32 foreign() const { return load(foreign_); }

 private:
  static constexpr u32 kPause = 0, kGo = 1, kStop = 2;

  static void run(void* argument) {
    auto& me = *static_cast<Worker*>(argument);
    UserSpace::switch_to(&me.space_);
    while (load(me.state_) != kStop) {
      if (load(me.state_) == kPause) {
        store(me.resting_, 1);
        continue;
      }
      store(me.resting_, 0);
      for (u32 i = 0; i < kPages; ++i) me.work_on(i);
      add(me.turns_, 1);
    }
    UserSpace::switch_to(nullptr);
  }
  void work_on(u32 page) {
    const VirtAddr at = lent_at(page) + 128;
    if (work_ == Work::Count) {
      if (set_user_word(at, user_word(at) + 1)) add(counts_[page], 1);
    } else if (user_word(lent_at(page)) != lent_word(page)) {
      add(foreign_, 1);
    }
  }

  UserSpace& space_;
  Work work_;
  u32 state_ = kPause, resting_ = 0, turns_ = 0, foreign_ = 0;
  u32 counts_[kPages]{};
  bool good_ = false;
  Crew<1> crew_;
};

/// Frames that were just freed, with something else in them now.
u32 overwrite_free_lowmem() {
  constexpr u32 kFrames = 2 * kPages;
  Page* frames[kFrames];
  u32 count = 0;
  for (; count < kFrames; ++count) {
    const Result<Page*> page = alloc_page(AllocFlags::Kernel | AllocFlags::NoWarn, Owner::Test);
    if (!page) break;
    frames[count] = *page;
    const KmapLocal map{*page};
    for (u32 i = 0; i < kPageSize / 4; ++i) map.as<u32>()[i] = 0xbadf00d;
  }
  for (u32 spin = 0; spin < 2000; ++spin) arch::cpu_relax();
  for (u32 i = 0; i < count; ++i) free_page(frames[i]);
  return count;
}

}  // namespace

// No store is lost: neither one that came before the page was copied, nor one that came after.
KTEST(lending_race, stores_against_moves, .flags = TestFlag::NeedsSmp | TestFlag::NeedsHighmem) {
  if (!can_lend(kPages)) SKIP("too little memory to lend");
  const InSpace space;
  TakenMemory taken;
  REQUIRE(space && taken.valid());
  Worker worker{*space, Worker::Work::Count};
  REQUIRE(worker.good());
  u32 moved = 0, lost = 0;
  for (u32 round = 0; round < kRounds; ++round) {
    taken.take_highmem();
    REQUIRE(fill_lent(*space, kPages));
    taken.give_pages(4 * kPages);
    worker.start();
    moved += recall_lent_pages(kPages);
    worker.pause();
    for (u32 i = 0; i < kPages; ++i) lost += user_word(lent_at(i) + 128) != worker.count(i) ? 1 : 0;
    EXPECT_EQ(damaged_pages(kPages), 0u);
    REQUIRE(space->unmap(kLentHere, kPages * kPageSize).has_value());
  }
  EXPECT_EQ(lost, 0u);
  test.note("{} pages moved, {} stayed since boot", moved, lending_counters().stayed);
  EXPECT(moved > kRounds);
}

// A frame is free only when no CPU reads it any more.
KTEST(lending_race, reads_against_moves, .flags = TestFlag::NeedsSmp | TestFlag::NeedsHighmem) {
  if (!can_lend(kPages)) SKIP("too little memory to lend");
  const InSpace space;
  TakenMemory taken;
  REQUIRE(space && taken.valid());
  Worker worker{*space, Worker::Work::Read};
  REQUIRE(worker.good());
  u32 moved = 0;
  for (u32 round = 0; round < kRounds; ++round) {
    taken.take_highmem();
    REQUIRE(fill_lent(*space, kPages));
    taken.give_pages(4 * kPages);
    worker.start();
    moved += recall_lent_pages(kPages);
    EXPECT(overwrite_free_lowmem() != 0);
    worker.pause();
    REQUIRE(space->unmap(kLentHere, kPages * kPageSize).has_value());
  }
  EXPECT_EQ(worker.foreign(), 0u);
  test.note("{} pages moved", moved);
  EXPECT(moved > kRounds);
}

namespace {

struct Recaller {
  u32 stop = 0, moved = 0;
  static void run(void* argument) {
    auto& me = *static_cast<Recaller*>(argument);
    while (load(me.stop) == 0) add(me.moved, recall_lent_pages(16));
  }
};

}  // namespace

// Spaces fork, write, move their areas and end while another CPU moves their pages.
KTEST(lending_race, lives_against_moves, .flags = TestFlag::NeedsSmp | TestFlag::NeedsHighmem) {
  if (!can_lend(kPages)) SKIP("too little memory to lend");
  TakenMemory taken;
  REQUIRE(taken.valid());
  Recaller recaller;
  Crew<1> crew;
  REQUIRE(crew.add("recaller", Recaller::run, &recaller, elsewhere()));
  u32 damaged = 0;
  bool good = true;
  // On a busy host the other CPU may stand still for many rounds.
  for (u32 round = 0; good && (round < kRounds || (load(recaller.moved) == 0 && round < 100 * kRounds)); ++round) {
    const InSpace space;
    taken.take_highmem();
    good = space && fill_lent(*space, kPages);
    taken.give_pages(8 * kPages);
    Result<UserSpace*> child = UserSpace::fork();
    good = good && child.has_value();
    if (!good) break;
    for (u32 i = 0; i < kPages; i += 3) good &= set_user_word(lent_at(i) + 128, i);
    damaged += damaged_pages(kPages);
    UserSpace::switch_to(*child);
    for (u32 i = 0; i < kPages; i += 2) good &= set_user_word(lent_at(i) + 128, ~i);
    const VirtAddr away = kLentHere + 64 * kMiB;
    good &=
        (*child)->remap(kLentHere, kPages * kPageSize, kPages * kPageSize, UserSpace::Remap::Fixed, away).has_value();
    for (u32 i = 0; i < kPages; ++i) damaged += user_word(away + i * kPageSize) != lent_word(i) ? 1 : 0;
    for (u32 i = 0; i < kPages; i += 2) damaged += user_word(away + i * kPageSize + 128) != ~i ? 1 : 0;
    UserSpace::switch_to(&*space);
    (*child)->put();
    for (u32 i = 0; i < kPages; i += 3) damaged += user_word(lent_at(i) + 128) != i ? 1 : 0;
  }
  store(recaller.stop, 1);
  crew.join();
  EXPECT(good);
  EXPECT_EQ(damaged, 0u);
  test.note("{} pages moved", recaller.moved);
  EXPECT(recaller.moved != 0);
}

}  // namespace paean
