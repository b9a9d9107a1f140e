// ZoneShares against fractions that are kept exactly: among zones whose sizes stay, none is ever further behind its
// share than one scan of each; a chosen zone has pages and was asked for; nobody is chosen only if nobody could be.
#include <array>

#include "entry.hpp"
#include "mm/zone_shares.hpp"

namespace paean::fuzz {

namespace {

/// Since the last change of sizes, and only if all zones may give: what each has given must follow its size.
class Model {
 public:
  void restart(const std::array<u32, 4>& sizes) {
    sizes_ = sizes;
    given_ = {};
    largest_ = 0;
  }
  void gave(u32 zone, u32 pages) {
    given_[zone] += pages;
    largest_ = std::max(largest_, pages);
  }
  /// given / size of two zones differ by what one scan of the smaller of them is, at most, after a common start.
  void compare() const {
    for (u32 a = 0; a < 4; ++a) {
      for (u32 b = 0; b < 4; ++b) {
        if (sizes_[a] == 0 || sizes_[b] == 0) continue;
        // given_a / size_a <= given_b / size_b + largest / size_a + 1/1000, times both sizes
        const u64 left = u64{given_[a]} * sizes_[b], right = u64{given_[b]} * sizes_[a];
        CHECK(left <= right + u64{largest_} * sizes_[b] + u64{sizes_[a]} * sizes_[b] / 1000 + 1);
      }
    }
  }

 private:
  std::array<u32, 4> sizes_{}, given_{};
  u32 largest_ = 0;
};

}  // namespace

void fuzz_one(Input& input) {
  while (!input.empty()) {
    ZoneShares shares;
    Model model;
    std::array<u32, 4> sizes{};
    for (u32 zone = 0; zone < 4; ++zone) {
      sizes[zone] = input.below(4) == 0 ? 0 : 1 + input.below(60'000);
      shares.resize(zone, sizes[zone]);
    }
    model.restart(sizes);
    const u32 mask = input.below(4) == 0 ? input.below(16) : 15, before = shares.history();
    bool any = false;
    for (u32 zone = 0; zone < 4; ++zone) any = any || ((mask >> zone & 1) != 0 && sizes[zone] != 0);
    for (u32 scans = input.below(200); scans != 0; --scans) {
      const u32 zone = shares.next(mask);
      CHECK((zone != ZoneShares::kNone) == any);
      if (!any) break;
      CHECK(sizes[zone] != 0 && (mask >> zone & 1) != 0);
      const u32 pages = 1 + input.below(sizes[zone] < 16 ? sizes[zone] : 16);
      shares.scanned(zone, pages);
      CHECK(shares.history() != before);
      model.gave(zone, pages);
      if (mask == 15) model.compare();
    }
  }
}

}  // namespace paean::fuzz
