// Free blocks and inodes of an ext2 volume: two bitmaps a group, first fit from a goal on.
//
// A bit is set before the number is handed out and cleared when it comes back; the counts of group and volume follow.
// Whatever is asked to be freed must be in use and must not be a table, so a block that two files claim is noticed when
// the second one gives it back.
//
// A file that grows in order has a window: blocks behind its last one that others leave alone as long as there are free
// ones elsewhere, so that two files that are written at the same time do not interleave. Windows are in memory only,
// kWindows of them; the one that was used longest ago makes room, and one that is full is followed by a larger one.
//
//   | file 1 | window of file 1 . . . | file 2 | window of file 2 . . . |
//
// Contents of files do not get blocks that were tables a moment ago (kernel/fs/ext2_retired.hpp); only where nothing
// else is free, the tables are synced first, once for all of them.
//
// Errors: NoSpace; OutOfMemory; Corrupt, after which the volume is read-only. Serialised by the caller.
#pragma once

#include "kernel/fs/ext2_retired.hpp"
#include "kernel/fs/ext2_volume.hpp"

namespace paean {

class Ext2Alloc {
 public:
  enum class Kind : u8 { Directory, Other };

  explicit Ext2Alloc(Ext2Volume& volume) : volume_(volume) {}

  static constexpr u32 kWindows = 16, kSmallestWindow = 8, kLargestWindow = 32;
  enum class Grows : u8 { No, InOrder };

  /// What a block is for, or was: tables (of pointers, directories, links) or pages of a file.
  enum class Use : u8 { Table, Pages };

  /// A free block for this inode, `goal` or behind it if there is one.
  Result<u32> take_block(u32 goal, u32 inode, Use use, Grows grows);
  /// The inode has left memory.
  void forget_window(u32 inode);
  Result<> give_blocks(u32 first, u32 blocks, Use was);
  /// Around each sync of the tables by the caller; the second after success only.
  u32 sync_begins() { return retired_.sync_begins(); }
  void sync_ended(u32 number) { retired_.sync_ended(number); }
  /// Near `parent`; a directory in a group with room for its files.
  Result<u32> take_inode(u32 parent, Kind kind);
  Result<> give_inode(u32 inode, Kind kind);

 private:
  struct Window {
    u32 inode = 0;  // 0: none
    u32 first = 0, end = 0;
    u32 used_at = 0;
  };
  /// One group's blocks that are looked through.
  struct Search {
    u32 inode, group, bitmap;
    Use use;
    bool left_some = false;  // free ones: in windows, or retired
  };
  Result<u32> take_block_in(u32 group, u32 from, u32 inode, Use use);
  Result<u32> take_from_groups(u32 goal, u32 inode, Use use);
  Result<> sync_tables();
  Result<u32> find_block(Search& search, u32 from, u32 end);
  const Window* window_of_others(u32 block, u32 inode) const;
  u32 end_of_forbidden(const Search& search, u32 block) const;
  void reserve(u32 inode, u32 goal, u32 block);
  Result<> give_in_group(u32 group, u32 from, u32 blocks);
  template <typename EndOfForbidden>
  Result<u32> find_clear(u32 bitmap, u32 from, u32 end, EndOfForbidden end_of_forbidden);
  Result<> set_bit(u32 bitmap, u32 bit);
  Result<> clear_bits(u32 bitmap, u32 from, u32 bits);
  bool suits(const Ext2GroupRecord& record, Kind kind) const;

  Ext2Volume& volume_;
  Window windows_[kWindows];
  u32 uses_ = 0;  // the clock of the windows
  RetiredTables retired_;
};

}  // namespace paean
