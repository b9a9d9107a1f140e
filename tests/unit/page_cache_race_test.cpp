// The page cache when transfers take their time: who waits for whom, and what is true when they wake up.
#include <algorithm>

#include "fake_store.hpp"
#include "interrupts.hpp"
#include "kernel/test/ktest.hpp"

namespace paean {

namespace {

constexpr u32 kAWhileMs = 50;  // long enough for a thread that does not wait to be done

/// One call on another thread, with its answer.
struct Caller {
  FakeFile& file;
  u32 index = 0;
  u32 in_page = 0;
  u32 done = 0;
  Result<u32> result = 0u;
  u8 bytes[64]{};

  static void read(void* argument) {
    auto& me = *static_cast<Caller*>(argument);
    me.result = me.file.space.read(u64{me.index} * kPageSize, me.bytes, nullptr);
    store(me.done, 1);
  }
  static void truncate(void* argument) {
    auto& me = *static_cast<Caller*>(argument);
    const Result<> result = me.file.space.truncate(u64{me.index} * kPageSize + me.in_page);
    if (!result) me.result = std::unexpected(result.error());
    store(me.done, 1);
  }
  static void sync(void* argument) {
    auto& me = *static_cast<Caller*>(argument);
    const Result<> result = me.file.space.sync();
    if (!result) me.result = std::unexpected(result.error());
    store(me.done, 1);
  }
};

/// Ends transfers as long as it lives, on another CPU if there is one.
class Answerer {
 public:
  explicit Answerer(FakeStore& fake) : store_(fake) { good_ = crew_.add("answers", run, this, elsewhere()); }
  ~Answerer() {
    store(stop_, 1);
    crew_.join();
    while (store_.answer()) {}
  }
  Answerer(const Answerer&) = delete;
  Answerer& operator=(const Answerer&) = delete;
  bool good() const { return good_; }

