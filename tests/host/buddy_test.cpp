#include "mm/buddy.hpp"

#include <algorithm>
#include <memory>
#include <vector>

#include "../unit/take_pages.hpp"
#include "support.hpp"

namespace paean::host {

namespace {

/// A buddy allocator with its memory; nothing is free at first.
class Fixture {
 public:
  explicit Fixture(u32 pages) : memory_(Buddy::words_needed(pages)) { buddy.init(memory_, pages); }

 private:
  std::vector<u32> memory_;

 public:
  Buddy buddy;
};

}  // namespace

TEST_SUITE("buddy") {
  TEST_CASE("starts with nothing free") {
    Fixture f{3000};
    CHECK(f.buddy.pages() == 3000);
    CHECK(f.buddy.free_pages() == 0);
    CHECK(f.buddy.nonempty_orders() == 0);
    for (u32 order = 0; order <= kMaxOrder; ++order) CHECK(f.buddy.allocate(Order{order}) == Buddy::kNone);
    CHECK(f.buddy.check());
  }

  TEST_CASE("memory costs about two bits a page") {
    constexpr u32 kPages = 1u << 24;  // 64 GB
    CHECK(Buddy::words_needed(kPages) * 4 < kPages / 4 + kPages / 64);
  }

  TEST_CASE("a range becomes the largest aligned blocks") {
    Fixture f{4096};
    f.buddy.free_range(3, 2061);  // 3, 4-7, 8-15, .. 512-1023, 1024-2047, 2048-2063
    CHECK(f.buddy.free_pages() == 2061);
    CHECK(f.buddy.free_blocks(Order{0}) == 1);
    CHECK(f.buddy.free_blocks(Order{1}) == 0);
    CHECK(f.buddy.free_blocks(Order{2}) == 1);
    CHECK(f.buddy.free_blocks(Order{9}) == 1);
    CHECK(f.buddy.free_blocks(Order{10}) == 1);
    CHECK(f.buddy.free_blocks(Order{4}) == 2);
    CHECK(f.buddy.check());
  }

  TEST_CASE("lowest address first at each order") {
    Fixture f{2048};
    f.buddy.free_range(0, 2048);
    CHECK(f.buddy.allocate(Order{0}) == 0);
    CHECK(f.buddy.allocate(Order{0}) == 1);
    CHECK(f.buddy.allocate(Order{3}) == 8);
    CHECK(f.buddy.allocate(Order{1}) == 2);
    CHECK(f.buddy.allocate(Order{10}) == 1024);
    CHECK(f.buddy.allocate(Order{10}) == Buddy::kNone);
    CHECK(f.buddy.allocate(Order{9}) == 512);
    CHECK(f.buddy.check());
  }

  TEST_CASE("freeing everything in any order merges completely") {
    for (const bool backwards : {false, true}) {
      CAPTURE(backwards);
      Fixture f{3 * 1024};
      f.buddy.free_range(0, 3 * 1024);
      std::vector<u32> taken;
      while (f.buddy.free_pages() != 0) taken.push_back(f.buddy.allocate(Order{0}));
      CHECK(taken.size() == 3 * 1024);
      CHECK(std::is_sorted(taken.begin(), taken.end()));
      if (backwards) std::reverse(taken.begin(), taken.end());
      for (const u32 page : taken) f.buddy.free(page, Order{0});
      CHECK(f.buddy.free_blocks(Order{10}) == 3);
      CHECK(f.buddy.nonempty_orders() == 1u << 10);
      CHECK(f.buddy.check());
    }
  }

  TEST_CASE("pages at the ragged end have no buddy beyond it") {
    Fixture f{1027};
    f.buddy.free_range(1024, 3);
    CHECK(f.buddy.free_blocks(Order{1}) == 1);
    CHECK(f.buddy.free_blocks(Order{0}) == 1);
    CHECK(f.buddy.allocate(Order{2}) == Buddy::kNone);
    CHECK(f.buddy.covering_order(1026) == 0);
    CHECK(f.buddy.covering_order(1027) == Buddy::kNone);
  }

  TEST_CASE("a batch of single pages") {
    Fixture f{256};
    f.buddy.free_range(0, 5);
    f.buddy.free_range(16, 32);
    std::vector<u32> out(64, 99);
    CHECK(take_pages(f.buddy, 0, out.data()) == 0);
    CHECK(take_pages(f.buddy, 10, out.data()) == 10);
    CHECK(f.buddy.free_pages() == 27);
    CHECK(take_pages(f.buddy, 40, out.data()) == 27);
    CHECK(out[27] == 99);
    CHECK(f.buddy.free_pages() == 0);
    CHECK(f.buddy.check());
  }

  TEST_CASE("taking a given block splits what covers it") {
    Fixture f{1024};
    f.buddy.free_range(0, 1024);
    CHECK(f.buddy.allocate_at(100, Order{2}));
    CHECK(f.buddy.free_pages() == 1020);
    CHECK_FALSE(f.buddy.is_free(100));
    CHECK_FALSE(f.buddy.is_free(103));
    CHECK(f.buddy.covering_order(96) == 2);
    CHECK(f.buddy.covering_order(104) == 3);
    CHECK_FALSE(f.buddy.allocate_at(100, Order{2}));
    CHECK_FALSE(f.buddy.allocate_at(96, Order{3}));
    CHECK_FALSE(f.buddy.allocate_at(0, Order{10}));
    f.buddy.free(100, Order{2});
    CHECK(f.buddy.free_blocks(Order{10}) == 1);
    CHECK(f.buddy.check());
  }

  TEST_CASE("bad frees are caught in debug builds") {
    Fixture f{2000};
    f.buddy.free_range(0, 64);
    ExpectPanic armed;
    CHECK_THROWS_AS(f.buddy.free(5, Order{0}), Panic);      // free already
    CHECK_THROWS_AS(f.buddy.free(65, Order{1}), Panic);     // not aligned
    CHECK_THROWS_AS(f.buddy.free(1999, Order{1}), Panic);   // not aligned, beyond the end
    CHECK_THROWS_AS(f.buddy.free(1024, Order{10}), Panic);  // beyond the end
  }
}

}  // namespace paean::host
