// The first page of a swap area, as mkswap writes it.
//
//   0        1024      1028        1032         1036   1052    1068      1536              4086
//   | (boot) | version | last page | bad pages | UUID | label | nothing | their numbers ... | SWAPSPACE2 |
//
// Pure. Numbers are little-endian. Source: include/linux/swap.h, union swap_header.
#pragma once

#include <span>

#include "lib/addr.hpp"
#include "lib/result.hpp"

namespace paean {

struct SwapHeader {
  static constexpr u32 kMostBad = 637;
  u32 slots = 0;  // the header's own included
  u32 bad = 0;    // slots that must not be used
  u32 bad_slots[kMostBad]{};
};

/// What an area of `bytes` says of itself. InvalidArgument: no swap area of this version, or one that is longer than
/// what it lies on, or names bad pages that it does not have.
Result<> read_swap_header(std::span<const u8, kPageSize> page, u64 bytes, SwapHeader& header);

}  // namespace paean
