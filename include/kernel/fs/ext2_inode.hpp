// Inodes of an ext2 volume and the blocks of their files.
//
//   block[0..11]  direct              file blocks 0 .. 11
//   block[12]  -> pointers            the next P (256, 512 or 1024: block size / 4)
//   block[13]  -> pointers -> ...     the next P^2
//   block[14]  -> ... -> ... -> ...   the next P^3
//
// A pointer of 0 is a hole. A function that takes a record changes it and the tables behind it, but does not store it:
// the caller puts it back when all is done, also after an error.
// map() reads without the caller's lock: what a file's cached pages lie on does not move while they exist.
// Errors: NoSpace, TooLarge (no such file block); OutOfMemory, which leaves everything as it was, except by cut() and
// destroy(), which may have done a part: what they have freed are holes, and the next call goes on; Corrupt. Serialised
// by the caller, except map().
#pragma once

#include "kernel/fs/ext2_alloc.hpp"

namespace paean {

/// Blocks beside each other on the medium, or a hole.
struct Ext2Run {
  u32 block = 0;  // 0: a hole
  u32 blocks = 0;
};

struct Ext2NewBlock {
  u32 block = 0;
  enum class Age : u8 { Old, Fresh } age = Age::Old;  // Fresh: its contents are somebody's old ones
};

class Ext2Inodes {
 public:
  using Use = Ext2Alloc::Use;

  Ext2Inodes(Ext2Volume& volume, Ext2Alloc& alloc) : volume_(volume), alloc_(alloc) {}

  /// An inode that is in use: has a type and links.
  Result<Ext2InodeRecord> get(u32 inode);
  /// Whatever is there.
  Result<Ext2InodeRecord> get_raw(u32 inode);
  Result<> put(u32 inode, const Ext2InodeRecord& record);
  /// A new one, near its parent; everything of the old one in this place is gone.
  Result<u32> create(u32 parent, const Ext2InodeRecord& record);
  /// Its blocks and its number become free; it has no links.
  Result<> destroy(u32 inode);

  /// Where file blocks from `first` on are: at least 1 of them, at most `limit`. `record` need not be fresh.
  Result<Ext2Run> map(const Ext2InodeRecord& record, u32 first, u32 limit) const;
  /// The same block as map(), taken from the free ones if it is a hole.
  Result<Ext2NewBlock> need(u32 inode, Ext2InodeRecord& record, u32 file_block, Use use);
  /// One block becomes a hole again.
  Result<> punch(Ext2InodeRecord& record, u32 file_block);
  /// Frees everything from file block `keep` on.
  Result<> cut(u32 inode, Ext2InodeRecord& record, u32 keep);

  /// Blocks that the pointers can name; more than any file has.
  u64 largest_file_blocks() const;
  u64 largest_size() const;
  static u64 size_of(const Ext2InodeRecord& record);

 private:
  /// Where a pointer is found: in record.block[slot], then in `depth` blocks of pointers.
  struct Path {
    u32 depth = 0, slot = 0;
    u32 index[3]{};
  };
  /// A file that is being cut.
  struct Cut {
    u64 record_at = 0;
    Use use = Use::Pages;  // of what its last pointers name
    u32 freed = 0;         // blocks
  };
  Result<Path> path_to(u32 file_block) const;
  Result<u32> pointer(u32 block, u32 index) const;
  Result<> set_pointer(u32 block, u32 index, u32 value);
  Result<u32> checked(u32 pointer) const;
  Result<u32> take(u32 inode, Ext2InodeRecord& record, u32 goal, Use use, Ext2Alloc::Grows grows);
  Result<u32> take_table(u32 inode, Ext2InodeRecord& record, u32 goal);
  std::unexpected<Error> give_back(Ext2InodeRecord& record, u32 block, Error why);
  u32 home(u32 inode) const;
  Result<u32> table_for(u32 inode, Ext2InodeRecord& record, const Path& path);
  Result<> cut_all(Cut& cut, Ext2InodeRecord& record, u32 keep);
  Result<> cut_tree(Cut& cut, u32 table, u32 depth, u32 keep, u32& cleared);
  Result<> cut_trees(Cut& cut, u32 table, u32 depth, u32 keep);
  Result<> cut_blocks(Cut& cut, u32 table, u32& done);
  Result<> keep_table(u32 table, u32 cleared, Result<> why);
  Result<> free_run(Cut& cut, u32 first, u32 blocks, Use was);
  Result<> clear_pointers(u32 table, u32 from, u32 end);
  Result<> get_pointers(u32 table, u32 from, std::span<u32> into) const;
  u32 run_in(std::span<const u32> pointers) const;
  Result<> release(u32 inode, Ext2InodeRecord& record);
  Result<> drop_attributes(Ext2InodeRecord& record);

  Ext2Volume& volume_;
  Ext2Alloc& alloc_;
};

}  // namespace paean
