// From a path to an inode, one name at a time. For kernel/fs alone.
//
//   PathWalk walk;
//   TRY(walk.begin(path));
//   TRY(walk.to_last());        // everything but the last name; walk.directory() holds it, or will
//   TRY(walk.follow(link));     // the last name was a symbolic link: goes on in it
//
// No recursion: what a symbolic link says goes in front of what is left, in memory of its own.
#pragma once

#include "kernel/fs/file.hpp"
#include "kernel/fs/mount_table.hpp"

namespace paean {

inline constexpr u32 kMaxName = 255, kMaxPath = 4095, kMaxLinksInPath = 40;

class PathWalk {
 public:
  PathWalk() = default;
  ~PathWalk();
  PathWalk(const PathWalk&) = delete;
  PathWalk& operator=(const PathWalk&) = delete;

  Result<> begin(std::string_view path);
  Result<> to_last();
  Result<> follow(Inode& link);

  Inode& directory() const { return *directory_; }
  /// The last name; empty for `/`. May be `.` or `..`.
  std::string_view last() const { return last_; }
  bool is_plain_name() const { return !last_.empty() && last_ != "." && last_ != ".."; }
  /// A slash behind it: must be a directory.
  bool wants_directory() const { return wants_directory_; }
  /// The inode of the last name, mounts crossed, a symbolic link not followed.
  Result<InodeRef> find_last();

 private:
  Result<InodeRef> step(std::string_view name);
  Result<std::string_view> take_name();

  InodeRef directory_{};
  std::string_view rest_{}, last_{};
  bool wants_directory_ = false;
  u32 links_ = 0;
  char* spliced_ = nullptr;  // where rest_ lies after a link
};

Result<InodeRef> resolve(std::string_view path, Links links);

}  // namespace paean
