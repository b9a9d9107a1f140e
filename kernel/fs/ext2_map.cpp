// Pointers of a file: where its blocks are, and new ones.
#include <algorithm>

#include "kernel/fs/ext2_inode.hpp"

namespace paean {

Result<Ext2Inodes::Path> Ext2Inodes::path_to(u32 file_block) const {
  const u32 shift = volume_.geometry().pointer_shift();
  if (file_block < kExt2DirectBlocks) return Path{.depth = 0, .slot = file_block};
  u64 rest = file_block - kExt2DirectBlocks;
  for (u32 depth = 1; depth <= 3; ++depth) {
    const u64 reach = u64{1} << (depth * shift);
    if (rest < reach) {
      Path path{.depth = depth, .slot = kExt2DirectBlocks + depth - 1};
      for (u32 level = 0; level < depth; ++level) {
        path.index[level] = static_cast<u32>(rest >> ((depth - 1 - level) * shift)) & ((1u << shift) - 1);
      }
      return path;
    }
    rest -= reach;
  }
  return std::unexpected(Error::TooLarge);
}

Result<u32> Ext2Inodes::checked(u32 pointer) const {
  if (!volume_.geometry().has_block(pointer)) {
    return std::unexpected(volume_.corrupt("a file points to block", pointer));
  }
  return pointer;
}

Result<u32> Ext2Inodes::pointer(u32 block, u32 index) const {
  return volume_.get<u32>(volume_.geometry().offset_of(block) + u64{index} * sizeof(u32));
}

Result<> Ext2Inodes::set_pointer(u32 block, u32 index, u32 value) {
  return volume_.put(volume_.geometry().offset_of(block) + u64{index} * sizeof(u32), value);
}

Result<Ext2Run> Ext2Inodes::map(const Ext2InodeRecord& record, u32 first, u32 limit) const {
  const Path path = TRY(path_to(first));
  const u32 shift = volume_.geometry().pointer_shift();
  if (path.depth == 0) {
    u32 run = 1;
    const u32 block = record.block[path.slot];
    while (run < limit && path.slot + run < kExt2DirectBlocks &&
           record.block[path.slot + run] == (block == 0 ? 0 : block + run)) {
      ++run;
    }
    if (block != 0) {
      TRY(checked(block));
      TRY(checked(block + run - 1));
    }
    return Ext2Run{.block = block, .blocks = run};
  }
  u32 table = record.block[path.slot];
  for (u32 level = 0; level < path.depth; ++level) {
    if (table == 0) {
      // Everything below this pointer is a hole.
      const u64 reach = u64{1} << ((path.depth - level) * shift);
      u64 inside = 0;
      for (u32 i = level; i < path.depth; ++i) inside = (inside << shift) | path.index[i];
      return Ext2Run{.block = 0, .blocks = static_cast<u32>(std::min<u64>(limit, reach - inside))};
    }
    TRY(checked(table));
    if (level + 1 < path.depth) table = TRY(pointer(table, path.index[level]));
  }
  const u32 from = path.index[path.depth - 1];
  const u32 most = std::min(limit, (1u << shift) - from);
  Ext2Run found{};
  TRY(volume_.view(volume_.geometry().offset_of(table) + u64{from} * sizeof(u32), most * sizeof(u32),
                   [&](std::span<const u8> bytes) {
                     const auto at = [&](u32 index) {
                       u32 value;
                       __builtin_memcpy(&value, bytes.data() + index * sizeof(u32), sizeof value);
                       return value;
                     };
                     found.block = at(0);
                     for (found.blocks = 1; found.blocks < most; ++found.blocks) {
                       if (at(found.blocks) != (found.block == 0 ? 0 : found.block + found.blocks)) break;
                     }
                   }));
  if (found.block != 0) {
    TRY(checked(found.block));
    TRY(checked(found.block + found.blocks - 1));
  }
  return found;
}

/// The first block of the inode's group: where a file without blocks begins to look.
u32 Ext2Inodes::home(u32 inode) const {
  const Ext2Geometry& geometry = volume_.geometry();
  return geometry.group_start(geometry.group_of_inode(inode)) + 1;
}

Result<u32> Ext2Inodes::take(u32 inode, Ext2InodeRecord& record, u32 goal, Use use, Ext2Alloc::Grows grows) {
  const u32 block = TRY(alloc_.take_block(goal, inode, use, grows));
  record.blocks_512 += volume_.geometry().sectors_per_block();
  return block;
}

/// A block that was taken, and that nothing points to yet, goes back because of `why`.
std::unexpected<Error> Ext2Inodes::give_back(Ext2InodeRecord& record, u32 block, Error why) {
  // If it cannot go back the volume is read-only now, which says enough.
  if (alloc_.give_blocks(block, 1, Use::Pages)) record.blocks_512 -= volume_.geometry().sectors_per_block();
  return std::unexpected(why);
}

Result<u32> Ext2Inodes::take_table(u32 inode, Ext2InodeRecord& record, u32 goal) {
  const u32 block = TRY(take(inode, record, goal, Use::Table, Ext2Alloc::Grows::No));
  if (const Result<> zeroed = volume_.zero_block(block); !zeroed) return give_back(record, block, zeroed.error());
  return block;
}

/// The last block of pointers on the path, made with all before it if they are not there.
Result<u32> Ext2Inodes::table_for(u32 inode, Ext2InodeRecord& record, const Path& path) {
  u32 table = record.block[path.slot];
  if (table == 0) {
    const u32 before = record.block[path.slot - 1];
    table = TRY(take_table(inode, record, before != 0 ? before + 1 : home(inode)));
    record.block[path.slot] = table;
  }
  for (u32 level = 0; level + 1 < path.depth; ++level) {
    TRY(checked(table));
    u32 next = TRY(pointer(table, path.index[level]));
    if (next == 0) {
      next = TRY(take_table(inode, record, table + 1));
      TRY(set_pointer(table, path.index[level], next));
    }
    table = next;
  }
  return checked(table);
}

Result<Ext2NewBlock> Ext2Inodes::need(u32 inode, Ext2InodeRecord& record, u32 file_block, Use use) {
  TRY(volume_.writable());
  const Path path = TRY(path_to(file_block));
  const u32 table = path.depth == 0 ? 0 : TRY(table_for(inode, record, path));
  const u32 index = path.depth == 0 ? path.slot : path.index[path.depth - 1];
  const u32 old = path.depth == 0 ? record.block[path.slot] : TRY(pointer(table, index));
  if (old != 0) {
    TRY(checked(old));
    if (TRY(volume_.is_table(old))) return std::unexpected(volume_.corrupt("a file points to a table, block", old));
    return Ext2NewBlock{.block = old};
  }
  u32 before = table;
  if (index > 0 && path.depth > 0) before = TRY(pointer(table, index - 1));
  if (index > 0 && path.depth == 0) before = record.block[index - 1];
  if (before == 0) before = table;
  const u32 goal = before != 0 ? before + 1 : home(inode);
  const auto grows = before != 0 ? Ext2Alloc::Grows::InOrder : Ext2Alloc::Grows::No;
  const u32 block = TRY(use == Use::Table ? take_table(inode, record, goal) : take(inode, record, goal, use, grows));
  if (use == Use::Pages) volume_.store().forget(block);
  if (path.depth == 0) {
    record.block[path.slot] = block;
  } else {
    TRY(set_pointer(table, index, block));
  }
  return Ext2NewBlock{.block = block, .age = Ext2NewBlock::Age::Fresh};
}

Result<> Ext2Inodes::punch(Ext2InodeRecord& record, u32 file_block) {
  TRY(volume_.writable());
  const Ext2Run run = TRY(map(record, file_block, 1));
  if (run.block == 0) return {};
  TRY(alloc_.give_blocks(run.block, 1, Use::Pages));
  const Path path = TRY(path_to(file_block));
  if (path.depth == 0) {
    record.block[path.slot] = 0;
  } else {
    u32 table = record.block[path.slot];
    for (u32 level = 0; level + 1 < path.depth; ++level) table = TRY(pointer(table, path.index[level]));
    TRY(set_pointer(table, path.index[path.depth - 1], 0));
  }
  record.blocks_512 -= std::min(record.blocks_512, volume_.geometry().sectors_per_block());
  return {};
}

}  // namespace paean
