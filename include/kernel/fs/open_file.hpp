// The inside of an open file. For kernel/fs alone.
#pragma once

#include "kernel/fs/file.hpp"

namespace paean {

class OpenFile {
 public:
  OpenFile(InodeRef of, OpenMode as)
      : inode(std::move(of)),
        mode(as),
        known_errors(inode->contents == nullptr ? 0 : inode->contents->known_errors()) {}
  bool has(OpenMode bit) const { return (static_cast<u32>(mode) & static_cast<u32>(bit)) != 0; }

  InodeRef inode;
  OpenMode mode;
  u32 known_errors;  // of write-back
  u64 position = 0;  // of directories: the file system's cursor
  ReadAhead ahead{};
};

inline constexpr u64 kMaxFileBytes = u64{1} << 43;  // pages are counted in 31 bits

/// Makes contents shorter or longer. The inode's mutex is held.
Result<> set_size(Inode& inode, u64 size);
/// Contents or attributes have just changed.
void touch_contents(Inode& inode);
/// ReadOnly if nothing may be changed there.
Result<> check_writable(const Inode& inode);

}  // namespace paean
