// Damaged ext2 images: mutated ones by the hundred, and some made by hand whose complaint is known.
#include <chrono>
#include <random>

#include "ext2_mutate.hpp"
#include "support.hpp"

using namespace paean;
using namespace paean::host;

namespace {

class Numbers {
 public:
  explicit Numbers(u32 seed) : numbers_(seed) {}
  u32 below(u32 limit) { return static_cast<u32>(numbers_() % limit); }

 private:
  std::mt19937 numbers_;
};

/// Searching the longest directory that such a small volume can pretend to have, some dozen times, is far below this.
constexpr u32 kMostCalls = 8'000'000;

constexpr u32 kSuper = kExt2SuperOffset;

/// An image of 1 KiB blocks and places in it.
struct Victim {
  Victim() {
    image = make_small_image("-b 1024 -I 128");
    std::memcpy(&group, image.data() + 2 * kKiB, sizeof group);
    ImageStore store{image};
    Ext2 fs{store};
    REQUIRE(fs.mount(image.size(), Ext2Mode::ReadOnly));
    const auto find = [&](u32 directory, std::string_view name) { return fs.lookup(directory, name).value(); };
    folder = find(kExt2RootInode, "d");
    big = find(kExt2RootInode, "big");
    some = find(folder, "some");
    link = find(kExt2RootInode, "link");
    slow = find(kExt2RootInode, "slow");
    holes = find(kExt2RootInode, "holes");
  }
  u64 inode(u32 number) const { return u64{group.inode_table} * kKiB + (number - 1) * 128; }
  u64 pointer(u32 number, u32 index) const { return inode(number) + offsetof(Ext2InodeRecord, block) + index * 4; }
  u32 block(u32 number, u32 index) const {
    u32 value;
    std::memcpy(&value, image.data() + pointer(number, index), 4);
    return value;
  }
  u64 contents(u32 number, u32 index) const { return u64{block(number, index)} * kKiB; }
  std::vector<u8> image;
  Ext2GroupRecord group{};
  u32 folder = 0, big = 0, some = 0, link = 0, slow = 0, holes = 0;
};

struct Damage {
  const char* what;
  u64 place;
  u32 bytes;
  u64 value;
};

#define SUPER(field, value) \
  {"super " #field " = " #value, kSuper + offsetof(Ext2SuperRecord, field), sizeof(Ext2SuperRecord::field), value}
#define GROUP(field, value) \
  {"group " #field " = " #value, 2 * kKiB + offsetof(Ext2GroupRecord, field), sizeof(Ext2GroupRecord::field), value}
#define INODE(file, field, value)                                                                                     \
  {#file " " #field " = " #value, v.inode(v.file) + offsetof(Ext2InodeRecord, field), sizeof(Ext2InodeRecord::field), \
   value}
#define POINTER(file, index, value) {#file " block " #index " = " #value, v.pointer(v.file, index), 4, value}
#define ENTRY(offset, bytes, value) {"entry +" #offset " = " #value, v.contents(v.folder, 0) + (offset), bytes, value}

/// Each of them must be noticed by somebody who reads everything and then removes everything.
std::vector<Damage> made_by_hand(const Victim& v) {
  return {
      SUPER(magic, 0),
      SUPER(log_block_kib, 7),
      SUPER(log_block_kib, 0xffffffff),
      SUPER(log_block_kib, 1),
      SUPER(log_fragment_kib, 3),
      SUPER(blocks, 0),
      SUPER(blocks, 1),
      SUPER(blocks, 0xffffffff),
      SUPER(inodes, 0),
      SUPER(inodes, 0xffffffff),
      SUPER(first_data_block, 0),
      SUPER(first_data_block, 2),
      SUPER(blocks_per_group, 0),
      SUPER(blocks_per_group, 7),
      SUPER(blocks_per_group, 0xfffffff8),
      SUPER(inodes_per_group, 0),
      SUPER(inodes_per_group, 0x80000000),
      SUPER(inode_bytes, 0),
      SUPER(inode_bytes, 192),
      SUPER(inode_bytes, 0x8000),
      SUPER(first_inode, 0),
      SUPER(first_inode, 0xffffffff),
      SUPER(revision, 2),
      SUPER(incompatible, 0xffffffff),
      SUPER(free_blocks, 0xffffffff),
      SUPER(reserved_blocks, 0xffffffff),
      SUPER(state, 2),
      SUPER(last_orphan, 12),
      SUPER(reserved_descriptor_blocks, 0xffff),
      GROUP(block_bitmap, 0),
      GROUP(block_bitmap, 0xffffffff),
      GROUP(inode_bitmap, 1),
      GROUP(inode_table, 1),
      GROUP(inode_table, 0xfffffff0),
      GROUP(inode_table, 1020),
      GROUP(inode_bitmap, v.group.block_bitmap),
      GROUP(free_blocks, 0xffff),
      GROUP(free_inodes, 0xffff),
      GROUP(directories, 0xffff),
      {"root is a file", v.inode(2), 2, 0x81a4},
      {"root has no links", v.inode(2) + 26, 2, 0},
      INODE(folder, size, 0),
      INODE(folder, size, 1000),
      INODE(folder, size, 0xfffffc00),
      POINTER(folder, 0, 0),
      POINTER(folder, 0, 0xffffffff),
      POINTER(folder, 0, 1),
      INODE(folder, mode, 0),
      INODE(folder, links, 0),
      INODE(big, size_high, 0x80000000),
      INODE(big, flags, 0x80000),
      POINTER(big, 3, 0x7fffffff),
      POINTER(big, 3, 2),
      POINTER(big, 3, v.block(v.big, 5)),
      POINTER(big, 12, v.group.block_bitmap),
      POINTER(big, 13, v.block(v.big, 13) + 1),
      INODE(big, blocks_512, 4),
      INODE(big, attribute_block, 40),
      POINTER(big, 4, v.block(v.some, 0)),
      {"a pointer in a table", v.contents(v.big, 12) + 40, 4, 0xdeadbeef},
      {"a table points to itself", v.contents(v.big, 13), 4, v.block(v.big, 13)},
      INODE(link, size, 60),
      INODE(link, size, 0xffffffff),
      INODE(slow, size, 1024),
      POINTER(slow, 0, 0),
      ENTRY(4, 2, 0),
      ENTRY(4, 2, 11),
      ENTRY(4, 2, 13),
      ENTRY(4, 2, 0xfffc),
      ENTRY(0, 4, 0xffffffff),
      ENTRY(0, 4, 1),
      ENTRY(6, 1, 0xff),
      ENTRY(6, 1, 0),
      ENTRY(24, 4, 0x00ffffff),
      ENTRY(28, 2, 8),
      ENTRY(32, 1, '/'),
  };
}

/// Reads and then removes everything below a directory.
void read_and_remove(Ext2& fs, ImageStore& store, u32 directory, u32 depth) {
  Ext2Entry entry;
  for (u64 cursor = 0; fs.next_entry(directory, cursor, entry);) {
    if (entry.name() == "." || entry.name() == "..") continue;
    const Result<Ext2InodeRecord> record = fs.load(entry.inode);
    if (!record) return;
    char target[64];
    (void)fs.read_link(entry.inode, target);
    const Ext2EntryType type = ext2_entry_type(record->mode);
    if (type == Ext2EntryType::File) (void)contents_of(fs, store, entry.inode, 1 << 20);
    const std::string name{entry.name()};
    if (type == Ext2EntryType::Directory && depth < 4) {
      read_and_remove(fs, store, entry.inode, depth + 1);
      if (fs.remove_directory(directory, name, entry.inode)) (void)fs.evict(entry.inode);
    } else if (fs.unlink(directory, name, entry.inode) && record->links == 1) {
      (void)fs.evict(entry.inode);
    }
  }
}

}  // namespace

TEST_SUITE("ext2") {
  TEST_CASE("damage made by hand is refused, or noticed and then nothing is written") {
    const Victim victim;
    const std::vector<Damage> all = made_by_hand(victim);
    CHECK(all.size() >= 50);
    for (const Damage& damage : all) {
      CAPTURE(damage.what);
      ImageStore store{victim.image};
      std::memcpy(store.image().data() + damage.place, &damage.value, damage.bytes);
      Ext2 fs{store};
      if (!fs.mount(store.image().size(), Ext2Mode::ReadWrite) || fs.read_only()) continue;
      read_and_remove(fs, store, kExt2RootInode, 0);
      CHECK(store.complaints() == 1);
      CHECK(fs.read_only());
      CHECK(store.calls() < kMostCalls);
      CHECK(fs.unmount());
      Ext2SuperRecord super;
      std::memcpy(&super, store.image().data() + kSuper, sizeof super);
      CHECK((super.state & kExt2StateClean) == 0);
      CHECK((super.state & kExt2StateErrors) != 0);
    }
  }

  TEST_CASE("an undamaged volume is emptied without a complaint") {
    const Victim victim;
    ImageStore store{victim.image};
    Ext2 fs{store};
    REQUIRE(fs.mount(store.image().size(), Ext2Mode::ReadWrite));
    read_and_remove(fs, store, kExt2RootInode, 0);
    CHECK(store.complaints() == 0);
    CHECK(fs.unmount());
    // lost+found is gone as well, which e2fsck would like to have back: status 4 with -n, and nothing else.
    CHECK(fs.volume().free_inodes() > 0);
  }

  TEST_CASE("300 mutated images end in errors, never in a loop") {
    using Clock = std::chrono::steady_clock;
    u32 seed = 0;
    for (const char* options : {"-b 1024", "-b 4096 -I 128", "-b 2048 -O ^filetype"}) {
      const std::vector<u8> image = make_small_image(options);
      REQUIRE(!image.empty());
      for (u32 i = 0; i < 100; ++i) {
        CAPTURE(++seed);
        Numbers numbers{seed};
        ImageStore store{image};
        Ext2Mutator mutator{store.image(), numbers};
        for (u32 damages = 1 + numbers.below(4); damages > 0; --damages) mutator.damage();
        const Clock::time_point begin = Clock::now();
        Ext2Stranger stranger{store, numbers};
        stranger.run(60);
        CHECK(store.calls() < kMostCalls);
        CHECK(Clock::now() - begin < std::chrono::seconds(20));
      }
    }
  }

}  // TEST_SUITE