 private:
  static void run(void* argument) {
    auto& me = *static_cast<Answerer*>(argument);
    while (load(me.stop_) == 0) {
      if (!me.store_.answer()) thread_yield();
    }
  }
  FakeStore& store_;
  bool good_ = false;
  u32 stop_ = 0;
  Crew<1> crew_;
};

FakeStore* store_of_interrupt = nullptr;
void answer_in_interrupt(arch::IrqsOff /*off*/) { (void)store_of_interrupt->answer(); }

}  // namespace

KTEST(page_cache_races, two_readers_of_an_absent_page_cause_one_read) {
  const FileHolder file{4 * kPageSize, u64{4} * kPageSize};
  fill(file->store.medium(), 0, 1);
  file->store.answers_reads = Answer::Later;
  Caller first{.file = *file, .index = 2}, second{.file = *file, .index = 2}, late{.file = *file, .index = 2};
  Crew<3> crew;
  REQUIRE(crew.add("first", Caller::read, &first, elsewhere()) && crew.add("second", Caller::read, &second, here()));
  EXPECT(within_ms(1000, [&] { return file->store.held() == 1; }));
  REQUIRE(crew.add("late", Caller::read, &late, here()));  // who finds the page, not yet read
  thread_sleep_ms(kAWhileMs);
  // Nobody uses the page before it has been read.
  EXPECT_EQ(load(first.done) + load(second.done) + load(late.done), 0u);
  EXPECT_EQ(file->store.held(), 1u);
  EXPECT(file->store.answer());
  crew.join();
  EXPECT_EQ(file->store.reads, 1u);
  EXPECT_EQ(differences(first.bytes, u64{2} * kPageSize, 1), 0u);
  EXPECT_EQ(differences(second.bytes, u64{2} * kPageSize, 1), 0u);
  EXPECT_EQ(differences(late.bytes, u64{2} * kPageSize, 1), 0u);
}

KTEST(page_cache_races, a_waiting_reader_tries_again_after_an_error) {
  const FileHolder file{4 * kPageSize, u64{4} * kPageSize};
  fill(file->store.medium(), 0, 1);
  file->store.answers_reads = Answer::Later;
  file->store.fail_reads = 1;
  Caller first{*file, 0}, second{*file, 0};
  Crew<2> crew;
  REQUIRE(crew.add("first", Caller::read, &first, elsewhere()));
  EXPECT(within_ms(1000, [&] { return file->store.held() == 1; }));
  REQUIRE(crew.add("second", Caller::read, &second, here()));
  thread_sleep_ms(kAWhileMs);
  EXPECT(file->store.answer());
  EXPECT(within_ms(1000, [&] { return file->store.held() == 1; }));
  EXPECT(file->store.answer());
  crew.join();
  // Who asked first hears of the error, unless the other one was faster to get the page after all.
  EXPECT(first.result.has_value() || first.result.error() == Error::Io);
  EXPECT(second.result.has_value());
  EXPECT_EQ(differences(second.bytes, 0, 1), 0u);
}

KTEST(page_cache_races, what_changes_under_write_back_is_written_again) {
  const FileHolder file{kPageSize, 0};
  file->store.answers_writes = Answer::Later;
  const u8 old_byte[] = {'a'}, new_byte[] = {'b'};
  EXPECT_EQ(*file->space.write(0, old_byte), 1u);
  EXPECT_EQ(file->space.start_write_back(1), 1u);
  EXPECT_EQ(file->space.dirty_pages(), 0u);
  EXPECT_EQ(*file->space.write(0, new_byte), 1u);
  EXPECT_EQ(file->space.dirty_pages(), 1u);
  EXPECT_EQ(file->space.start_write_back(1), 0u);  // not twice at once
  EXPECT(file->store.answer());
  EXPECT_EQ(file->space.dirty_pages(), 1u);
  EXPECT_EQ(file->store.medium()[0], u8{'a'});
  file->store.answers_writes = Answer::AtOnce;
  EXPECT(file->space.sync().has_value());
  EXPECT_EQ(file->store.medium()[0], u8{'b'});
}

namespace {

/// A folio of 16 pages is being written when a thread makes the file this long.
void truncate_under_write_back(TestContext& test, u32 index, u32 in_page) {
  const FileHolder file{16 * kPageSize, 0};
  file->store.answers_writes = Answer::Later;
  u8* bytes = static_cast<u8*>(*vzalloc(16 * kPageSize));
  EXPECT_EQ(*file->space.write(0, {bytes, 16 * kPageSize}), 16 * kPageSize);
  vfree(bytes);
  EXPECT_EQ(file->space.start_write_back(~0u), 16u);
  EXPECT_EQ(file->store.held(), 1u);
  Caller caller{.file = *file, .index = index, .in_page = in_page};
  Crew<1> crew;
  REQUIRE(crew.add("truncate", Caller::truncate, &caller, elsewhere()));
  thread_sleep_ms(kAWhileMs);
  EXPECT_EQ(file->space.size(), u64{index} * kPageSize + in_page);
  EXPECT_EQ(load(caller.done), 0u);  // otherwise blocks become free that are still written
  file->store.answers_writes = Answer::AtOnce;
  while (file->store.answer()) {}
  crew.join();
}

}  // namespace

KTEST(page_cache_races, truncation_waits_for_write_back_of_what_stays) {
  truncate_under_write_back(test, 1, 0);
  truncate_under_write_back(test, 1, 100);
  truncate_under_write_back(test, 15, 512);  // blocks within the last page
}

KTEST(page_cache_races, sync_waits_for_what_is_on_its_way_and_for_what_changed_meanwhile) {
  const FileHolder file{kPageSize, 0};
  file->store.answers_writes = Answer::Later;
  const u8 old_byte[] = {'a'}, new_byte[] = {'b'};
  EXPECT_EQ(*file->space.write(0, old_byte), 1u);
  EXPECT_EQ(file->space.start_write_back(1), 1u);
  EXPECT_EQ(*file->space.write(0, new_byte), 1u);
  Caller caller{*file};
  Crew<1> crew;
  REQUIRE(crew.add("sync", Caller::sync, &caller, elsewhere()));
  thread_sleep_ms(kAWhileMs);
  EXPECT_EQ(load(caller.done), 0u);
  EXPECT(file->store.answer());
  EXPECT(within_ms(1000, [&] { return file->store.held() == 1; }));
  EXPECT_EQ(load(caller.done), 0u);
  EXPECT(file->store.answer());
  crew.join();
  EXPECT_EQ(file->store.medium()[0], u8{'b'});
}

KTEST(page_cache_races, truncation_waits_for_write_back_and_for_readers) {
  const FileHolder file{4 * kPageSize, u64{4} * kPageSize};
  file->store.answers_writes = Answer::Later;
  const u8 byte[] = {'a'};
  EXPECT_EQ(*file->space.write(u64{2} * kPageSize, byte), 1u);
  EXPECT_EQ(file->space.start_write_back(1), 1u);
  file->store.answers_reads = Answer::Later;
  Caller reader{*file, 3}, truncator{*file, 1};
  Crew<2> crew;
  REQUIRE(crew.add("reader", Caller::read, &reader, here()));
  EXPECT(within_ms(1000, [&] { return file->store.held() == 2; }));
  REQUIRE(crew.add("truncate", Caller::truncate, &truncator, elsewhere()));
  thread_sleep_ms(kAWhileMs);
  EXPECT_EQ(load(truncator.done), 0u);
  EXPECT(file->store.answer());
  thread_sleep_ms(kAWhileMs);
  EXPECT_EQ(load(truncator.done), 0u);
  EXPECT(file->store.answer());
  crew.join();
  EXPECT_EQ(file->space.pages(), 0u);
  EXPECT_EQ(file->space.size(), kPageSize);
  EXPECT(reader.result.has_value());  // with what was there, or with nothing
  EXPECT_EQ(file->space.dirty_pages(), 0u);
}

KTEST(page_cache_races, transfers_may_end_in_interrupts) {
  if (!arch::using_apic()) SKIP("no APIC");
  const FileHolder file{4 * kPageSize, u64{4} * kPageSize};
  fill(file->store.medium(), 0, 1);
  store_of_interrupt = &file->store;
  file->store.answers_reads = file->store.answers_writes = Answer::Later;
  Caller reader{*file, 1};
  Crew<1> crew;
  REQUIRE(crew.add("reader", Caller::read, &reader, here()));
  EXPECT(within_ms(1000, [&] { return file->store.held() == 1; }));
  call_as_interrupt(answer_in_interrupt);
  crew.join();
  EXPECT_EQ(differences(reader.bytes, kPageSize, 1), 0u);
  const u8 byte[] = {'z'};
  EXPECT_EQ(*file->space.write(kPageSize, byte), 1u);
  EXPECT_EQ(file->space.start_write_back(1), 1u);
  call_as_interrupt(answer_in_interrupt);
  EXPECT_EQ(file->store.medium()[kPageSize], u8{'z'});
  EXPECT(file->space.sync().has_value());
}

KTEST(page_cache_races, writers_wait_at_the_limit_and_go_on) {
  const FileHolder file{0, 0};
  file->store.answers_writes = Answer::Later;
  file->store.largest = Order{0};
  set_dirty_limit(64);
  const u32 before = page_cache_totals().throttled;
  struct Writer {
    FakeFile& file;
    u32 done = 0;
    static void run(void* argument) {
      auto& me = *static_cast<Writer*>(argument);
      const u8 byte[] = {'w'};
      for (u32 i = 0; i < 300; ++i) {
        if (!me.file.space.write(u64{i} * kPageSize, byte)) return;
        add(me.done, 1);
      }
    }
  } writer{*file};
  Crew<1> crew;
  REQUIRE(crew.add("writer", Writer::run, &writer, here()));
  EXPECT(within_ms(2000, [&] { return page_cache_totals().throttled != before; }));
  thread_sleep_ms(kAWhileMs);
  EXPECT(load(writer.done) <= 66);
  {
    Answerer answerer{file->store};
    EXPECT(answerer.good());
    crew.join();
    EXPECT_EQ(writer.done, 300u);
    EXPECT(file->space.sync().has_value());
  }
  set_dirty_limit(0);
  EXPECT(page_cache_totals().throttled > before);
}

KTEST(page_cache_races, old_pages_are_written_by_themselves) {
  const FileHolder file{kPageSize, 0};
  const u8 byte[] = {'o'};
  EXPECT_EQ(*file->space.write(0, byte), 1u);
  EXPECT_EQ(file->space.dirty_pages(), 1u);
  EXPECT(within_ms(9000, [&] {
    thread_sleep_ms(100);
    return file->space.dirty_pages() == 0;
  }));
  EXPECT(file->space.sync().has_value());
  EXPECT_EQ(file->store.medium()[0], u8{'o'});
  EXPECT_EQ(file->store.writes, 1u);
}

}  // namespace paean
