// Which zone gives next, so that all give in proportion to what they have.
//
//   the next victim is the zone with the lowest   sum of  scanned / size   over all scans so far
//
// As long as sizes stay, that is scanned/size, and after any number of scans the shares differ from the sizes' shares
// by less than one scan. Sizes change while zones fill and empty: each scan counts with the size at its time. A zone
// that was empty starts where the last one stands, and a zone that was scanned alone (for requests that cannot use the
// others) is ahead by one turn at most: neither is punished, nor rewarded, for long.
//
// Integers only, and no clock: the same scans of the same sizes choose the same zones, on any machine. history() is a
// number that stands for all choices so far, to compare two runs with.
//
// Context: the owner serialises. Pure.
// Source: the proportional rule of Linux's early highmem notes, as stride scheduling (Waldspurger) does it.
#pragma once

#include <algorithm>
#include <array>

#include "lib/assert.hpp"
#include "lib/types.hpp"

namespace paean {

class ZoneShares {
 public:
  static constexpr u32 kZones = 4, kNone = 4;

  /// How many pages can be scanned in a zone from now on.
  constexpr void resize(u32 zone, u32 pages) {
    Share& share = shares_[zone];
    if (share.pages == 0 && pages != 0) share.turns = std::max(share.turns, lowest());
    share.pages = pages;
  }
  /// Of the zones in this mask (bit n: zone n) the one that gives next; kNone if all of them are empty. Of equals the
  /// higher one, which is not lowmem.
  constexpr u32 next(u32 zones) const {
    u32 best = kNone;
    for (u32 zone = kZones; zone-- != 0;) {
      if ((zones >> zone & 1) == 0 || shares_[zone].pages == 0) continue;
      if (best == kNone || shares_[zone].turns < shares_[best].turns) best = zone;
    }
    return best;
  }
  /// So many pages of a zone that is not empty (asserted) have been scanned.
  constexpr void scanned(u32 zone, u32 pages) {
    Share& share = shares_[zone];
    ASSERT(share.pages != 0 && pages <= kMostAtOnce);
    share.turns += pages * kTurn / share.pages;
    const u64 low = lowest();
    share.turns = std::min(share.turns, low + kTurn);
    if (low >= kManyTurns) forget(low);
    history_ = (history_ ^ (zone << 24 ^ pages)) * kPrime;
  }
  constexpr bool has_pages(u32 zone) const { return shares_[zone].pages != 0; }
  constexpr u32 history() const { return history_; }

 private:
  static constexpr u64 kTurn = u64{1} << 40;  // a zone's pages once; finer than one page of 64 TiB
  static constexpr u32 kMostAtOnce = 1u << 20;
  static constexpr u64 kManyTurns = kTurn << 16;
  static constexpr u32 kPrime = 0x01000193;  // FNV-1a

  struct Share {
    u32 pages = 0;
    u64 turns = 0;  // sum of scanned / size, in kTurn
  };

  /// Where the zone that is farthest behind stands.
  constexpr u64 lowest() const {
    u64 low = ~u64{0};
    for (const Share& share : shares_) {
      if (share.pages != 0) low = std::min(low, share.turns);
    }
    return low == ~u64{0} ? 0 : low;
  }
  constexpr void forget(u64 turns) {
    for (Share& share : shares_) share.turns -= std::min(share.turns, turns);
  }

  std::array<Share, kZones> shares_{};
  u32 history_ = 0x811c9dc5;
};

}  // namespace paean
