// ext2 whose store fails: tables that are not in memory when there is none, tables that cannot be written, pointers to
// tables. A call does all of its work or none, or the volume says that it is damaged.
#include <memory>

#include "ext2_image.hpp"
#include "support.hpp"

using namespace paean;
using namespace paean::host;

namespace {

struct Volume {
  explicit Volume(const std::vector<u8>& image) : store(image), fs(store) {
    REQUIRE(fs.mount(store.image().size(), Ext2Mode::ReadWrite));
    REQUIRE(!fs.read_only());
  }
  u32 find(std::string_view name) { return fs.lookup(kExt2RootInode, name).value(); }
  Result<> fill(u32 inode, u32 first, u32 blocks) {
    for (u32 i = first; i < first + blocks; ++i) TRY(fs.need_block(inode, i, (u64{i} + 1) * kKiB));
    return {};
  }
  ImageStore store;
  Ext2 fs;
};

constexpr std::string_view kLongName =
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789";

template <typename T>
Result<> plain(const Result<T>& result) {
  if (!result) return std::unexpected(result.error());
  return {};
}

/// A volume in blocks of 1 KiB with something for every operation below.
std::vector<u8> prepared_image() {
  Volume disk{make_image("-b 1024 -g 512", 2048)};
  const u32 full = disk.fs.make_directory(kExt2RootInode, "full", 0755).value();
  for (char last = 'a'; disk.fs.load(full)->size == kKiB && last < 'i'; ++last) {
    REQUIRE(disk.fs.create(full, std::string(kLongName) + last, kExt2ModeFile));
  }
  REQUIRE(disk.fs.make_directory(kExt2RootInode, "from", 0755));
  const u32 from = disk.find("from");
  REQUIRE(disk.fs.make_directory(from, "moves", 0755));
  REQUIRE(disk.fs.make_directory(kExt2RootInode, "to", 0755));
  REQUIRE(disk.fs.make_directory(disk.find("to"), "replaced", 0755));
  for (const char* name : {"file", "direct", "once", "twice"}) {
    REQUIRE(disk.fs.create(kExt2RootInode, name, kExt2ModeFile | 0644));
  }
  REQUIRE(disk.fill(disk.find("direct"), 0, 12));
  REQUIRE(disk.fill(disk.find("once"), 0, 12 + 256));
  REQUIRE(disk.fill(disk.find("twice"), 0, 12 + 256 + 5));
  REQUIRE(disk.fs.unmount());
  REQUIRE(check_image(disk.store.image()) == 0);
  return disk.store.image();
}

struct Operation {
  const char* name;
  Result<> (*run)(Volume& disk);
};

const Operation kOperations[] = {
    {"create", [](Volume& disk) { return plain(disk.fs.create(kExt2RootInode, "x", kExt2ModeFile)); }},
    {"create in a full block",
     [](Volume& disk) { return plain(disk.fs.create(disk.find("full"), kLongName, kExt2ModeFile)); }},
    {"mkdir", [](Volume& disk) { return plain(disk.fs.make_directory(kExt2RootInode, "x", 0755)); }},
    {"symlink", [](Volume& disk) { return plain(disk.fs.make_symlink(kExt2RootInode, "x", kLongName)); }},
    {"link", [](Volume& disk) { return disk.fs.link(disk.find("to"), "x", disk.find("file")); }},
    {"unlink", [](Volume& disk) { return disk.fs.unlink(kExt2RootInode, "file", disk.find("file")); }},
    {"rmdir",
     [](Volume& disk) {
       const u32 to = disk.find("to");
       return disk.fs.remove_directory(to, "replaced", disk.fs.lookup(to, "replaced").value());
     }},
    {"rename",
     [](Volume& disk) {
       const u32 from = disk.find("from");
       const u32 moves = disk.fs.lookup(from, "moves").value();
       return disk.fs.rename(from, "moves", disk.find("to"), "x", moves);
     }},
    {"rename over",
     [](Volume& disk) {
       const u32 from = disk.find("from");
       const u32 moves = disk.fs.lookup(from, "moves").value();
       return disk.fs.rename(from, "moves", disk.find("to"), "replaced", moves);
     }},
    {"the first table", [](Volume& disk) { return disk.fill(disk.find("direct"), 12, 1); }},
    {"two tables", [](Volume& disk) { return disk.fill(disk.find("once"), 12 + 256, 1); }},
    {"a table", [](Volume& disk) { return disk.fill(disk.find("twice"), 12 + 256 + 256, 1); }},
    {"a block", [](Volume& disk) { return disk.fill(disk.find("twice"), 12 + 256 + 5, 1); }},
    {"punch", [](Volume& disk) { return disk.fs.punch_block(disk.find("twice"), 12 + 256 + 4); }},
};

/// The first blocks behind one and two levels of pointers, in blocks of 1 KiB.
constexpr u32 kSecond = 12 + 256, kThird = kSecond + 256 * 256;
/// A cache in which what one step of the work needs has room, and not much more.
constexpr u32 kFewBlocks = 8;

/// With a file that has blocks, in runs and alone, below pointers of every depth.
std::vector<u8> deep_image() {
  Volume disk{make_image("-b 1024 -g 512", 2048)};
  const u32 file = disk.fs.create(kExt2RootInode, "deep", kExt2ModeFile | 0644).value();
  const u32 other = disk.fs.create(kExt2RootInode, "other", kExt2ModeFile | 0644).value();
  for (const u32 first :
       {0u, 3u, 12u, 12u + 100, kSecond, kSecond + 256 + 7, kThird, kThird + 300, kThird + 65536 + 3}) {
    REQUIRE(disk.fill(file, first, 7));
    REQUIRE(disk.fill(other, first / 100, 3));
  }
  // Runs that cross from one group into the next.
  REQUIRE(disk.fill(file, 12 + 130, 120));
  REQUIRE(disk.fill(file, kSecond + 512 + 7, 240));
  REQUIRE(disk.fs.unmount());
  REQUIRE(check_image(disk.store.image()) == 0);
  return disk.store.image();
}

/// While it is mounted, as if it had been left here.
bool sound(Volume& disk) {
  REQUIRE(disk.fs.write_super());
  std::vector<u8> image = disk.store.image();
  image[kExt2SuperOffset + offsetof(Ext2SuperRecord, state)] |= kExt2StateClean;
  return check_image(image) == 0;
}

/// With sizes of files put right and files without names freed, as the kernel does later.
bool clean(Volume& disk) {
  for (const char* name : {"direct", "once", "twice"}) {
    const u32 inode = disk.find(name);
    REQUIRE(disk.fs.truncate(inode, Ext2Inodes::size_of(disk.fs.load(inode).value())));
  }
  for (u32 inode = 12; inode < 40; ++inode) {
    const u64 offset = disk.fs.volume().inode_offset(inode).value();
    const Ext2InodeRecord record = disk.fs.volume().get<Ext2InodeRecord>(offset).value();
    if (record.mode != 0 && record.links == 0 && record.deleted == 0) REQUIRE(disk.fs.evict(inode));
  }
  return disk.fs.unmount() && check_image(disk.store.image()) == 0;
}

}  // namespace

