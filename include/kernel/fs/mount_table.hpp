// Which file systems are mounted where. For kernel/fs alone.
//
// A mounted file system's root covers a directory of another one; the first covers nothing and is where paths begin.
// Covered directories and roots are held by a reference each. Whoever holds an inode of a file system keeps it mounted.
// Locks: a mutex (LockRank::Mount) over mounting and unmounting, which wait for disks. The list and Inode::covered_by_
// change under names_lock as well, so that paths need only that, and who goes through the list needs it from one to the
// next: the one that is looked at is pinned, and unmounting waits for that.
#pragma once

#include "kernel/fs/inode_cache.hpp"

namespace paean {

struct Mount {
  SuperBlock* super = nullptr;
  const FileSystemType* type = nullptr;
  InodeRef root{}, covered{};
  Mount* next = nullptr;
  char source[32]{};
  char* path = nullptr;  // as it was given
  u32 pins = 0;          // visitors; under names_lock
};

class MountTable {
 public:
  static Result<> mount(std::string_view source, std::string_view path, std::string_view type, MountMode mode);
  static Result<> unmount(std::string_view path, UnmountMode mode);
  static Result<> sync();
  /// Before the machine goes off. May take as long as the disks do.
  static void leave_all();
  static void for_each(void (*visit)(void* context, const MountInfo& mount), void* context);

  /// Where absolute paths begin: the last that was mounted on `/`.
  static InodeRef start();
  /// What is mounted there, and on that, in its place; the inode itself if nothing is.
  static InodeRef cross(InodeRef inode);
  static InodeRef cross_locked(InodeRef inode) REQUIRES(names_lock);
  /// The directory that `..` means.
  static Result<InodeRef> parent_of(InodeRef directory);
  static bool is_covered(const Inode& inode);
  static bool is_root(const Inode& inode) { return inode.number == inode.super->root_inode(); }

 private:
  static Result<Mount*> make(const FileSystemType& type, std::string_view source, std::string_view path,
                             MountMode mode);
  static Result<Mount*> make_any(std::string_view source, std::string_view path, std::string_view type, MountMode mode);
  static bool attach(Mount* mount, InodeRef covered);
  static void append(Mount* mount, InodeRef covered);
  static void end(Mount* mount);
  static Result<> take_away(Mount* mount, InodeRef root);
  static Result<> leave_list(Mount* mount, const Inode& root) REQUIRES(names_lock);
  template <typename Visit>
  static void for_each_pinned(Visit visit);
};

}  // namespace paean
