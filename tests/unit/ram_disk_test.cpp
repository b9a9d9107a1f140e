#include "kernel/block/ram_disk.hpp"

#include "block.hpp"
#include "kernel/test/fail_nth.hpp"

namespace paean {

namespace {

/// A disk that goes with the test.
class OwnDisk {
 public:
  explicit OwnDisk(u64 bytes) : disk_(RamDisk::create("ramtest", bytes)) {}
  ~OwnDisk() {
    if (disk_) (void)RamDisk::destroy(*disk_);
  }
  OwnDisk(const OwnDisk&) = delete;
  OwnDisk& operator=(const OwnDisk&) = delete;
  bool good() const { return disk_.has_value(); }
  RamDisk& operator*() { return **disk_; }

 private:
  Result<RamDisk*> disk_;
};

KTEST(ram_disk, keeps_what_is_written) {
  OwnDisk disk{kMiB};
  REQUIRE(disk.good());
  TestPages<64> pages;
  REQUIRE(pages.take(64, AllocFlags::HighUser));
  fill_pattern(pages.segments(), 7);
  EXPECT(submit_and_wait(*disk, BlockOp::Write, 100, pages.segments()).has_value());
  EXPECT(submit_and_wait(*disk, BlockOp::Flush, 0, {}).has_value());
  clear_segments(pages.segments());
  EXPECT(submit_and_wait(*disk, BlockOp::Read, 100, pages.segments()).has_value());
  EXPECT_EQ(wrong_words(pages.segments(), 7), 0u);
  EXPECT(submit_and_wait(*disk, BlockOp::Read, 1024, pages.segments()).has_value());
  EXPECT_EQ(nonzero_words(pages.segments()), 0u);
  const BlockStatistics statistics = block_statistics(*disk);
  EXPECT_EQ(statistics.reads, 3u);  // one of them looked for partitions
  EXPECT_EQ(statistics.sectors_written, 512u);
  EXPECT_EQ(statistics.flushes, 1u);
}

KTEST(ram_disk, segments_may_be_parts_of_pages) {
  OwnDisk disk{kMiB};
  REQUIRE(disk.good());
  TestPages<3> pages;
  REQUIRE(pages.take(3, AllocFlags::HighUser));
  pages[0] = {pages[0].page, 3584, 512};
  pages[1] = {pages[1].page, 512, 1024};
  fill_pattern(pages.segments(), 3);
  EXPECT(submit_and_wait(*disk, BlockOp::Write, 5, pages.segments()).has_value());
  clear_segments(pages.segments());
  EXPECT(submit_and_wait(*disk, BlockOp::Read, 5, pages.segments()).has_value());
  EXPECT_EQ(wrong_words(pages.segments(), 3), 0u);
}

KTEST(ram_disk, nonsense_is_refused) {
  OwnDisk disk{kMiB};
  REQUIRE(disk.good());
  TestPages<1> pages;
  REQUIRE(pages.take(1, AllocFlags::HighUser));
  Page* page = pages[0].page;
  const auto refused = [&](BlockOp op, Sector sector, Segment segment) {
    const Result<> result = submit_and_wait(*disk, op, sector, {&segment, 1});
    return !result && result.error() == Error::InvalidArgument;
  };
  EXPECT(refused(BlockOp::Read, 0, {nullptr, 0, 512}));
  EXPECT(refused(BlockOp::Read, 0, {page, 0, 0}));
  EXPECT(refused(BlockOp::Read, 0, {page, 100, 512}));
  EXPECT(refused(BlockOp::Read, 0, {page, 0, 100}));
  EXPECT(refused(BlockOp::Read, 0, {page, kPageSize, 512}));
  EXPECT(refused(BlockOp::Read, 0, {page, 0, 0xfffffe00}));
  EXPECT(refused(BlockOp::Read, 2047, {page, 0, 1024}));
  EXPECT(refused(BlockOp::Read, ~Sector{0}, {page, 0, 512}));
  EXPECT(refused(BlockOp::Flush, 0, {page, 0, 512}));
  EXPECT(!submit_and_wait(*disk, BlockOp::Read, 0, {}).has_value());
  EXPECT(submit_and_wait(*disk, BlockOp::Read, 2040, pages.segments()).has_value());
}

KTEST(ram_disk, stays_while_it_is_open) {
  const Result<RamDisk*> disk = RamDisk::create("ramtest", kPageSize);
  REQUIRE(disk.has_value());
  EXPECT(find_block_device("ramtest") == *disk);
  EXPECT(RamDisk::create("ramtest", kPageSize).error() == Error::Exists);
  EXPECT(open_block_device("ramtest", DeviceUse::Reading).has_value());
  EXPECT(RamDisk::destroy(*disk).error() == Error::Busy);
  close_block_device(**disk, DeviceUse::Reading);
  EXPECT(RamDisk::destroy(*disk).has_value());
  EXPECT(find_block_device("ramtest") == nullptr);
  EXPECT(open_block_device("ramtest", DeviceUse::Reading).error() == Error::NotFound);
}

KTEST(ram_disk, every_failure_is_survived) {
  fail_nth(test, "RAM disk", []() -> Result<> {
    RamDisk* disk = TRY(RamDisk::create("ramtest", u64{64} * kKiB));
    return RamDisk::destroy(disk);
  });
}

}  // namespace

}  // namespace paean
