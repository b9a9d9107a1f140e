// The memory map as a Multiboot loader lays it out, read without trust.
//
//   +------+---------------------- size bytes ----------------------+------+----
//   | size | base u64 | length u64 | type u32 | whatever is further | size | ...
//   +------+--------------------------------------------------------+------+----
//
// `size` is 20 with every loader that we met and 24 with extended attributes; the format allows anything from 20 up.
// Nothing outside the blob is ever read, whatever the sizes say.
// Source: Multiboot specification 0.6.96, section 3.3.
#pragma once

#include <cstddef>

#include "mm/memory_map.hpp"

namespace paean {

enum class MmapEnd : u8 {
  Complete,   // the last entry ends where the blob does
  Malformed,  // a size below 20 or beyond the blob, or bytes left over that are no entry; what came before is good
  TooMany,    // MemoryMap::kMaxFirmwareEntries entries were read and there are more
};

struct MmapWalk {
  u32 entries = 0;
  MmapEnd end = MmapEnd::Complete;
};

/// Takes one entry from the front of the blob. Error::NotFound at its end, Error::Corrupt if what is there is no entry.
Result<E820Entry> take_multiboot_entry(std::span<const std::byte>& blob);

/// Calls fn(const E820Entry&) for each entry.
template <typename Fn>
MmapWalk parse_multiboot_mmap(std::span<const std::byte> blob, Fn fn) {
  MmapWalk walk;
  while (walk.entries < MemoryMap::kMaxFirmwareEntries) {
    const Result<E820Entry> entry = take_multiboot_entry(blob);
    if (!entry) {
      walk.end = entry.error() == Error::NotFound ? MmapEnd::Complete : MmapEnd::Malformed;
      return walk;
    }
    fn(*entry);
    ++walk.entries;
  }
  if (!blob.empty()) walk.end = MmapEnd::TooMany;
  return walk;
}

}  // namespace paean
