// Names that were looked up lately, whether they exist or not. For kernel/fs alone.
//
//   (serial of the directory's inode, name) --> inode number, 0 if there is no such name
//
// Hangs on no inode: what belongs to one that has left is never found again, because serials are not used twice, and
// grows old. A name may be set or looked up in the file system only under SuperBlock::names and the directory's mutex,
// so that what is cached and what is there change together.
// Bounded; a name that was found since the hand came by last stays (second chance). Without memory nothing is cached.
#pragma once

#include <optional>

#include "kernel/fs/inode_cache.hpp"

namespace paean {

class NameCache {
 public:
  static constexpr u32 kMaxNames = 16384;  // about 1 MiB

  static void init();
  static std::optional<u32> find_locked(u64 directory, std::string_view name) REQUIRES(names_lock);
  /// From now on the name means this inode; 0: nothing.
  static void set(const Inode& directory, std::string_view name, u32 number);
  static void forget(const Inode& directory, std::string_view name);
  static u32 shrink(u32 names);
  static u32 count();
  struct Lists;
};

/// The inode of this name, not what is mounted on it. Names and the directory are locked, or names for writing.
Result<InodeRef> look_up(Inode& directory, std::string_view name);
/// The same without locks, and what is mounted there: one step of a path. Not for `..` of a root.
Result<InodeRef> step_to(Inode& directory, std::string_view name);

}  // namespace paean
