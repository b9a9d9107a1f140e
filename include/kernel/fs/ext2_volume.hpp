// One ext2 volume: its geometry, its counts, and checked access to its tables. No allocation, no lock: whoever has it
// serialises what changes; map-like reads of other classes use only what is constant after open().
//
//   closed --open()--> clean flag taken off --close()--> clean
//                        | corrupt(), a failed change
//                        v
//                      read-only, marked with errors
//
// Errors: Corrupt (a number on the medium cannot be), NotSupported (a feature that would be misread), ReadOnly.
#pragma once

#include <atomic>

#include "kernel/fs/ext2_layout.hpp"
#include "kernel/fs/ext2_store.hpp"

namespace paean {

/// Constant numbers of a volume, each of them possible.
struct Ext2Geometry {
  u32 block_shift = 0;
  u32 blocks = 0, first_data_block = 0, blocks_per_group = 0, groups = 0;
  u32 inodes = 0, inodes_per_group = 0, inode_bytes = 0, first_inode = 0;
  u32 table_blocks = 0;  // of one group's inode table
  u32 copy_blocks = 0;   // superblock, descriptors and room for more descriptors, where a group has a copy
  enum class Copies : u8 { All, Sparse, First } copies = Copies::All;
  bool file_types = false;

  u32 block_bytes() const { return 1u << block_shift; }
  u32 pointer_shift() const { return block_shift - 2; }
  u32 sectors_per_block() const { return 1u << (block_shift - 9); }
  u64 offset_of(u32 block) const { return u64{block} << block_shift; }
  u32 group_start(u32 group) const { return first_data_block + group * blocks_per_group; }
  u32 group_blocks(u32 group) const { return group + 1 < groups ? blocks_per_group : blocks - group_start(group); }
  u32 group_of_block(u32 block) const { return (block - first_data_block) / blocks_per_group; }
  u32 group_of_inode(u32 inode) const { return (inode - 1) / inodes_per_group; }
  bool has_copy(u32 group) const;
  /// A block that a pointer may name.
  bool has_block(u32 block) const { return block > first_data_block && block < blocks; }
  bool has_inode(u32 inode) const { return inode == kExt2RootInode || (inode >= first_inode && inode <= inodes); }
};

/// log2 of the block size: what a store must know before anything else can be read. Corrupt, NotSupported.
Result<u32> ext2_block_shift(const Ext2SuperRecord& super);
Result<Ext2Geometry> ext2_geometry(const Ext2SuperRecord& super, u64 device_bytes);

enum class Ext2Mode : u8 { ReadWrite, ReadOnly };

class Ext2Volume {
 public:
  explicit Ext2Volume(Ext2Store& store) : store_(store) {}

  /// Checks superblock and all group descriptors. A volume that was not left clean, that has errors, or that has
  /// features which only readers may ignore, opens read-only.
  Result<> open(u64 device_bytes, Ext2Mode mode);
  /// Counts and the clean flag to the tables; the caller writes these to the medium.
  Result<> close();
  /// Counts to the tables.
  Result<> write_super();

  const Ext2Geometry& geometry() const { return geometry_; }
  bool read_only() const { return read_only_.load(std::memory_order_relaxed); }
  Result<> writable() const;
  /// Also without the owner's lock: as they were a moment ago.
  u32 free_blocks() const { return free_blocks_.load(std::memory_order_relaxed); }
  u32 free_inodes() const { return free_inodes_.load(std::memory_order_relaxed); }
  /// Files of 2 GiB and more: the superblock says that there are some.
  Result<> allow_large_files();
  Ext2Store& store() const { return store_; }

  /// Says it once, makes the volume read-only. Any lock state.
  [[gnu::cold, gnu::noinline]] Error corrupt(std::string_view what, u64 number);
  /// The same for a change that failed in the middle.
  [[gnu::cold, gnu::noinline]] Error corrupt(std::string_view what, Error why);

  Result<Ext2GroupRecord> group(u32 group);
  /// Adds to the free counts of a group and of the volume, and to the group's directories.
  Result<> count(u32 group, i32 blocks, i32 inodes, i32 directories);
  /// Superblock copies, descriptors, bitmaps and inode tables: never a file's.
  Result<bool> is_table(u32 block);
  /// Whether one of so many blocks is. Without the owner's lock.
  Result<bool> has_table(u32 first, u32 blocks) const;
  Result<u64> inode_offset(u32 inode);

  template <typename View>
  Result<> view(u64 offset, u32 bytes, View view) const {
    return store_.view(
        offset, bytes, [](void* context, std::span<const u8> found) { (*static_cast<View*>(context))(found); }, &view);
  }
  template <typename Change>
  Result<> change(u64 offset, u32 bytes, Change change) {
    return changed(store_.change(
        offset, bytes, [](void* context, std::span<u8> found) { (*static_cast<Change*>(context))(found); }, &change));
  }
  template <typename Record>
  Result<Record> get(u64 offset) const {
    Record record;
    TRY(view(offset, sizeof(Record),
             [&](std::span<const u8> from) { __builtin_memcpy(&record, from.data(), sizeof(Record)); }));
    return record;
  }
  template <typename Record>
  Result<> put(u64 offset, const Record& record) {
    return change(offset, sizeof(Record),
                  [&](std::span<u8> to) { __builtin_memcpy(to.data(), &record, sizeof(Record)); });
  }
  /// Fetches what a change is about to need, while nothing has been changed yet: after it, the change does not fail for
  /// want of memory.
  Result<> fetch(u64 offset) const {
    return view(offset, 1, [](std::span<const u8>) {});
  }
  Result<> fetch_group(u32 group) const { return fetch(group_offset(group)); }
  /// All tables are on the medium. OutOfMemory: not yet.
  Result<> sync_tables();
  /// OutOfMemory: it is as it was.
  Result<> zero_block(u32 block);

 private:
  template <typename Detail>
  Error complain(std::string_view what, const Detail& detail);
  Result<> changed(Result<> result);
  Result<> check_group(u32 group, const Ext2GroupRecord& record);
  Result<> sum_groups();
  u64 group_offset(u32 group) const;
  bool has_table_in(u32 group, const Ext2GroupRecord& record, u32 first, u32 blocks) const;

  Ext2Store& store_;
  Ext2Geometry geometry_{};
  std::atomic<bool> read_only_{true};
  std::atomic<bool> damaged_{false};
  bool open_for_writing_ = false;
  std::atomic<u32> free_blocks_{0}, free_inodes_{0};  // written under the owner's lock
  u32 cached_group_ = ~0u;
  Ext2GroupRecord cached_{};
};

}  // namespace paean
