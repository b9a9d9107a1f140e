// Real disks: what the host wrote is read, what is written is there for the host to see. Skipped on machines without
// disks that were made for this.
#include "disk_images.hpp"
#include "threads.hpp"

namespace paean {

namespace {

constexpr Pfn kFourGib{1u << 20};
constexpr u32 kMostPages = 32;
using Pages = TestPages<kMostPages>;

#define REQUIRE_DISKS(disks) \
  if ((disks).all().empty()) SKIP("no disk that was made for tests")

bool all_above_4_gib(const Pages& pages) {
  for (const Segment& segment : pages.segments()) {
    if (page_to_pfn(segment.page) < kFourGib) return false;
  }
  return true;
}

/// Is there memory above 4 GiB, so that high pages come from there?
bool has_far_memory() { return frame_limit() > Pfn{2u << 20}; }

/// Parts of pages, at random.
void cut(TestContext& test, Pages& pages) {
  for (u32 i = 0; i < pages.segments().size(); ++i) {
    const u32 first = test.random_below(8), sectors = 1 + test.random_below(8 - first);
    pages[i].offset = first * kSectorBytes;
    pages[i].bytes = sectors * kSectorBytes;
  }
}

u32 sectors_of(const Pages& pages) {
  u32 bytes = 0;
  for (const Segment& segment : pages.segments()) bytes += segment.bytes;
  return bytes / kSectorBytes;
}

void read_at_random(TestContext& test, BlockDevice& disk) {
  for (u32 round = 0; round < 40; ++round) {
    Pages pages;
    REQUIRE(pages.take(1 + test.random_below(kMostPages), AllocFlags::HighUser));
    EXPECT(!has_far_memory() || all_above_4_gib(pages));
    if (round % 2 != 0) cut(test, pages);
    const Sector at = kHostStart + test.random_below(kHostSectors - sectors_of(pages));
    clear_segments(pages.segments());
    EXPECT(submit_and_wait(disk, BlockOp::Read, at, pages.segments()).has_value());
    EXPECT_EQ(wrong_in_sectors(pages.segments(), at, kHostSeed), 0u);
  }
}

void write_everything(TestContext& test, BlockDevice& disk) {
  u32 done = 0;
  while (done != kWriteSectors) {
    Pages pages;
    const u32 left = (kWriteSectors - done) / 8, most = left < kMostPages ? left : kMostPages;
    REQUIRE(pages.take(1 + test.random_below(most), AllocFlags::HighUser));
    EXPECT(!has_far_memory() || all_above_4_gib(pages));
    fill_sectors(pages.segments(), kWriteStart + done, kWriteSeed);
    EXPECT(submit_and_wait(disk, BlockOp::Write, kWriteStart + done, pages.segments()).has_value());
    done += sectors_of(pages);
  }
  EXPECT(submit_and_wait(disk, BlockOp::Flush, 0, {}).has_value());
}

void read_back(TestContext& test, BlockDevice& disk) {
  for (u32 done = 0; done != kWriteSectors; done += 8 * kMostPages) {
    Pages pages;
    REQUIRE(pages.take(kMostPages, AllocFlags::HighUser));
    clear_segments(pages.segments());
    EXPECT(submit_and_wait(disk, BlockOp::Read, kWriteStart + done, pages.segments()).has_value());
    EXPECT_EQ(wrong_in_sectors(pages.segments(), kWriteStart + done, kWriteSeed), 0u);
  }
}

/// One of many threads that write and read at the same time, each in stripes of its own on all disks.
struct Striper {
  const TestDisks* disks = nullptr;
  u32 number = 0;
  u32 wrong = 0;

  static constexpr u32 kPages = 4, kStep = kPages * 8;

