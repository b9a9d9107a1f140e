#include "mm/readahead.hpp"

#include <set>

#include "support.hpp"

namespace paean::host {

namespace {

constexpr u32 kFilePages = 1000;

/// A reader with a cache that forgets nothing.
struct Reader {
  ReadAhead state;
  std::set<u32> cached;
  u32 misses = 0, plans = 0;

  void ask(const ReadPlan& plan) {
    ++plans;
    for (u32 i = 0; i < plan.pages; ++i) cached.insert(plan.start + i);
  }
  void read(u32 index, u32 wanted = 1) {
    if (!cached.contains(index)) {
      ++misses;
      ask(plan_for_miss(state, index, wanted, kFilePages));
      REQUIRE(cached.contains(index));
    } else if (note_hit(state, index, kFilePages)) {
      ask(plan_ahead(state, kFilePages));
    }
  }
};

}  // namespace

TEST_SUITE("readahead") {
  TEST_CASE("a sequential reader waits once, and nothing is asked for twice or behind the end") {
    Reader reader;
    for (u32 i = 0; i < kFilePages; ++i) reader.read(i);
    CHECK(reader.misses == 1);
    CHECK(reader.plans < 30);
    CHECK(reader.cached.size() == kFilePages);
    CHECK(*reader.cached.rbegin() == kFilePages - 1);
  }

  TEST_CASE("windows: 4, 8, 16, 32, 64, 128, 128") {
    ReadAhead state;
    CHECK(plan_for_miss(state, 0, 1, kFilePages).pages == 4);
    u32 start = 4;
    for (const u32 pages : {8u, 16u, 32u, 64u, 128u, 128u}) {
      const ReadPlan plan = plan_ahead(state, kFilePages);
      CHECK(plan.start == start);
      CHECK(plan.pages == pages);
      start += pages;
    }
  }

  TEST_CASE("the next window starts a window before the end of what was asked for") {
    ReadAhead state{.next = 100, .ahead_to = 164, .window = 64};
    CHECK(note_hit(state, 100, kFilePages));
    state = {.next = 90, .ahead_to = 164, .window = 64};
    CHECK_FALSE(note_hit(state, 90, kFilePages));
  }

  TEST_CASE("a random reader gets the pages that he wants") {
    Reader reader;
    for (u32 i = 1; i < 100; ++i) reader.read(i * 379 % kFilePages);
    CHECK(reader.cached.size() == reader.misses);
  }

  TEST_CASE("a jump makes the window small again") {
    ReadAhead state{.next = 100, .ahead_to = 164, .window = 64};
    CHECK(plan_for_miss(state, 500, 1, kFilePages).pages == 1);
    CHECK(plan_for_miss(state, 501, 1, kFilePages).pages == 4);
    state = {.next = 100, .ahead_to = 164, .window = 64};
    CHECK_FALSE(note_hit(state, 130, kFilePages));  // a hit far ahead is a jump too
    CHECK(state.window == 0);
  }

  TEST_CASE("a large read is asked for at once") {
    ReadAhead state;
    const ReadPlan plan = plan_for_miss(state, 0, 32, kFilePages);
    CHECK(plan.pages == 32);
    CHECK(plan.largest == Order{3});
    CHECK(plan_for_miss(state, 990, 32, kFilePages).pages == 10);
  }

  TEST_CASE("the same page in parts is no jump") {
    ReadAhead state{.next = 8, .ahead_to = 16, .window = 8};
    CHECK_FALSE(note_hit(state, 7, 16));
    CHECK(state.window == 8);
  }

  TEST_CASE("folios grow with the window") {
    CHECK(order_for_window(1) == Order{0});
    CHECK(order_for_window(4) == Order{0});
    CHECK(order_for_window(8) == Order{1});
    CHECK(order_for_window(63) == Order{3});
    CHECK(order_for_window(64) == Order{4});
  }
}

}  // namespace paean::host
