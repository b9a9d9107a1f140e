// Blocks that were tables: no file gets one while the medium may still point to it as a table.
#include <random>
#include <set>

#include "ext2_image.hpp"
#include "kernel/fs/ext2_retired.hpp"
#include "support.hpp"

using namespace paean;
using namespace paean::host;

namespace {

constexpr u32 kBlocks = 12 + 256 + 256 + 40;  // with five blocks of pointers, in blocks of 1 KiB

/// A volume with a file whose tables have just become free.
struct Volume {
  Volume() : store(make_image("-b 1024 -g 512", 1024)), fs(store) {
    REQUIRE(fs.mount(store.image().size(), Ext2Mode::ReadWrite));
    const u32 file = fs.create(kExt2RootInode, "a", kExt2ModeFile | 0644).value();
    b = fs.create(kExt2RootInode, "b", kExt2ModeFile | 0644).value();
    // With all tables that it will need: these might have been the other's.
    for (u32 i = 12; i < 1024; i += 256) REQUIRE(fs.need_block(b, i, (u64{i} + 1) * 1024));
    std::set<u32> contents;
    const std::vector<u8> before = bitmap();
    for (u32 i = 0; i < kBlocks; ++i) contents.insert(fs.need_block(file, i, (u64{i} + 1) * 1024)->block);
    const std::vector<u8> after = bitmap();
    for (u32 block = 1; block < fs.geometry().blocks; ++block) {
      if (before[block] == 0 && after[block] != 0 && !contents.contains(block)) tables.insert(block);
    }
    REQUIRE(tables.size() == 4);
    REQUIRE(fs.write_super());
    fs.sync_ended(fs.sync_begins());
    REQUIRE(fs.truncate(file, 0));
  }
  /// Of each block: whether it is in use.
  std::vector<u8> bitmap() {
    std::vector<u8> used(fs.geometry().blocks);
    for (u32 block = 1; block < used.size(); ++block) {
      const u32 group = fs.geometry().group_of_block(block), bit = block - fs.geometry().group_start(group);
      const u32 at = fs.volume().group(group)->block_bitmap;
      used[block] = store.image()[fs.geometry().offset_of(at) + bit / 8] >> (bit % 8) & 1;
    }
    return used;
  }
  /// One block more for the other file, as contents.
  Result<u32> more() {
    while (true) {
      const Ext2NewBlock found = TRY(fs.need_block(b, next, (u64{next} + 1) * 1024));
      ++next;
      if (found.age == Ext2NewBlock::Age::Fresh) return found.block;
    }
  }
  ImageStore store;
  Ext2 fs;
  std::set<u32> tables;
  u32 b = 0, next = 0;
};

}  // namespace

TEST_SUITE("ext2") {
  TEST_CASE("a file gets a block that was a table only after a sync, which is made when nothing else is free") {
    Volume disk;
    u32 early = 0, late = 0;
    while (true) {
      const Result<u32> block = disk.more();
      if (!block) {
        CHECK(block.error() == Error::NoSpace);
        break;
      }
      if (disk.tables.contains(*block)) ++(disk.store.sync_calls() == 0 ? early : late);
    }
    CHECK(early == 0);
    CHECK(late > 0);
    CHECK(disk.store.sync_calls() == 1);
    CHECK(disk.fs.volume().free_blocks() == 0);
    CHECK(disk.fs.unmount());
    CHECK(check_image(disk.store.image()) == 0);
  }

  TEST_CASE("a sync that ends well, and began late enough, frees them for files") {
    for (const bool late : {false, true}) {
      CAPTURE(late);
      Volume disk;
      // One sync begins before a directory block becomes free; it does not count.
      const u32 folder = disk.fs.make_directory(kExt2RootInode, "d", 0755).value();
      const u32 block = disk.fs.load(folder)->block[0];
      u32 number = disk.fs.sync_begins();
      REQUIRE(disk.fs.remove_directory(kExt2RootInode, "d", folder));
      REQUIRE(disk.fs.evict(folder));
      if (late) number = disk.fs.sync_begins();
      disk.fs.sync_ended(number);
      bool got = false;
      while (!got && disk.store.sync_calls() == 0) {
        const Result<u32> found = disk.more();
        if (!found) break;
        if (disk.store.sync_calls() == 0) got = *found == block;
      }
      CHECK(got == late);
    }
  }

  TEST_CASE("a sync without memory costs one write, a sync that fails ends all changes") {
    Volume disk;
    disk.store.syncs = std::unexpected(Error::OutOfMemory);
    Result<u32> block = 0;
    while ((block = disk.more())) {}
    CHECK(block.error() == Error::OutOfMemory);
    const u32 free = disk.fs.volume().free_blocks();
    CHECK(free >= disk.tables.size() - 1);
    CHECK(!disk.fs.read_only());
    disk.store.syncs = std::unexpected(Error::Io);
    CHECK(!disk.more());
    CHECK(disk.fs.read_only());
    CHECK(disk.store.complaints() == 1);
    CHECK(disk.fs.unmount());
    Ext2SuperRecord super;
    std::memcpy(&super, disk.store.image().data() + kExt2SuperOffset, sizeof super);
    CHECK((super.state & (kExt2StateClean | kExt2StateErrors)) == kExt2StateErrors);
  }

  TEST_CASE("ranges of blocks: what was added is in one until a later sync ends, however many there are") {
    constexpr u32 kEnd = 1500;
    for (u32 seed = 0; seed < 10; ++seed) {
      std::mt19937 random(seed);
      RetiredTables tables;
      std::vector<u32> stamp(kEnd, ~0u);  // syncs that had begun when it came; ~0: not there
      std::set<u32> running;
      u32 syncs = 0;
      for (u32 step = 0; step < 150; ++step) {
        const u32 what = random() % 20;
        if (what == 0) {
          running.insert(tables.sync_begins());
          ++syncs;
        } else if (what == 1 && !running.empty()) {
          const u32 number = *running.begin();
          running.erase(running.begin());
          tables.sync_ended(number);
          for (u32& each : stamp) each = each != ~0u && each < number ? ~0u : each;
        } else {
          const u32 blocks = 1 + random() % 3, first = 1 + random() % (kEnd - 4);
          tables.add(first, blocks);
          for (u32 i = first; i < first + blocks; ++i) stamp[i] = syncs;
        }
        for (u32 block = 1; block < kEnd; ++block) {
          const u32 end = tables.end_of_range_with(block);
          if (end != 0 && end <= block) FAIL("a range that ends before it begins");
          if (end == 0 && stamp[block] != ~0u) FAIL("block ", block, " got lost");
        }
      }
      const u32 number = tables.sync_begins();
      tables.sync_ended(number);
      CHECK(tables.empty());
    }
  }
}  // TEST_SUITE