  void work(BlockDevice& disk, Sector at, TestPages<kPages>& pages) {
    fill_sectors(pages.segments(), at, kStripeSeed);
    if (!submit_and_wait(disk, BlockOp::Write, at, pages.segments())) ++wrong;
    clear_segments(pages.segments());
    if (!submit_and_wait(disk, BlockOp::Read, at, pages.segments())) ++wrong;
    wrong += wrong_in_sectors(pages.segments(), at, kStripeSeed);
  }
  static void run(void* self) {
    auto& me = *static_cast<Striper*>(self);
    TestPages<kPages> pages;
    if (!pages.take(kPages, AllocFlags::HighUser)) {
      ++me.wrong;
      return;
    }
    const Sector start = kStripeStart + Sector{me.number} * kStripeSectors;
    for (u32 done = 0; done != kStripeSectors; done += kStep) {
      for (BlockDevice* disk : me.disks->all()) {
        if (!disk->read_only()) me.work(*disk, start + done, pages);
      }
    }
    for (BlockDevice* disk : me.disks->all()) {
      if (!submit_and_wait(*disk, BlockOp::Flush, 0, {})) ++me.wrong;
    }
  }
};

}  // namespace

KTEST(disk, what_the_host_wrote_is_read, .flags = TestFlag::Slow) {
  const TestDisks disks;
  REQUIRE_DISKS(disks);
  for (BlockDevice* disk : disks.all()) {
    test.note("{}: {} sectors", disk->name(), disk->sectors());
    read_at_random(test, *disk);
  }
}

KTEST(disk, what_is_written_stays, .flags = TestFlag::Slow) {
  const TestDisks disks;
  REQUIRE_DISKS(disks);
  for (BlockDevice* disk : disks.all()) {
    if (disk->read_only()) continue;
    write_everything(test, *disk);
    read_back(test, *disk);
  }
}

KTEST(disk, many_threads_at_once, .flags = TestFlag::Slow) {
  const TestDisks disks;
  REQUIRE_DISKS(disks);
  Striper stripers[kStripes];
  Crew<kStripes> crew;
  for (u32 i = 0; i < kStripes; ++i) {
    stripers[i].disks = &disks;
    stripers[i].number = i;
    REQUIRE(crew.add("striper", Striper::run, &stripers[i]));
  }
  crew.join();
  for (const Striper& striper : stripers) EXPECT_EQ(striper.wrong, 0u);
}

KTEST(disk, the_last_sectors_are_its_own) {
  const TestDisks disks;
  REQUIRE_DISKS(disks);
  for (BlockDevice* disk : disks.all()) {
    if (disk->read_only()) continue;
    Pages pages;
    REQUIRE(pages.take(2, AllocFlags::HighUser));
    const Sector last = disk->sectors() - 16;
    fill_sectors(pages.segments(), last, kScratchSeed);
    EXPECT(submit_and_wait(*disk, BlockOp::Write, last, pages.segments()).has_value());
    clear_segments(pages.segments());
    EXPECT(submit_and_wait(*disk, BlockOp::Read, last, pages.segments()).has_value());
    EXPECT_EQ(wrong_in_sectors(pages.segments(), last, kScratchSeed), 0u);
    EXPECT(submit_and_wait(*disk, BlockOp::Read, last + 1, pages.segments()).error() == Error::InvalidArgument);
  }
}

KTEST(disk, block_numbers_of_more_than_28_bits) {
  constexpr Sector kBorder = Sector{1} << 28;
  const TestDisks disks;
  u32 large = 0;
  for (BlockDevice* disk : disks.all()) {
    if (disk->read_only() || disk->sectors() < kBorder + 64) continue;
    ++large;
    // Before, on and behind the border. A number that is cut would hit the mark in sector 0.
    for (const Sector at : {kBorder - 16, kBorder - 8, kBorder, kBorder + 16}) {
      Pages pages;
      REQUIRE(pages.take(2, AllocFlags::HighUser));
      fill_sectors(pages.segments(), at, kScratchSeed);
      EXPECT(submit_and_wait(*disk, BlockOp::Write, at, pages.segments()).has_value());
      clear_segments(pages.segments());
      EXPECT(submit_and_wait(*disk, BlockOp::Read, at, pages.segments()).has_value());
      EXPECT_EQ(wrong_in_sectors(pages.segments(), at, kScratchSeed), 0u);
    }
    Pages first;
    REQUIRE(first.take(1, AllocFlags::HighUser));
    EXPECT(submit_and_wait(*disk, BlockOp::Read, 0, first.segments()).has_value());
    const KmapLocal map{first[0].page};
    EXPECT(std::string_view(map.as<char>(), kDiskMark.size()) == kDiskMark);
  }
  if (large == 0) SKIP("no disk for tests of more than 128 GiB");
}

KTEST(disk, a_read_only_one_is_not_written) {
  const TestDisks disks;
  u32 found = 0;
  for (BlockDevice* disk : disks.all()) {
    if (!disk->read_only()) continue;
    ++found;
    Pages pages;
    REQUIRE(pages.take(1, AllocFlags::HighUser));
    EXPECT(submit_and_wait(*disk, BlockOp::Write, kScratchStart, pages.segments()).error() == Error::ReadOnly);
  }
  if (found == 0) SKIP("no read-only disk for tests");
}

}  // namespace paean
