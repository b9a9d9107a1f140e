#include "block.hpp"
#include "test_disk.hpp"

namespace paean {

namespace {

constexpr u32 kFirst = 100, kSectors = 50;

/// One partition, the second of four.
void write_table(u8* contents) {
  u8* entry = contents + 446 + 16;
  entry[4] = 0x83;
  entry[8] = kFirst;
  entry[12] = kSectors;
  contents[510] = 0x55;
  contents[511] = 0xaa;
}

KTEST(partition, is_a_part_of_its_device) {
  TestDisk disk{{.queue_depth = 1}};
  disk.fill = write_table;
  REQUIRE(disk.connect());
  const Result<BlockDevice*> opened = open_block_device("test2", DeviceUse::Reading);
  REQUIRE(opened.has_value());
  BlockDevice& partition = **opened;
  EXPECT(&partition.whole() == &disk);
  EXPECT_EQ(partition.sectors(), kSectors);
  EXPECT(find_block_device("test1") == nullptr);

  TestPages<1> pages;
  REQUIRE(pages.take(1, AllocFlags::HighUser));
  fill_pattern(pages.segments(), 6);
  EXPECT(submit_and_wait(partition, BlockOp::Write, 42, pages.segments()).has_value());
  EXPECT(submit_and_wait(partition, BlockOp::Write, 43, pages.segments()).error() == Error::InvalidArgument);
  EXPECT(submit_and_wait(partition, BlockOp::Flush, 0, {}).has_value());
  EXPECT_EQ(disk.order[0], kFirst + 42u);
  EXPECT_EQ(disk.commands, 2u);
  clear_segments(pages.segments());
  EXPECT(submit_and_wait(disk, BlockOp::Read, kFirst + 42, pages.segments()).has_value());
  EXPECT_EQ(wrong_words(pages.segments(), 6), 0u);

  EXPECT(unregister_block_device(disk).error() == Error::Busy);
  close_block_device(partition, DeviceUse::Reading);
}

KTEST(partition, is_owned_apart_from_others_but_not_from_the_whole) {
  TestDisk disk{{.queue_depth = 1}};
  disk.fill = [](u8* contents) {
    write_table(contents);
    contents[446 + 32 + 4] = 0x83;
    contents[446 + 32 + 8] = kFirst + kSectors;
    contents[446 + 32 + 12] = kSectors;
  };
  REQUIRE(disk.connect());
  const auto owns = [](std::string_view name) { return open_block_device(name, DeviceUse::Owning); };
  const Result<BlockDevice*> part = owns("test2");
  REQUIRE(part.has_value());
  EXPECT(owns("test2").error() == Error::Busy);
  EXPECT(owns("test").error() == Error::Busy);
  const Result<BlockDevice*> other = owns("test3");
  REQUIRE(other.has_value());
  close_block_device(**part, DeviceUse::Owning);
  EXPECT(owns("test").error() == Error::Busy);
  close_block_device(**other, DeviceUse::Owning);
  const Result<BlockDevice*> whole = owns("test");
  REQUIRE(whole.has_value());
  EXPECT(owns("test3").error() == Error::Busy);
  const Result<BlockDevice*> reader = open_block_device("test3", DeviceUse::Reading);
  EXPECT(reader.has_value());
  if (reader) close_block_device(**reader, DeviceUse::Reading);
  close_block_device(**whole, DeviceUse::Owning);
}

KTEST(partition, goes_with_its_device) {
  {
    TestDisk disk{{.queue_depth = 1}};
    disk.fill = write_table;
    REQUIRE(disk.connect());
    EXPECT(find_block_device("test2") != nullptr);
  }
  EXPECT(find_block_device("test2") == nullptr);
}

KTEST(partition, table_that_cannot_be_read_costs_only_the_partitions) {
  TestDisk disk{{.queue_depth = 1}};
  disk.fill = write_table;
  disk.table_is_bad = true;
  REQUIRE(disk.connect());
  EXPECT(find_block_device("test") == &disk);
  EXPECT(find_block_device("test2") == nullptr);
}

}  // namespace

}  // namespace paean
