#include "mm/hbitmap.hpp"

#include <random>
#include <set>
#include <vector>

#include "support.hpp"

namespace paean::host {

TEST_SUITE("hbitmap") {
  TEST_CASE("memory that is needed") {
    CHECK(HBitmap::words_needed(1) == 1);
    CHECK(HBitmap::words_needed(32) == 1);
    CHECK(HBitmap::words_needed(33) == 3);
    CHECK(HBitmap::words_needed(1024) == 33);
    CHECK(HBitmap::words_needed(1025) == 33 + 2 + 1);
    CHECK(HBitmap::words_needed(1u << 26) == (1u << 21) + (1u << 16) + (1u << 11) + (1u << 6) + 2 + 1);
  }

  TEST_CASE("single bits at every size class") {
    for (const u32 bits : {1u, 31u, 32u, 33u, 1023u, 1024u, 1025u, 32768u, 32769u, 1u << 21}) {
      CAPTURE(bits);
      std::vector<u32> memory(HBitmap::words_needed(bits));
      HBitmap map;
      map.init(memory, bits);
      CHECK(map.size() == bits);
      CHECK(map.empty());
      CHECK(map.find_first() == HBitmap::kNone);
      for (const u32 index : std::set<u32>{0u, bits / 3, bits / 2, bits - 1}) {
        map.set(index);
        CHECK(map.find_first() == index);
        CHECK(map.count() == 1);
        map.clear(index);
        CHECK(map.empty());
      }
      for (const u32 word : memory) REQUIRE(word == 0);
    }
  }

  TEST_CASE("the largest map: 2^26 bits, frames of 256 GB") {
    constexpr u32 kBits = 1u << 26;
    std::vector<u32> memory(HBitmap::words_needed(kBits));
    HBitmap map;
    map.init(memory, kBits);
    map.set(kBits - 1);
    CHECK(map.find_first() == kBits - 1);
    map.set(kBits / 2 + 5);
    CHECK(map.find_first() == kBits / 2 + 5);
    map.clear(kBits / 2 + 5);
    CHECK(map.find_first() == kBits - 1);
  }

  TEST_CASE("random sets and clears equal a std::set") {
    constexpr u32 kBits = 5000;
    std::vector<u32> memory(HBitmap::words_needed(kBits));
    HBitmap map;
    map.init(memory, kBits);
    std::set<u32> model;
    std::mt19937 random{3};
    for (int i = 0; i < 40000; ++i) {
      const u32 index = random() % (random() % 4 == 0 ? kBits : 100);
      if (model.insert(index).second) {
        map.set(index);
      } else {
        model.erase(index);
        map.clear(index);
      }
      REQUIRE(map.find_first() == (model.empty() ? HBitmap::kNone : *model.begin()));
      REQUIRE(map.test(index) == (model.count(index) == 1));
    }
    CHECK(map.count() == model.size());
  }

  TEST_CASE("misuse is caught") {
    std::vector<u32> memory(HBitmap::words_needed(100));
    HBitmap map;
    ExpectPanic armed;
    CHECK_THROWS_AS(map.init(memory, 0), Panic);
    CHECK_THROWS_AS(map.init(std::span{memory}.first(1), 100), Panic);
    map.init(memory, 100);
    CHECK_THROWS_AS(map.set(100), Panic);
    CHECK_THROWS_AS(map.clear(5), Panic);
    map.set(5);
    CHECK_THROWS_AS(map.set(5), Panic);
  }
}

}  // namespace paean::host
