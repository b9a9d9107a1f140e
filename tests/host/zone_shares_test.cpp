#include "mm/zone_shares.hpp"

#include "support.hpp"

namespace paean::host {

namespace {

constexpr u32 kAll = 15;

/// Scans one page at a time; how often each zone gave.
std::array<u32, 4> play(ZoneShares& shares, u32 zones, u32 scans) {
  std::array<u32, 4> given{};
  for (u32 i = 0; i < scans; ++i) {
    const u32 zone = shares.next(zones);
    shares.scanned(zone, 1);
    ++given[zone];
  }
  return given;
}

}  // namespace

TEST_SUITE("zone_shares") {
  TEST_CASE("each zone gives its share, to a thousandth, over a million scans") {
    const std::array<u32, 4> sizes[] = {{4'000, 200'000, 500'000, 300'000},
                                        {0, 0, 1, 16'777'216},
                                        {0, 207'000, 0, 16'500'000},
                                        {1'000, 1'000, 1'000, 1'000}};
    for (const auto& size : sizes) {
      ZoneShares shares;
      u64 all = 0;
      for (u32 zone = 0; zone < 4; ++zone) {
        shares.resize(zone, size[zone]);
        all += size[zone];
      }
      constexpr u32 kScans = 1'000'000;
      const auto given = play(shares, kAll, kScans);
      for (u32 zone = 0; zone < 4; ++zone) {
        const u64 wanted = u64{kScans} * size[zone] / all;
        CHECK(given[zone] <= wanted + wanted / 1000 + 1);
        CHECK(given[zone] + wanted / 1000 + 1 >= wanted);
      }
    }
  }

  TEST_CASE("only the zones that were asked for give, and empty ones never") {
    ZoneShares shares;
    CHECK(shares.next(kAll) == ZoneShares::kNone);
    shares.resize(1, 100);
    CHECK(shares.next(0b1101) == ZoneShares::kNone);
    CHECK(shares.next(kAll) == 1);
    shares.resize(3, 5);
    CHECK(play(shares, 0b0010, 50) == std::array<u32, 4>{0, 50, 0, 0});
  }

  TEST_CASE("of equals the higher zone, which spares lowmem") {
    ZoneShares shares;
    shares.resize(1, 10);
    shares.resize(2, 10);
    CHECK(shares.next(kAll) == 2);
  }

  TEST_CASE("a zone that fills up does not make up for the time when it was empty") {
    ZoneShares shares;
    shares.resize(3, 1000);
    play(shares, kAll, 100'000);
    shares.resize(1, 1000);
    const auto given = play(shares, kAll, 1000);
    CHECK(given[1] == 500);
  }

  TEST_CASE("a zone that was scanned alone is spared for one turn at most") {
    ZoneShares shares;
    shares.resize(1, 100);
    shares.resize(3, 1000);
    play(shares, 0b0010, 100'000);
    const auto given = play(shares, kAll, 1000);
    CHECK(given[1] == 0);
    CHECK(play(shares, kAll, 1100)[1] == 100);
  }

  TEST_CASE("after very many turns it goes on as before") {
    ZoneShares shares;
    shares.resize(0, 1);
    shares.resize(1, 3);
    u32 given[2]{};
    for (u32 i = 0; i < 400'000; ++i) {
      const u32 zone = shares.next(kAll);
      shares.scanned(zone, 1);
      ++given[zone];
    }
    CHECK(given[1] == 3 * given[0]);
  }

  TEST_CASE("the same scans have the same history, and others another one") {
    ZoneShares first, second;
    for (ZoneShares* shares : {&first, &second}) {
      shares->resize(1, 7);
      shares->resize(3, 11);
      play(*shares, kAll, 1000);
    }
    CHECK(first.history() == second.history());
    first.scanned(1, 1);
    second.scanned(1, 2);
    CHECK(first.history() != second.history());
  }
}

}  // namespace paean::host
