// ext2 without memory, and with a disk that fails: no call leaves half of anything, and nobody sees what a block held
// before it was his.
#include "ext2_space.hpp"
#include "kernel/test/fail_nth.hpp"
#include "mm/page_cache_internal.hpp"

namespace paean {

namespace {

constexpr u32 kBlock = Ext2Space::kBlockBytes;
constexpr u8 some_bytes[4 * kBlock]{};

Result<> fill(OpenFile& file, u32 bytes) {
  for (u32 at = 0; at < bytes; at += sizeof some_bytes) {
    const u32 now = bytes - at < sizeof some_bytes ? bytes - at : static_cast<u32>(sizeof some_bytes);
    const u32 done = TRY(write_file_at(file, at, std::span<const u8>{some_bytes, now}));
    if (done != now) return std::unexpected(Error::OutOfMemory);
  }
  return {};
}

Result<> make_file(std::string_view path, u32 bytes) {
  OpenFile* file = TRY(open_file(path, OpenMode::Write | OpenMode::Create));
  const Result<> filled = fill(*file, bytes);
  close_file(file);
  return filled;
}

using Operation = Result<> (*)();
struct Case {
  const char* name;
  Operation run;
  bool all_or_nothing;  // /e/x is there if, and only if, the call says so
};

constexpr Case kCases[] = {
    {"create", [] { return make_file("/e/x", 0); }, true},
    {"create and write", [] { return make_file("/e/x", 20 * kBlock); }, false},
    {"truncate", [] { return truncate_path("/e/large", u64{5} * kBlock); }, false},
    {"remove", [] { return remove_file("/e/large"); }, false},
};

}  // namespace

KTEST(ext2, no_memory_leaves_nothing_half_done, .flags = TestFlag::Slow) {
  Ext2Space space{128};
  REQUIRE(space.ready());
  for (const Case& each : kCases) {
    u32 met = 0;
    for (const FaultMode mode : {FaultMode::Once, FaultMode::FromThenOn}) {
      for (u32 n = 1;; ++n) {
        (void)remove_file("/e/large");
        (void)remove_file("/e/x");
        const u64 free = statistics_of("/e")->free_blocks;
        REQUIRE(make_file("/e/large", 40 * kBlock));
        REQUIRE(sync_file_systems());
        settle_memory();
        bool fired, good;
        {
          const FaultPlan plan{n, mode};
          good = each.run().has_value();
          fired = plan.fired();
        }
        settle_memory();  // what is cached of names does not count
        const bool there = status_of("/e/x").has_value();
        if (each.all_or_nothing && there != good)
          test.note("{}: failure {}: the file is there: {}", each.name, n, there);
        EXPECT(!each.all_or_nothing || there == good);
        EXPECT(fired || good);
        (void)remove_file("/e/large");
        (void)remove_file("/e/x");
        settle_memory();
        EXPECT(sync_file_systems());
        const u64 now = statistics_of("/e")->free_blocks;
        if (now != free) test.note("{}: failure {} leaves {} blocks", each.name, n, free - now);
        EXPECT_EQ(now, free);
        if (!fired) break;
        ++met;
      }
    }
    test.note("{}: {} failures met", each.name, met);
    EXPECT(met > 4);
  }
  space.leave();
  EXPECT_EQ(space.super().state & (kExt2StateClean | kExt2StateErrors), kExt2StateClean);
  EXPECT_EQ(space.super().free_inodes, Ext2Space::kInodes - 10);
}

KTEST(ext2, a_block_that_cannot_be_marked_as_new_is_not_had) {
  Ext2Space space{128};
  REQUIRE(space.ready());
  FaultSite* site = find_fault_site("fresh_window");
  REQUIRE(site != nullptr);
  const u64 free = statistics_of("/e")->free_blocks;
  arm_fault(*site, 1, FaultMode::FromThenOn);
  const bool made = make_file("/e/x", 20 * kBlock).has_value();
  disarm_faults();
  EXPECT(!made);
  REQUIRE(remove_file("/e/x"));
  settle_memory();
  EXPECT(sync_file_systems());
  EXPECT_EQ(statistics_of("/e")->free_blocks, free);
  EXPECT(make_file("/e/x", 20 * kBlock));
  REQUIRE(remove_file("/e/x"));
  space.leave();
}

KTEST(ext2, a_dirty_page_is_written_without_any_memory) {
  Ext2Space space{128};
  REQUIRE(space.ready());
  REQUIRE(make_file("/e/f", 20 * kBlock));
  REQUIRE(sync_file_systems());
  const Result<OpenFile*> file = open_file("/e/f", OpenMode::Write);
  REQUIRE(file.has_value());
  static constinit u8 bytes[kPageSize];
  __builtin_memset(bytes, 'x', sizeof bytes);
  constexpr u32 kOffset = 3 * kPageSize;  // blocks that the table of pointers has
  EXPECT(write_file_at(**file, kOffset, bytes).has_value());
  (void)evict_pages(~0u, ZoneMask::all(), Evictor::Request, Thoroughness::All);  // that table, which is clean, goes
  AddressSpace& contents = *file_inode(**file).contents;
  EXPECT_EQ(contents.dirty_pages(), 1u);
  bool met, written;
  {
    const FaultPlan plan{1, FaultMode::FromThenOn};
    written = contents.sync().has_value();
    met = plan.fired();
  }
  EXPECT(met && written);
  EXPECT_EQ(contents.dirty_pages(), 0u);
  const Ext2InodeRecord record = space.inode(static_cast<u32>(status_of(**file).inode));
  const u32 block = space.get<u32>(record.block[kExt2DirectBlocks] * kBlock);
  EXPECT_EQ(space.get<u32>(block * kBlock), 0x78787878u);
  close_file(*file);
}

KTEST(ext2, a_block_that_could_not_be_written_is_zeros) {
  constexpr u32 kPages = 3;
  constexpr Sector kFirst = Ext2Space::kFirstFree * kBlock / kSectorBytes;
  constexpr u8 kOld = 0x5a;
  Ext2Space space{128};
  REQUIRE(space.ready());
  __builtin_memset(space.disk.contents() + Ext2Space::kFirstFree * kBlock, kOld,
                   (128 - Ext2Space::kFirstFree) * kBlock);
  const Result<OpenFile*> file = open_file("/e/f", OpenMode::Read | OpenMode::Write | OpenMode::Create);
  REQUIRE(file.has_value());
  REQUIRE(fill(**file, kPages * kPageSize));
  space.disk.bad_first = kFirst;
  space.disk.bad_last = ~Sector{0} - 1;
  EXPECT(!file_inode(**file).contents->sync());
  space.disk.bad_first = space.disk.bad_last = ~Sector{0};
  (void)file_inode(**file).contents->invalidate();
  EXPECT_EQ(file_inode(**file).contents->pages(), 0);
  // Its pages are gone, and its blocks hold what was there before.
  u32 wrong = 0;
  u8 found[kBlock];
  for (u32 at = 0; at < kPages * kPageSize; at += kBlock) {
    REQUIRE(read_file_at(**file, at, found).value_or(0) == kBlock);
    for (const u8 byte : found) wrong += byte != 0;
  }
  EXPECT_EQ(wrong, 0);
  // Written again, and well this time, the first block is an ordinary one; the others become holes.
  constexpr u8 kNew = 0x77;
  EXPECT(write_file_at(**file, 5, {&kNew, 1}).has_value());
  EXPECT(!sync_file(**file));  // of the error before
  EXPECT(sync_file(**file));
  close_file(*file);
  space.leave();
  const Ext2InodeRecord record = space.inode(11);
  EXPECT_EQ(record.size, kPages * kPageSize);
  EXPECT(record.block[0] != 0 && record.block[4] == 0 && record.block[11] == 0);
  EXPECT_EQ(space.disk.contents()[record.block[0] * kBlock + 5], kNew);
  EXPECT_EQ(space.disk.contents()[record.block[0] * kBlock + 6], 0);
}

}  // namespace paean
