// ext2 on a disk that is full, or fails: what a call that failed leaves in memory and on the medium.
#include "ext2_space.hpp"
#include "kernel/fs/swap_area.hpp"
#include "mm/page_cache.hpp"
#include "results.hpp"

namespace paean {

namespace {

constexpr u32 kBlock = Ext2Space::kBlockBytes;
constexpr u8 some_bytes[4 * kBlock]{};

/// A file in /e that was written with so many bytes; closed by the caller.
Result<OpenFile*> file_of(std::string_view path, u32 bytes) {
  OpenFile* file = TRY(open_file(path, OpenMode::Read | OpenMode::Write | OpenMode::Create));
  for (u32 left = bytes; left > 0;) {
    const u32 now = left < sizeof some_bytes ? left : static_cast<u32>(sizeof some_bytes);
    const Result<u32> done = write_file(*file, std::span<const u8>{some_bytes, now});
    if (!done) {
      close_file(file);
      return std::unexpected(done.error());
    }
    left -= now;
  }
  return file;
}

}  // namespace

KTEST(ext2, a_write_that_finds_no_room_leaves_no_block) {
  Ext2Space space{32};
  REQUIRE(space.ready());
  const u32 free = static_cast<u32>(statistics_of("/e")->free_blocks);
  const Result<OpenFile*> file = file_of("/e/f", 1000);
  REQUIRE(file.has_value());
  const Result<OpenFile*> other = file_of("/e/other", 12 * kBlock);
  REQUIRE(other.has_value());
  close_file(*other);
  const Result<OpenFile*> last = file_of("/e/last", (free - 1 - 12 - 1) * kBlock);
  REQUIRE(last.has_value());
  close_file(*last);
  REQUIRE(statistics_of("/e")->free_blocks == 1);
  EXPECT(fails_with(write_file_at(**file, 1000, std::span<const u8>{some_bytes, 3000}), Error::NoSpace));
  EXPECT_EQ(status_of(**file).size, 1000);
  EXPECT_EQ(statistics_of("/e")->free_blocks, 1);
  EXPECT(sync_file(**file));
  const Ext2InodeRecord record = space.inode(status_of(**file).inode);
  EXPECT_EQ(record.size, 1000);
  EXPECT_EQ(record.block[1], 0);
  EXPECT_EQ(record.blocks_512, 2);
  EXPECT(write_file_at(**file, 1000, std::span<const u8>{some_bytes, 500}).has_value());
  close_file(*file);
}

KTEST(ext2, the_clean_flag_goes_before_anything_else_changes) {
  Ext2Space space{64};
  REQUIRE(space.ready());
  EXPECT((space.super().state & kExt2StateClean) == 0);
  space.leave();
  EXPECT((space.super().state & kExt2StateClean) != 0);
}

KTEST(ext2, a_table_that_is_not_written_makes_the_volume_read_only) {
  Ext2Space space{64};
  REQUIRE(space.ready());
  const Result<OpenFile*> file = file_of("/e/f", 2 * kBlock);
  REQUIRE(file.has_value());
  space.disk.bad_first = Ext2Space::kBlockBitmap * kBlock / kSectorBytes;
  space.disk.bad_last = space.disk.bad_first + 1;
  EXPECT(!sync_file(**file));
  space.disk.bad_first = space.disk.bad_last = ~Sector{0};
  EXPECT(fails_with(write_file_at(**file, 0, std::span<const u8>{some_bytes, 1}), Error::ReadOnly));
  EXPECT(fails_with(open_file("/e/g", OpenMode::Write | OpenMode::Create), Error::ReadOnly));
  // What is in memory is not cut for a truncation that will not happen.
  EXPECT(fails_with(truncate_file(**file, 10), Error::ReadOnly));
  EXPECT_EQ(status_of(**file).size, 2 * kBlock);
  close_file(*file);
  space.leave();
  EXPECT((space.super().state & (kExt2StateClean | kExt2StateErrors)) == kExt2StateErrors);
}

KTEST(ext2, a_volume_whose_disk_has_gone_is_given_up) {
  Ext2Space space{64};
  REQUIRE(space.ready());
  const Result<OpenFile*> file = file_of("/e/f", 6 * kBlock);
  REQUIRE(file.has_value());
  const Result<OpenFile*> nameless = file_of("/e/g", 2 * kBlock);
  REQUIRE(nameless.has_value());
  space.disk.bad_first = 0;
  space.disk.bad_last = ~Sector{0} - 1;
  EXPECT(remove_file("/e/g"));
  EXPECT(!unmount("/e"));
  EXPECT(!unmount("/e"));  // as often as one likes, with the error that came first
  EXPECT(fails_with(unmount("/e", UnmountMode::Forced), Error::Busy));
  close_file(*file);
  close_file(*nameless);
  EXPECT(!unmount("/e"));
  REQUIRE(unmount("/e", UnmountMode::Forced));
  space.left();
  EXPECT(fails_with(status_of("/e/f"), Error::NotFound));
  EXPECT_EQ(page_cache_totals().dirty, 0);
  EXPECT((space.super().state & kExt2StateClean) == 0);
}

KTEST(ext2, a_volume_that_can_be_written_loses_nothing_by_force) {
  Ext2Space space{64};
  REQUIRE(space.ready());
  const Result<OpenFile*> file = file_of("/e/f", 6 * kBlock);
  REQUIRE(file.has_value());
  const u32 number = static_cast<u32>(status_of(**file).inode);
  close_file(*file);
  REQUIRE(unmount("/e", UnmountMode::Forced));
  space.left();
  EXPECT((space.super().state & kExt2StateClean) != 0);
  EXPECT_EQ(space.inode(number).size, 6 * kBlock);
}

KTEST(ext2, a_mounted_disk_is_read_by_others_and_owned_by_nobody_else) {
  Ext2Space space{64};
  REQUIRE(space.ready());
  const Result<BlockDevice*> reader = open_block_device("test", DeviceUse::Reading);
  REQUIRE(reader.has_value());
  close_block_device(**reader, DeviceUse::Reading);
  EXPECT(fails_with(open_block_device("test", DeviceUse::Owning), Error::Busy));
  EXPECT(fails_with(unregister_block_device(space.disk), Error::Busy));
  EXPECT(fails_with(swap_on("test"), Error::Busy));
  REQUIRE(make_directory("/second"));
  EXPECT(fails_with(mount("test", "/second", "ext2", MountMode::ReadOnly), Error::Busy));
  EXPECT(remove_directory("/second"));
  space.leave();
  const Result<BlockDevice*> owner = open_block_device("test", DeviceUse::Owning);
  REQUIRE(owner.has_value());
  close_block_device(**owner, DeviceUse::Owning);
}

KTEST(ext2, a_size_that_cannot_be_is_not_in_memory_either) {
  Ext2Space space{64};
  REQUIRE(space.ready());
  const Result<OpenFile*> file = file_of("/e/f", 100);
  REQUIRE(file.has_value());
  EXPECT(fails_with(truncate_file(**file, u64{4} << 40), Error::TooLarge));
  EXPECT_EQ(status_of(**file).size, 100);
  EXPECT(truncate_file(**file, 5000));
  EXPECT_EQ(status_of(**file).size, 5000);
  close_file(*file);
}

KTEST(ext2, a_volume_that_is_left_with_open_files_is_clean_and_shows_nothing_old) {
  Ext2Space space{64};
  REQUIRE(space.ready());
  const Result<OpenFile*> file = file_of("/e/f", 4 * kBlock);
  REQUIRE(file.has_value());
  space.disk.bad_first = Ext2Space::kFirstFree * kBlock / kSectorBytes;
  space.disk.bad_last = ~Sector{0} - 1;
  SuperBlock& super = *file_inode(**file).super;
  super.leave();
  space.disk.bad_first = space.disk.bad_last = ~Sector{0};
  EXPECT((space.super().state & kExt2StateClean) != 0);
  const Ext2InodeRecord record = space.inode(status_of(**file).inode);
  EXPECT_EQ(record.block[0], 0);
  EXPECT_EQ(record.blocks_512, 0);
  EXPECT(fails_with(write_file_at(**file, 0, std::span<const u8>{some_bytes, 1}), Error::ReadOnly));
  close_file(*file);
}

}  // namespace paean
