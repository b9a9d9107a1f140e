// Blocks of a file given back. A tree of pointers is at most three deep, so recursion is; a block that is met twice is
// found to be free already the second time, so a loop ends there.
//
// The work is done in steps: a run of blocks becomes free, and the pointers to it go. What a step needs is fetched
// before it changes anything, so that a lack of memory ends the work between two steps, with a file that is whole.
// Pointers in a table that is about to become free itself are only cleared if it stays after all.
#include <algorithm>

#include "kernel/fs/ext2_inode.hpp"

namespace paean {

namespace {

constexpr u32 kAtATime = 32;  // pointers copied at once: 128 bytes of stack at each of three levels

}  // namespace

/// Frees these blocks, which lie in one group. The record will have to be changed, whatever comes after.
Result<> Ext2Inodes::free_run(Cut& cut, u32 first, u32 blocks, Use was) {
  TRY(volume_.fetch(cut.record_at));
  TRY(alloc_.give_blocks(first, blocks, was));
  cut.freed += blocks;
  return {};
}

Result<> Ext2Inodes::clear_pointers(u32 table, u32 from, u32 end) {
  if (from == end) return {};
  const u64 offset = volume_.geometry().offset_of(table) + u64{from} * sizeof(u32);
  return volume_.change(offset, (end - from) * static_cast<u32>(sizeof(u32)),
                        [](std::span<u8> bytes) { __builtin_memset(bytes.data(), 0, bytes.size()); });
}

Result<> Ext2Inodes::get_pointers(u32 table, u32 from, std::span<u32> into) const {
  const u64 offset = volume_.geometry().offset_of(table) + u64{from} * sizeof(u32);
  return volume_.view(offset, static_cast<u32>(into.size_bytes()),
                      [&](std::span<const u8> bytes) { __builtin_memcpy(into.data(), bytes.data(), bytes.size()); });
}

/// Blocks behind each other in one group, as many of `pointers` from the first on as there are.
u32 Ext2Inodes::run_in(std::span<const u32> pointers) const {
  const Ext2Geometry& geometry = volume_.geometry();
  u32 run = 1;
  while (run < pointers.size() && pointers[run] == pointers[0] + run && geometry.has_block(pointers[run]) &&
         geometry.group_of_block(pointers[run]) == geometry.group_of_block(pointers[0])) {
    ++run;
  }
  return run;
}

/// What the pointers of a last table from the one numbered `done` on name. `done` moves behind those whose blocks are
/// free; the caller clears them, or the table goes.
Result<> Ext2Inodes::cut_blocks(Cut& cut, u32 table, u32& done) {
  const u32 pointers = 1u << volume_.geometry().pointer_shift();
  while (done < pointers) {
    u32 found[kAtATime];
    const u32 now = std::min(kAtATime, pointers - done);
    TRY(get_pointers(table, done, {found, now}));
    for (u32 i = 0; i < now;) {
      const u32 run = found[i] == 0 ? 1 : run_in({found + i, now - i});
      if (found[i] != 0) {
        TRY(checked(found[i]));
        TRY(volume_.fetch(volume_.geometry().offset_of(table)));
        TRY(free_run(cut, found[i], run, cut.use));
      }
      i += run;
      done += run;
    }
  }
  return {};
}

/// The trees below the pointers of a table, and these. The first one may stay in part.
Result<> Ext2Inodes::cut_trees(Cut& cut, u32 table, u32 depth, u32 keep) {
  const u32 pointers = 1u << volume_.geometry().pointer_shift();
  const u32 reach_shift = (depth - 1) * volume_.geometry().pointer_shift();
  const u32 first = keep >> reach_shift;
  for (u32 at = first; at < pointers; ++at) {
    const u32 child = TRY(pointer(table, at));
    if (child == 0) continue;
    const u32 inner = at == first ? keep - (first << reach_shift) : 0;
    u32 cleared = 0;
    Result<> done = cut_tree(cut, child, depth - 1, inner, cleared);
    if (inner != 0) {
      TRY(done);
      continue;
    }
    // What is below the child is free: so is the child, and the pointer to it goes, or the child is emptied.
    if (done) done = volume_.fetch(volume_.geometry().offset_of(table));
    if (done) done = free_run(cut, child, 1, Use::Table);
    if (!done) return keep_table(child, cleared, done);
    TRY(clear_pointers(table, at, at + 1));
  }
  return {};
}

/// A table stays after all because of `why`.
Result<> Ext2Inodes::keep_table(u32 table, u32 cleared, Result<> why) {
  if (why.error() == Error::OutOfMemory) TRY(clear_pointers(table, 0, cleared));
  return why;
}

/// Frees what is below `table` from the file block `keep`, counted from the tree's first, on. If that is everything, so
/// many of its first pointers as `cleared` says then are still to be cleared, unless it becomes free itself.
Result<> Ext2Inodes::cut_tree(Cut& cut, u32 table, u32 depth, u32 keep, u32& cleared) {
  TRY(checked(table));
  if (TRY(volume_.is_table(table))) return std::unexpected(volume_.corrupt("a file points to a table, block", table));
  if (depth > 1) return cut_trees(cut, table, depth, keep);
  u32 done = keep;
  const Result<> result = cut_blocks(cut, table, done);
  if (keep == 0)
    cleared = done;
  else if (result || result.error() == Error::OutOfMemory)
    TRY(clear_pointers(table, keep, done));
  return result;
}

Result<> Ext2Inodes::cut(u32 inode, Ext2InodeRecord& record, u32 keep) {
  TRY(volume_.writable());
  const bool is_file = (record.mode & kExt2ModeType) == kExt2ModeFile;
  Cut cut {
    .record_at = TRY(volume_.inode_offset(inode))
    , .use = is_file ? Use::Pages : Use::Table
  };
  const Result<> done = cut_all(cut, record, keep);
  const u32 sectors = cut.freed * volume_.geometry().sectors_per_block();
  if (sectors > record.blocks_512) return std::unexpected(volume_.corrupt("more blocks than counted", sectors));
  record.blocks_512 -= sectors;
  // Halfway some pointers name free blocks.
  if (!done && done.error() != Error::OutOfMemory) (void)volume_.corrupt("a file could not be cut:", done.error());
  return done;
}

Result<> Ext2Inodes::cut_all(Cut& cut, Ext2InodeRecord& record, u32 keep) {
  for (u32 i = keep; i < kExt2DirectBlocks;) {
    const u32 run = record.block[i] == 0 ? 1 : run_in({record.block + i, kExt2DirectBlocks - i});
    if (record.block[i] != 0) {
      TRY(checked(record.block[i]));
      TRY(free_run(cut, record.block[i], run, cut.use));
      std::fill_n(record.block + i, run, 0);
    }
    i += run;
  }
  u64 start = kExt2DirectBlocks;
  for (u32 depth = 1; depth <= 3; ++depth) {
    const u64 reach = u64{1} << (depth * volume_.geometry().pointer_shift());
    u32& root = record.block[kExt2DirectBlocks + depth - 1];
    const u32 inner = keep > start ? static_cast<u32>(std::min<u64>(keep - start, reach)) : 0;
    if (root != 0 && inner < reach) {
      u32 cleared = 0;
      Result<> done = cut_tree(cut, root, depth, inner, cleared);
      if (inner == 0) {
        if (done) done = free_run(cut, root, 1, Use::Table);
        if (!done) return keep_table(root, cleared, done);
        root = 0;
      }
      TRY(done);
    }
    start += reach;
  }
  return {};
}

}  // namespace paean
