// The directories that show the windows on 2 MiB blocks (mm/kmap_block.hpp) beside the kernel's own: one a user space.
//
// The entries of those windows are the only ones in the kernel's half that change after boot, so every copy follows, in
// the same critical section. The time is linear in user spaces: block windows are for work that is long compared with
// that. Lock: that of the windows, in mm/kmap_block.cpp, which alone includes this beside the owners of directories.
#pragma once

#include "arch/pte.hpp"
#include "mm/page.hpp"

namespace paean {

/// A directory that follows; part of its owner.
struct BlockMirror {
  Page* directory = nullptr;
  BlockMirror* next = nullptr;
  BlockMirror* previous = nullptr;
};

/// From here on the directory shows what the kernel's shows. Any context.
void follow_block_windows(BlockMirror& mirror, Page* directory);
void leave_block_windows(BlockMirror& mirror);

// The rest with the lock held.
extern BlockMirror* first_block_mirror;
void add_block_mirror(BlockMirror& mirror);
void remove_block_mirror(BlockMirror& mirror);
[[gnu::cold]] void change_block_mirrors(VirtAddr at, arch::PteValue value);

}  // namespace paean
