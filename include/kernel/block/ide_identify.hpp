// What a disk says of itself when it is asked with IDENTIFY DEVICE. Pure.
// Source: ATA/ATAPI-6, section 8.15. The words that older disks leave at 0 mean "no".
#pragma once

#include <span>

#include "lib/types.hpp"

namespace paean {

inline constexpr u32 kIdentityWords = 256;
inline constexpr u64 kLba28Sectors = u64{1} << 28, kLba48Sectors = u64{1} << 48;

struct IdeIdentity {
  bool disk = false;  // a disk with blocks by number, and not a packet device
  bool dma = false;
  bool lba48 = false;
  bool flush = false;  // FLUSH CACHE, and with lba48 FLUSH CACHE EXT
  u64 sectors = 0;
  u32 sector_bytes = 512;
  char model[41]{};  // without trailing blanks; bytes that do not print are question marks
};

IdeIdentity parse_identity(std::span<const u16, kIdentityWords> words);

}  // namespace paean
