// Sleeping locks and events.
#include "kernel/sync.hpp"

#include "threads.hpp"

#ifdef __clang__
// Half of these tests do on purpose what the analysis exists to forbid.
#pragma clang diagnostic ignored "-Wthread-safety-analysis"
#endif

namespace paean {

namespace {

constexpr u32 kWorkers = 10, kRounds = 10'000;

/// A sum that is read, and written after others had the CPU.
struct Sum {
  Mutex mutex{LockRank::TestSleep};
  u32 value = 0;
  bool locked = true;
};
void add_slowly(u32& value, u32 round) {
  const u32 read = *const_cast<volatile u32*>(&value);
  if (round % 8 == 0) thread_yield();
  *const_cast<volatile u32*>(&value) = read + 1;
}
void add_up(void* argument) {
  auto& sum = *static_cast<Sum*>(argument);
  for (u32 i = 0; i < kRounds; ++i) {
    if (sum.locked) {
      const MutexGuard guard{sum.mutex};
      add_slowly(sum.value, i);
    } else {
      add_slowly(sum.value, i);
    }
  }
}

/// One who holds a mutex while time slices end, and one of the same CPU and priority who wants to run.
struct Slices {
  Mutex mutex{LockRank::TestSleep};
  u32 rounds = 0, over = 0;  // of the other one; the test is over
  bool kept_to_the_release = false, others_run_at_last = false;
};
void count_rounds(void* argument) {
  auto& slices = *static_cast<Slices*>(argument);
  while (load(slices.over) == 0) (void)add(slices.rounds, 1);
}
/// How often the other one has come to run before so many ticks of ours are over.
u32 rounds_in(const Slices& slices, u32 ticks) {
  const u32 before = load(slices.rounds), start = thread_slices(current_thread());
  while (thread_slices(current_thread()) - start < ticks) arch::cpu_relax();
  return load(slices.rounds) - before;
}
void hold_mutex(void* argument) {
  auto& slices = *static_cast<Slices*>(argument);
  for (u32 i = 0; i < 20 && !slices.kept_to_the_release; ++i) {  // a busy host makes two ticks of one
    slices.mutex.lock();
    const u32 meanwhile = rounds_in(slices, 1), then = load(slices.rounds);
    slices.mutex.unlock();
    slices.kept_to_the_release = meanwhile == 0 && load(slices.rounds) != then;
  }
  const MutexGuard guard{slices.mutex};
  for (u32 i = 0; i < 20 && !slices.others_run_at_last; ++i) slices.others_run_at_last = rounds_in(slices, 3) != 0;
}

}  // namespace

KTEST(sync, a_slice_ends_when_the_mutex_is_released) {
  Slices slices;
  Crew<1> other, holder;
  REQUIRE(other.add("counts", count_rounds, &slices, here()));
  REQUIRE(holder.add("holds", hold_mutex, &slices, here()));
  holder.join();
  store(slices.over, 1);
  EXPECT(slices.kept_to_the_release);
  EXPECT(slices.others_run_at_last);
}

namespace {

/// Takes a mutex again and again while another thread does, and counts how often he found it taken, and slept for it.
struct Turns {
  static constexpr u32 kTurns = 1000;
  Sum* sum;
  u32 met = 0, slept = 0;

