// Disks that were made for tests: what is on them, and how they are found. tests/boot/disks.py makes the images.
//
//   sector 0     the words below, so that nobody's own disk is ever written to
//   64 ...       kHostSectors with the host's pattern, which stays
//   then         kWriteSectors that one test writes, and the host looks at afterwards
//   then         kStripes stripes, one for each of many threads, the same
//   then         scratch
//
// The word at index i of a sector is (128 * sector + i) * kPatternFactor + seed.
#pragma once

#include "block.hpp"

namespace paean {

inline constexpr std::string_view kDiskMark = "Paean disk for tests";
inline constexpr u32 kPatternFactor = 2'654'435'761, kWordsPerSector = kSectorBytes / sizeof(u32);
inline constexpr u32 kHostSeed = 0, kWriteSeed = 1, kStripeSeed = 2, kScratchSeed = 3;
inline constexpr Sector kHostStart = 64;
inline constexpr u32 kHostSectors = 16'384 - 64, kWriteSectors = 8192, kStripes = 64, kStripeSectors = 128;
inline constexpr Sector kWriteStart = kHostStart + kHostSectors, kStripeStart = kWriteStart + kWriteSectors;
inline constexpr Sector kScratchStart = kStripeStart + Sector{kStripes} * kStripeSectors;
inline constexpr u32 kScratchSectors = 8192;

/// The marked disks, in the order of their names' registration.
class TestDisks {
 public:
  static constexpr u32 kMost = 8;
  TestDisks() { for_each_block_device(look, this); }
  std::span<BlockDevice* const> all() const { return {disks_, count_}; }

 private:
  static void look(void* self, BlockDevice& device) {
    auto& disks = *static_cast<TestDisks*>(self);
    if (device.is_whole() && disks.count_ < kMost && !device.name().starts_with("ram")) disks.consider(device);
  }
  void consider(BlockDevice& device) {
    TestPages<1> page;
    if (device.sectors() < kScratchStart + kScratchSectors || !page.take(1, AllocFlags::Dma32)) return;
    page[0].bytes = kSectorBytes;
    if (!submit_and_wait(device, BlockOp::Read, 0, page.segments())) return;
    const KmapLocal map{page[0].page};
    if (std::string_view{map.as<char>(), kDiskMark.size()} == kDiskMark) disks_[count_++] = &device;
  }

  BlockDevice* disks_[kMost]{};
  u32 count_ = 0;
};

/// Writes the pattern of sectors from `sector` on into memory; counts words that differ from it.
inline void fill_sectors(std::span<const Segment> segments, Sector sector, u32 seed) {
  u32 word = static_cast<u32>(sector) * kWordsPerSector;
  for (const Segment& segment : segments) {
    const KmapLocal map{segment.page};
    u32* at = map.as<u32>() + segment.offset / sizeof(u32);
    for (u32 i = 0; i < segment.bytes / sizeof(u32); ++i) at[i] = word++ * kPatternFactor + seed;
  }
}
inline u32 wrong_in_sectors(std::span<const Segment> segments, Sector sector, u32 seed) {
  u32 word = static_cast<u32>(sector) * kWordsPerSector, wrong = 0;
  for (const Segment& segment : segments) {
    const KmapLocal map{segment.page};
    const u32* at = map.as<u32>() + segment.offset / sizeof(u32);
    for (u32 i = 0; i < segment.bytes / sizeof(u32); ++i) wrong += at[i] != word++ * kPatternFactor + seed ? 1 : 0;
  }
  return wrong;
}

}  // namespace paean