TEST_SUITE("ext2") {
  TEST_CASE("a table that is not in memory, and no memory: nothing happens, and the next try succeeds") {
    const std::vector<u8> image = prepared_image();
    for (const Operation& operation : kOperations) {
      CAPTURE(operation.name);
      u32 missed = 0;
      for (u32 nth = 1;; ++nth) {
        CAPTURE(nth);
        Volume disk{image};
        disk.find("file");  // the root is in memory: looking for names is not what fails here
        (void)disk.fs.lookup(disk.find("from"), "moves");
        (void)disk.fs.lookup(disk.find("to"), "replaced");
        disk.store.miss(nth);
        Result<> done{};
        try {
          done = operation.run(disk);
        } catch (const std::bad_expected_access<Error>&) {
          done = std::unexpected(Error::OutOfMemory);  // of find()
        }
        const bool has_missed = disk.store.has_missed();
        disk.store.miss(0);
        CHECK(!disk.fs.read_only());
        CHECK(disk.store.complaints() == 0);
        if (has_missed) {
          ++missed;
          CHECK(!done);
          CHECK((!done && done.error() == Error::OutOfMemory));
          CHECK(operation.run(disk));
        } else {
          CHECK(done);
        }
        CHECK(clean(disk));
        if (!has_missed) break;
      }
      CHECK(missed >= 2);
    }
  }

  TEST_CASE("a file that is cut without memory is whole after each try, and the next one goes on") {
    const std::vector<u8> image = deep_image();
    for (const u32 keep : {0u, 4u, 12u, 12u + 6, kSecond + 3, kSecond + 256 + 9, kThird + 2, kThird + 65536 + 6}) {
      CAPTURE(keep);
      u32 missed = 0;
      for (u32 nth = 1;; ++nth) {
        CAPTURE(nth);
        Volume disk{image};
        const u32 file = disk.find("deep");
        if (keep == 0) REQUIRE(disk.fs.unlink(kExt2RootInode, "deep", file));
        disk.store.miss(nth, kFewBlocks);
        const auto cut = [&] { return keep == 0 ? disk.fs.evict(file) : disk.fs.truncate(file, u64{keep} * kKiB); };
        const Result<> done = cut();
        const bool has_missed = disk.store.has_missed();
        disk.store.miss(0);
        CHECK(!disk.fs.read_only());
        if (has_missed) {
          ++missed;
          CHECK((!done && done.error() == Error::OutOfMemory));
          // What e2fsck would say of a file that has lost its names is no concern of this test.
          if (keep != 0) CHECK(sound(disk));
          CHECK(cut());
        } else {
          CHECK(done);
        }
        CHECK(disk.fs.unmount());
        CHECK(check_image(disk.store.image()) == 0);
        if (!has_missed) break;
      }
      CHECK(missed >= 4);
    }
  }

  TEST_CASE("a size that cannot be costs no block") {
    Volume disk{make_image("-b 1024 -r 0 -O none", 2048)};
    const u32 file = disk.fs.create(kExt2RootInode, "file", kExt2ModeFile | 0644).value();
    const u32 free = disk.fs.volume().free_blocks();
    CHECK(disk.fs.need_block(file, 1u << 21, (u64{1} << 31) + kKiB).error() == Error::TooLarge);
    CHECK(disk.fs.volume().free_blocks() == free);
    CHECK(disk.fs.load(file)->blocks_512 == 0);
    CHECK(disk.fs.unmount());
    CHECK(check_image(disk.store.image()) == 0);
  }

  TEST_CASE("contents are not written over tables, wherever in a run these lie") {
    const std::vector<u8> image = prepared_image();
    Ext2GroupRecord group;
    std::memcpy(&group, image.data() + 2 * kKiB, sizeof group);
    for (const u32 table : {group.inode_table + 1, group.block_bitmap, group.inode_bitmap, 2u}) {
      Volume disk{image};
      const u32 file = disk.find("direct");
      Ext2InodeRecord record = disk.fs.load(file).value();
      const u32 start = table > 4 ? table - 3 : table;
      for (u32 i = 0; i < 6; ++i) record.block[i] = start + i;
      CHECK(disk.fs.map(record, 0, 6)->blocks == 6);
      CHECK(!disk.fs.read_only());
      CHECK(disk.fs.map_to_write(record, 0, 6).error() == Error::Corrupt);
      CHECK(disk.fs.read_only());
    }
    Volume disk{image};
    CHECK(disk.fs.map_to_write(disk.fs.load(disk.find("once")).value(), 0, 12));
    CHECK(!disk.fs.read_only());
  }

}  // TEST_SUITE
