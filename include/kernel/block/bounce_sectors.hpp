// Which sectors of some pages are in use: memory that is given out in multiples of 512 bytes.
//
//   page 0  |##......|   a byte of marks for each page
//   page 1  |........|   take(8) -> page 1, all of it
//   page 2  |#.##....|   take(3) -> page 2, sectors 4 to 6
//
// A run never leaves its page. Where no page has a run that is long enough, a shorter one is given: as long as a sector
// is free, take() succeeds. So a request of 1 KiB costs 1 KiB, not a page.
// Pure: the marks are the caller's. The caller locks.
#pragma once

#include <span>

#include "lib/addr.hpp"

namespace paean {

inline constexpr u32 kSectorsPerPage = 8;

class BounceSectors {
 public:
  struct Run {
    u32 page = 0, first = 0, count = 0;
  };

  constexpr BounceSectors() = default;
  explicit BounceSectors(std::span<u8> marks);

  u32 capacity() const { return static_cast<u32>(marks_.size()) * kSectorsPerPage; }
  u32 free() const { return free_; }
  /// 1 to `most` sectors, the longest run that is not longer. Precondition: free() != 0, most != 0 (asserted).
  Run take(u32 most);
  /// Exactly what take() gave (asserted).
  void give(Run run);

 private:
  std::span<u8> marks_{};
  u32 free_ = 0;
};

}  // namespace paean
