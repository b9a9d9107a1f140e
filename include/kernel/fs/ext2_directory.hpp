// Names in one ext2 directory: entries that fill each block without a gap, searched from the first to the last.
//
//   | inode | record | length, type | name, padded |  slack  | inode | ...
//   |<------------------ record -------------------------->|
//
// A new name goes into the slack of an entry or into an unused one, else into a new block. A name that goes leaves its
// bytes to the entry before it. Indexes (hashed directories) are skipped when reading, since to a linear reader they
// look like unused entries, and dropped with the first change.
// Functions that take a record change it; the caller puts it back, also after an error. Serialised by the caller.
// Errors: NotFound, Exists, NoSpace, TooLarge; Corrupt.
#pragma once

#include "kernel/fs/ext2_inode.hpp"

namespace paean {

struct Ext2Entry {
  u32 inode = 0;
  Ext2EntryType type = Ext2EntryType::Unknown;
  u64 place = 0;  // on the medium
  u8 length = 0;
  char text[kExt2NameLimit];
  std::string_view name() const { return {text, length}; }
};

class Ext2Directory {
 public:
  Ext2Directory(Ext2Volume& volume, Ext2Inodes& inodes) : volume_(volume), inodes_(inodes) {}

  /// The entry without its text.
  struct Found {
    u32 inode = 0;
    u64 place = 0;
  };
  Result<Found> find(const Ext2InodeRecord& directory, std::string_view name);
  Result<> add(u32 number, Ext2InodeRecord& directory, std::string_view name, u32 inode, Ext2EntryType type);
  Result<> remove(Ext2InodeRecord& directory, std::string_view name, u32 inode);
  /// The entry at this place is another file's from now on.
  Result<> replace(Ext2InodeRecord& directory, u64 place, u32 inode, Ext2EntryType type);
  /// The first block of a new directory, with `.` and `..`.
  Result<> make(u32 number, Ext2InodeRecord& directory, u32 parent);
  /// Nothing but `.` and `..`.
  Result<bool> empty(const Ext2InodeRecord& directory);
  /// The next entry from byte `cursor` on, which moves behind it. NotFound at the end.
  Result<> next(const Ext2InodeRecord& directory, u64& cursor, Ext2Entry& entry);

 private:
  struct Slot;
  /// What a step through a block decides.
  enum class Step : u8 { Go, Stop };
  template <typename Visit>
  Result<Step> walk(u32 block, Visit visit);
  Result<u32> blocks_of(const Ext2InodeRecord& directory) const;
  Result<u32> block_at(const Ext2InodeRecord& directory, u32 file_block) const;
  bool sound(const Ext2EntryRecord& entry, u32 offset) const;
  Result<Slot> find_room(const Ext2InodeRecord& directory, std::string_view name);
  Result<> fill(u64 place, u32 used, u32 room, std::string_view name, u32 inode, Ext2EntryType type);
  Result<u32> extend(u32 number, Ext2InodeRecord& directory);
  void touch(Ext2InodeRecord& directory) const;
  u8 type_byte(Ext2EntryType type) const { return volume_.geometry().file_types ? static_cast<u8>(type) : u8{0}; }

  Ext2Volume& volume_;
  Ext2Inodes& inodes_;
};

}  // namespace paean