  static void work() {
    for (u32 step = 0; step < 1000; ++step) arch::cpu_relax();
  }
  static void run(void* argument) {
    auto& me = *static_cast<Turns*>(argument);
    for (u32 turn = 0; turn < kTurns; ++turn) {
      const bool is_taken = me.sum->mutex.holder() != nullptr;
      const u32 runs = thread_runs(current_thread());
      {
        const MutexGuard guard{me.sum->mutex};
        me.met += is_taken ? 1 : 0;
        me.slept += is_taken && thread_runs(current_thread()) != runs ? 1 : 0;
        work();
      }
      work();  // the other one's turn
    }
  }
};

}  // namespace

// Both CPUs at work: whoever finds the mutex taken has it sooner than he could have slept, unless a busy host holds up
// its owner. Who never waits awake sleeps nearly every time. They hardly meet where the host runs one CPU at a time.
KTEST(sync, mutex_of_a_running_owner_is_waited_for, .flags = TestFlag::NeedsSmp) {
  constexpr u32 kOften = Turns::kTurns / 2, kPatienceTicks = 300;
  const u32 start = ticks_now();
  u32 met = 0, slept = 0;
  do {
    Sum sum;
    Turns turns[2] = {{&sum}, {&sum}};
    Crew<2> crew;
    REQUIRE(crew.add("turns", Turns::run, &turns[0], here()));
    REQUIRE(crew.add("turns", Turns::run, &turns[1], elsewhere()));
    crew.join();
    met = turns[0].met + turns[1].met;
    slept = turns[0].slept + turns[1].slept;
  } while ((met < kOften || slept > met / 2) && ticks_now() - start < kPatienceTicks);
  test.note("slept {} times of {} that the mutex was taken", slept, met);
  if (met < kOften) SKIP("inconclusive: the host was too busy for both CPUs at once");
  EXPECT(slept <= met / 2);
}

KTEST(sync, mutex_excludes, .flags = TestFlag::Slow) {
  Sum sum;
  Crew<kWorkers> crew;
  for (u32 i = 0; i < kWorkers; ++i) REQUIRE(crew.add("adds", add_up, &sum));
  crew.join();
  EXPECT_EQ(sum.value, kWorkers * kRounds);
  EXPECT(sum.mutex.holder() == nullptr);
}

KTEST(sync, without_a_mutex_sums_are_lost, .flags = TestFlag::Slow) {
  Sum sum;
  sum.locked = false;
  Crew<kWorkers> crew;
  for (u32 i = 0; i < kWorkers; ++i) REQUIRE(crew.add("adds", add_up, &sum));
  crew.join();
  EXPECT(sum.value < kWorkers * kRounds);  // or the test above proves nothing
  test.note("{} of {} lost", kWorkers * kRounds - sum.value, kWorkers * kRounds);
}

KTEST(sync, mutex_is_tried) {
  Mutex mutex{LockRank::TestSleep};
  EXPECT(mutex.try_lock());
  EXPECT(mutex.holder() == current_thread());
  struct Try {
    Mutex* mutex;
    u32 got = 0;
  } attempt{&mutex};
  Crew<1> crew;
  REQUIRE(crew.add(
      "tries",
      [](void* argument) {
        auto& mine = *static_cast<Try*>(argument);
        if (!mine.mutex->try_lock()) return;
        mine.got = 1;
        mine.mutex->unlock();
      },
      &attempt));
  crew.join();
  EXPECT_EQ(attempt.got, 0u);
  mutex.unlock();
}

KTEST(sync, semaphore_counts) {
  struct Room {
    Semaphore seats{3};
    u32 inside = 0, most = 0, visits = 0;
  } room;
  Crew<10> crew;
  for (u32 i = 0; i < 10; ++i) {
    REQUIRE(crew.add(
        "visits",
        [](void* argument) {
          auto& mine = *static_cast<Room*>(argument);
          for (u32 visit = 0; visit < 50; ++visit) {
            mine.seats.down();
            const u32 now = add(mine.inside, 1) + 1;
            raise(mine.most, now);
            if (visit == 0) (void)within_ms(10'000, [&] { return load(mine.most) >= 3; });  // there is room for others
            thread_yield();
            (void)add(mine.inside, ~0u);
            (void)add(mine.visits, 1);
            mine.seats.up();
          }
        },
        &room));
  }
  crew.join();
  EXPECT_EQ(room.visits, 500u);
  EXPECT_EQ(room.most, 3u);
  EXPECT_EQ(room.seats.count(), 3u);
  for (u32 i = 0; i < 3; ++i) EXPECT(room.seats.try_down());
  EXPECT(!room.seats.try_down());
  EXPECT(!room.seats.down_for_ms(20));
}

KTEST(sync, completion_lets_go) {
  for (u32 i = 0; i < 300; ++i) {
    Crew<1> crew;
    {
      Completion done;  // gone as soon as wait() returns
      REQUIRE(crew.add("completes", [](void* argument) { static_cast<Completion*>(argument)->complete(); }, &done));
      done.wait();
      EXPECT(done.done());
      done.wait();
    }
  }
  Completion never;
  EXPECT(!never.wait_for_ms(20));
}

namespace {

struct Book {
  RwLock lock{LockRank::TestSleep};
  u32 readers = 0, writers = 0, wrong = 0, pages = 0;
};
void read_book(void* argument) {
  auto& book = *static_cast<Book*>(argument);
  for (u32 i = 0; i < 200; ++i) {
    const ReadGuard guard{book.lock};
    (void)add(book.readers, 1);
    if (load(book.writers) != 0) (void)add(book.wrong, 1);
    thread_yield();
    (void)add(book.readers, ~0u);
  }
}
void write_book(void* argument) {
  auto& book = *static_cast<Book*>(argument);
  for (u32 i = 0; i < 100; ++i) {
    {
      const WriteGuard guard{book.lock};
      if (add(book.writers, 1) != 0 || load(book.readers) != 0) (void)add(book.wrong, 1);
      add_slowly(book.pages, 0);
      (void)add(book.writers, ~0u);
    }
    thread_yield();
  }
}

}  // namespace

KTEST(sync, rwlock_shares) {
  struct Room {
    RwLock lock{LockRank::TestSleep};
    u32 inside = 0, met = 0;
  } room;
  Crew<3> crew;
  for (u32 i = 0; i < 3; ++i) {
    REQUIRE(crew.add(
        "meets",
        [](void* argument) {
          auto& mine = *static_cast<Room*>(argument);
          const ReadGuard guard{mine.lock};
          (void)add(mine.inside, 1);
          if (within_ms(20'000, [&] { return load(mine.inside) == 3; })) (void)add(mine.met, 1);
        },
        &room));
  }
  crew.join();
  EXPECT_EQ(room.met, 3u);
}

KTEST(sync, rwlock_excludes) {
  Book book;
  Crew<8> crew;
  for (u32 i = 0; i < 5; ++i) REQUIRE(crew.add("reads", read_book, &book));
  for (u32 i = 0; i < 3; ++i) REQUIRE(crew.add("writes", write_book, &book));
  crew.join();
  EXPECT_EQ(book.wrong, 0u);
  EXPECT_EQ(book.pages, 300u);
}

KTEST(sync, rwlock_prefers_writers) {
  struct Sequence {
    RwLock lock{LockRank::TestSleep};
    u32 next = 0, writer = 0, reader = 0;
  } order;
  Crew<2> crew;
  order.lock.lock_read();
  const bool made = crew.add(
                        "writer",
                        [](void* argument) {
                          auto& mine = *static_cast<Sequence*>(argument);
                          const WriteGuard guard{mine.lock};
                          mine.writer = add(mine.next, 1) + 1;
                        },
                        &order, here(Priority::High)) &&
                    crew.add(
                        "late reader",
                        [](void* argument) {
                          auto& mine = *static_cast<Sequence*>(argument);
                          const ReadGuard guard{mine.lock};
                          mine.reader = add(mine.next, 1) + 1;
                        },
                        &order, here(Priority::High));
  EXPECT(made);
  EXPECT_EQ(load(order.next), 0u);  // both wait, the reader behind the writer
  order.lock.unlock_read();
  crew.join();
  EXPECT_EQ(order.writer, 1u);
  EXPECT_EQ(order.reader, 2u);
}

KTEST(death, mutex_taken_twice, .flags = TestFlag::Death) {
  KTEST_EXPECT_PANIC("takes a mutex that it holds");
  Mutex mutex{LockRank::TestSleep};
  const MutexGuard guard{mutex};
  mutex.lock();
}

KTEST(death, mutex_of_another, .flags = TestFlag::Death) {
  KTEST_EXPECT_PANIC("releases a mutex of main");
  Mutex mutex{LockRank::TestSleep};
  const MutexGuard guard{mutex};
  Crew<1> crew;
  (void)crew.add("thief", [](void* argument) { static_cast<Mutex*>(argument)->unlock(); }, &mutex);
}

KTEST(death, mutex_with_preemption_off, .flags = TestFlag::Death) {
  KTEST_EXPECT_PANIC("Mutex::lock may sleep, in atomic context");
  Mutex mutex{LockRank::TestSleep};
  const PreemptGuard guard;
  mutex.lock();
}

KTEST(death, mutex_with_a_spin_lock, .flags = TestFlag::Death) {
  KTEST_EXPECT_PANIC("Mutex::lock may sleep, in atomic context");
  Mutex mutex{LockRank::TestSleep};
  SpinLock lock{LockRank::Test};
  const SpinGuard<NoIrq> guard{lock};
  mutex.lock();
}

}  // namespace paean
