// ext2: files, directories and links of one volume by inode number and name. Pure: the same code runs in the kernel and
// in host tests and fuzzers over an image in memory.
//
//   Ext2 -> Ext2Directory -> Ext2Inodes -> Ext2Alloc -> Ext2Volume -> Ext2Store (injected)
//           names            blocks        bitmaps      groups        bytes
//
// Contents of regular files are the caller's: it asks for their blocks and moves the bytes itself. A file without
// names keeps its blocks until evict().
// No memory is allocated; at most about 1.5 KiB of stack is used. Everything here may sleep in the store and is
// serialised by the caller, except map() and map_to_write().
// Errors: POSIX's by their names; NoSpace leaves the volume as it was; Corrupt makes it read-only.
#pragma once

#include "kernel/fs/ext2_directory.hpp"

namespace paean {

/// What may be set from outside; type, links and blocks follow from what is done.
struct Ext2Attributes {
  u16 permissions = 0;  // with set-id and sticky bits
  u32 uid = 0, gid = 0;
  u32 accessed = 0, modified = 0, changed = 0;
  u64 size = 0;  // regular files only
};

class Ext2 {
 public:
  explicit Ext2(Ext2Store& store)
      : volume_(store), alloc_(volume_), inodes_(volume_, alloc_), directory_(volume_, inodes_) {}
  Ext2(const Ext2&) = delete;
  Ext2& operator=(const Ext2&) = delete;

  Result<> mount(u64 device_bytes, Ext2Mode mode);
  /// OutOfMemory: not clean yet, and it is to be called again.
  Result<> unmount();
  Result<> write_super();
  /// Around each sync of the store by the caller; the second, with the number that the first gave, after success only.
  u32 sync_begins() { return alloc_.sync_begins(); }
  void sync_ended(u32 number) { alloc_.sync_ended(number); }
  Ext2Volume& volume() { return volume_; }
  const Ext2Geometry& geometry() const { return volume_.geometry(); }
  bool read_only() const { return volume_.read_only(); }

  /// Corrupt if it is not in use.
  Result<Ext2InodeRecord> load(u32 inode) { return inodes_.get(inode); }
  Result<> set_attributes(u32 inode, const Ext2Attributes& attributes);

  Result<u32> lookup(u32 directory, std::string_view name);
  /// `mode` with its type: a regular file, or a device, pipe or socket.
  Result<u32> create(u32 directory, std::string_view name, u16 mode);
  Result<u32> make_directory(u32 directory, std::string_view name, u16 permissions);
  Result<u32> make_symlink(u32 directory, std::string_view name, std::string_view target);
  Result<> link(u32 directory, std::string_view name, u32 inode);
  Result<> unlink(u32 directory, std::string_view name, u32 inode);
  Result<> remove_directory(u32 directory, std::string_view name, u32 inode);
  /// What has the new name already loses it. That `to` does not lie in a directory which moves is the caller's to see.
  Result<> rename(u32 from, std::string_view name, u32 to, std::string_view new_name, u32 inode);
  /// NotFound at the end.
  Result<> next_entry(u32 directory, u64& cursor, Ext2Entry& entry);
  /// Bytes copied.
  Result<u32> read_link(u32 inode, std::span<char> into);

  Result<Ext2Run> map(const Ext2InodeRecord& record, u32 first, u32 limit) const {
    return inodes_.map(record, first, limit);
  }
  /// The same for blocks whose contents are about to be written over: Corrupt, and the volume is read-only, if one of
  /// them is a table.
  Result<Ext2Run> map_to_write(const Ext2InodeRecord& record, u32 first, u32 limit);
  /// The block for a part of a regular file that is about to be written and ends at `end`.
  Result<Ext2NewBlock> need_block(u32 inode, u32 file_block, u64 end);
  /// Undoes it.
  Result<> punch_block(u32 inode, u32 file_block);
  /// OutOfMemory: a part may have been cut, which is a hole now; the size is what it was.
  Result<> truncate(u32 inode, u64 size);
  /// Nobody uses a file without names any more. OutOfMemory: it is to be called again.
  Result<> evict(u32 inode) { return inodes_.destroy(inode); }
  /// The same for one that never was in memory. Without memory for it now, write_super() and unmount() try again.
  void abandon(u32 inode) { forget_new(inode); }
  /// The file has left memory: blocks behind its end are not kept for it any more.
  void forget_window(u32 inode) { alloc_.forget_window(inode); }

 private:
  /// Not a name that may be made or removed: InvalidArgument, NameTooLong.
  static Result<> check_name(std::string_view name);
  Result<Ext2InodeRecord> open_directory(u32 inode);
  Result<> add_name(u32 directory, std::string_view name, u32 inode, u16 mode);
  Result<> remove_name(u32 directory, std::string_view name, u32 inode);
  Result<> add_links(u32 inode, i32 links);
  Result<u32> create_with(u32 directory, std::string_view name, const Ext2InodeRecord& record);
  void forget_new(u32 inode);
  Result<> destroy_new(u32 inode);
  Result<> destroy_waiting();
  Result<> fill_symlink(u32 inode, std::string_view target);
  Result<> check_replaced(u32 inode, Ext2EntryType moved);
  Result<> set_parent(u32 inode, u32 parent);
  Result<> allow_size(u64 size);
  static void set_size(Ext2InodeRecord& record, u64 size);
  Ext2InodeRecord fresh(u16 mode, u16 links) const;

  Ext2Volume volume_;
  Ext2Alloc alloc_;
  Ext2Inodes inodes_;
  Ext2Directory directory_;
  static constexpr u32 kMostWaiting = 16;
  u32 waiting_[kMostWaiting]{};  // new inodes without names that there was no memory to free
  u32 waiting_count_ = 0;
};

}  // namespace paean
