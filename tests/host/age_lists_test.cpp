#include "mm/age_lists.hpp"

#include <random>
#include <set>

#include "reclaim_sim.hpp"
#include "support.hpp"

namespace paean::host {

namespace {

using Lists = AgeLists<SimPage, SimAged>;

/// Evicts from the lists until `count` have gone; their numbers in order.
std::vector<u32> evict(Lists& lists, u32 count) {
  std::vector<u32> gone;
  for (u32 looks = 0; gone.size() < count && looks < 1000; ++looks) {
    SimPage* page = lists.take();
    if (page == nullptr) continue;
    gone.push_back(page->number);
  }
  return gone;
}

}  // namespace

TEST_SUITE("age_lists") {
  TEST_CASE("the oldest goes first") {
    std::vector<SimPage> pages = sim_pages(5);
    Lists lists;
    CHECK(lists.take() == nullptr);
    for (SimPage& page : pages) lists.add(page);
    CHECK(evict(lists, 5) == std::vector<u32>{0, 1, 2, 3, 4});
    CHECK(lists.pages() == 0);
  }

  TEST_CASE("what was used again stays when the others go") {
    std::vector<SimPage> pages = sim_pages(10);
    Lists lists;
    for (SimPage& page : pages) lists.add(page);
    pages[0].used = pages[5].used = true;
    CHECK(evict(lists, 8) == std::vector<u32>{1, 2, 3, 4, 6, 7, 8, 9});
    CHECK(lists.pages() == 2);
    CHECK(evict(lists, 2) == std::vector<u32>{0, 5});
  }

  TEST_CASE("what was in use, and is not any more, goes within two turns, though it is the smaller part") {
    constexpr u32 kHot = 40, kMemory = 100, kNew = 2 * kMemory;
    std::vector<SimPage> pages = sim_pages(kHot + kNew);
    Lists lists;
    for (u32 i = 0; i < kHot; ++i) {
      lists.add(pages[i]);
      pages[i].used = true;
    }
    for (u32 i = kHot; i < kHot + kNew; ++i) {
      lists.add(pages[i]);
      if (lists.pages() > kMemory) CHECK(evict(lists, 1).size() == 1);
    }
    for (const u32 number : evict(lists, kMemory)) CHECK(number >= kHot);
  }

  TEST_CASE("random work: nothing is lost, and the counts are those of the lists") {
    std::mt19937 random{7};
    std::vector<SimPage> pages = sim_pages(200);
    std::set<u32> in;
    Lists lists;
    for (u32 step = 0; step < 100'000; ++step) {
      SimPage& page = pages[random() % pages.size()];
      switch (random() % 4) {
        case 0:
          if (in.insert(page.number).second) {
            page.used = false;
            lists.add(page);
          }
          break;
        case 1:
          if (in.erase(page.number) != 0) lists.remove(page);
          break;
        case 2: page.used = in.contains(page.number); break;
        default:
          SimPage* oldest = lists.take();
          if (oldest != nullptr) CHECK(in.erase(oldest->number) == 1);
      }
      REQUIRE(lists.pages() == in.size());
      REQUIRE(lists.count() == in.size());
      u32 active = 0;
      for (const u32 number : in) active += pages[number].age == Age::Active ? 1 : 0;
      REQUIRE(lists.active_pages() == active);
    }
  }
}

}  // namespace paean::host
