// A small ext2 volume on a disk of a test's own, at /e: 1 KiB blocks, one group, 32 inodes.
//
//   block  0     1      2            3             4             5 .. 8       9         10 ...
//          boot  super  descriptors  block bitmap  inode bitmap  inode table  root      free
#pragma once

#include "kernel/fs/ext2_layout.hpp"
#include "kernel/fs/file.hpp"
#include "kernel/test/ktest.hpp"
#include "test_disk.hpp"

namespace paean {

class Ext2Space {
 public:
  static constexpr u32 kBlockBytes = 1024, kInodes = 32, kRoot = 9, kFirstFree = 10;
  static constexpr u32 kBlockBitmap = 3, kInodeBitmap = 4, kInodeTable = 5;

  explicit Ext2Space(u32 blocks) : blocks_(blocks) {
    if (!disk.connect() || !make_directory("/e")) return;
    format();
    mounted_ = mount("test", "/e", "ext2", MountMode::ReadWrite).has_value();
  }
  ~Ext2Space() {
    leave();
    ASSERT(remove_directory("/e"));
  }
  Ext2Space(const Ext2Space&) = delete;
  Ext2Space& operator=(const Ext2Space&) = delete;
  bool ready() const { return mounted_; }
  void leave() {
    if (mounted_) ASSERT(unmount("/e"));
    mounted_ = false;
  }

  /// A test has unmounted it.
  void left() { mounted_ = false; }

  template <typename Record>
  Record get(u32 offset) const {
    Record record;
    __builtin_memcpy(&record, disk.contents() + offset, sizeof record);
    return record;
  }
  /// As it is on the medium.
  Ext2SuperRecord super() const { return get<Ext2SuperRecord>(kExt2SuperOffset); }
  Ext2InodeRecord inode(u32 number) const {
    return get<Ext2InodeRecord>(kInodeTable * kBlockBytes + (number - 1) * sizeof(Ext2InodeRecord));
  }

  TestDisk disk{{.max_segments = 16, .max_segment_bytes = kPageSize, .max_sectors = 128}, 1024};

 private:
  template <typename Record>
  void put(u32 offset, const Record& record) {
    __builtin_memcpy(disk.contents() + offset, &record, sizeof record);
  }
  void set_bits(u32 block, u32 from, u32 end) {
    u8* bits = disk.contents() + block * kBlockBytes;
    for (u32 bit = from; bit < end; ++bit) bits[bit / 8] = static_cast<u8>(bits[bit / 8] | 1u << bit % 8);
  }
  void format() {
    Ext2SuperRecord super{};
    super.inodes = super.inodes_per_group = kInodes;
    super.blocks = blocks_;
    super.free_blocks = blocks_ - kFirstFree;
    super.free_inodes = kInodes - 10;
    super.first_data_block = 1;
    super.blocks_per_group = super.fragments_per_group = kBlockBytes * 8;
    super.magic = kExt2Magic;
    super.state = kExt2StateClean;
    super.revision = 1;
    super.first_inode = 11;
    super.inode_bytes = sizeof(Ext2InodeRecord);
    super.incompatible = kExt2IncompatFileType;
    put(kExt2SuperOffset, super);
    put(2 * kBlockBytes, Ext2GroupRecord{.block_bitmap = kBlockBitmap,
                                         .inode_bitmap = kInodeBitmap,
                                         .inode_table = kInodeTable,
                                         .free_blocks = static_cast<u16>(super.free_blocks),
                                         .free_inodes = static_cast<u16>(super.free_inodes),
                                         .directories = 1,
                                         .flags = 0,
                                         .unused = {}});
    set_bits(kBlockBitmap, 0, kFirstFree - 1);
    set_bits(kBlockBitmap, blocks_ - 1, kBlockBytes * 8);
    set_bits(kInodeBitmap, 0, 10);
    set_bits(kInodeBitmap, kInodes, kBlockBytes * 8);
    Ext2InodeRecord root{};
    root.mode = kExt2ModeDirectory | 0755;
    root.links = 2;
    root.size = kBlockBytes;
    root.blocks_512 = 2;
    root.block[0] = kRoot;
    put(kInodeTable * kBlockBytes + sizeof root, root);
    constexpr auto kType = static_cast<u8>(Ext2EntryType::Directory);
    put(kRoot * kBlockBytes, Ext2EntryRecord{.inode = 2, .record = 12, .length = 1, .type = kType});
    put(kRoot * kBlockBytes + 12, Ext2EntryRecord{.inode = 2, .record = kBlockBytes - 12, .length = 2, .type = kType});
    disk.contents()[kRoot * kBlockBytes + 8] = '.';
    disk.contents()[kRoot * kBlockBytes + 20] = '.';
    disk.contents()[kRoot * kBlockBytes + 21] = '.';
  }

  u32 blocks_;
  bool mounted_ = false;
};

}  // namespace paean
