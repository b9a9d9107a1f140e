#include "kernel/fs/ext2_alloc.hpp"

#include <algorithm>
#include <bit>

namespace paean {

namespace {

constexpr u32 kNone = ~0u;

/// Bitmaps are whole words: blocks of at least 1 KiB.
u32 clear_bits_of(std::span<const u8> bits, u32 word) {
  u32 value;
  __builtin_memcpy(&value, &bits[word * sizeof value], sizeof value);
  return ~value;
}

/// The first clear bit in [from, end); kNone.
u32 first_clear(std::span<const u8> bits, u32 from, u32 end) {
  if (from >= end) return kNone;
  const u32 words = (end + 31) / 32;
  u32 word = from / 32;
  u32 clear = clear_bits_of(bits, word) & (~0u << (from % 32));
  while (clear == 0) {
    if (++word == words) return kNone;
    clear = clear_bits_of(bits, word);
  }
  const u32 found = word * 32 + static_cast<u32>(std::countr_zero(clear));
  return found < end ? found : kNone;
}

constexpr auto kAnyBit = [](u32) { return 0u; };

/// The bits of one byte, from bit `from` on, as many as `bits` says or as there are.
u8 mask_of(u32 from, u32 bits) { return static_cast<u8>(((1u << std::min(bits, 8 - from)) - 1) << from); }

}  // namespace

/// The first clear bit in [from, end) that may be had: behind one that may not `end_of_forbidden(bit)` says where to
/// look on, and 0 of one that may. kNone.
template <typename EndOfForbidden>
Result<u32> Ext2Alloc::find_clear(u32 bitmap, u32 from, u32 end, EndOfForbidden end_of_forbidden) {
  u32 found = kNone;
  TRY(volume_.view(volume_.geometry().offset_of(bitmap), (end + 31) / 32 * 4, [&](std::span<const u8> bits) {
    for (u32 at = from;;) {
      found = first_clear(bits, at, end);
      if (found == kNone) return;
      at = end_of_forbidden(found);
      if (at == 0) return;
    }
  }));
  return found;
}

Result<> Ext2Alloc::set_bit(u32 bitmap, u32 bit) {
  return volume_.change(volume_.geometry().offset_of(bitmap) + bit / 8, 1,
                        [bit](std::span<u8> bits) { bits[0] = static_cast<u8>(bits[0] | 1u << (bit % 8)); });
}

Result<> Ext2Alloc::clear_bits(u32 bitmap, u32 from, u32 bits) {
  bool all_set = true;
  const u32 bytes = (from % 8 + bits + 7) / 8;
  const u64 offset = volume_.geometry().offset_of(bitmap) + from / 8;
  TRY(volume_.fetch(offset));
  TRY(volume_.change(offset, bytes, [&](std::span<u8> found) {
    for (const bool check : {true, false}) {
      u32 left = bits;
      for (u32 byte = 0, bit = from % 8; left > 0; ++byte, bit = 0) {
        const u8 mask = mask_of(bit, left);
        if (check) all_set = all_set && (found[byte] & mask) == mask;
        if (!check && all_set) found[byte] &= static_cast<u8>(~mask);
        left -= static_cast<u32>(std::popcount(mask));
      }
    }
  }));
  if (!all_set) return std::unexpected(volume_.corrupt("freed twice, by the bitmap in block", bitmap));
  return {};
}

const Ext2Alloc::Window* Ext2Alloc::window_of_others(u32 block, u32 inode) const {
  for (const Window& window : windows_) {
    if (block >= window.first && block < window.end && window.inode != inode) return &window;
  }
  return nullptr;
}

/// Its window begins at the block that it has just taken, unless that lies in the one it has.
void Ext2Alloc::reserve(u32 inode, u32 goal, u32 block) {
  Window* window = &windows_[0];
  for (Window& each : windows_) {
    if (each.inode == inode) {
      window = &each;
      break;
    }
    if (each.used_at < window->used_at) window = &each;
  }
  u32 blocks = kSmallestWindow;
  if (window->inode == inode) {
    if (goal == window->end) blocks = std::min(2 * (window->end - window->first), kLargestWindow);
    if (block >= window->first && block < window->end) blocks = 0;
  }
  if (blocks != 0) *window = {.inode = inode, .first = block, .end = block + blocks};
  window->used_at = ++uses_;
}

void Ext2Alloc::forget_window(u32 inode) {
  for (Window& window : windows_) {
    if (window.inode == inode) window = {};
  }
}

/// Where to look on behind a free block that this search may not have; 0: it may.
u32 Ext2Alloc::end_of_forbidden(const Search& search, u32 block) const {
  if (const Window* window = window_of_others(block, search.inode)) return window->end;
  return search.use == Use::Pages ? retired_.end_of_range_with(block) : 0;
}

/// The first free block of a group from bit `from` on that the search may have; kNone.
Result<u32> Ext2Alloc::find_block(Search& search, u32 from, u32 end) {
  const u32 start = volume_.geometry().group_start(search.group);
  return find_clear(search.bitmap, from, end, [&](u32 bit) {
    const u32 behind = end_of_forbidden(search, start + bit);
    if (behind == 0) return 0u;
    search.left_some = true;
    return behind - start;
  });
}

Result<u32> Ext2Alloc::take_block_in(u32 group, u32 from, u32 inode, Use use) {
  const Ext2Geometry& geometry = volume_.geometry();
  const Ext2GroupRecord record = TRY(volume_.group(group));
  if (record.free_blocks == 0) return kNone;
  Search search{.inode = inode, .group = group, .bitmap = record.block_bitmap, .use = use};
  u32 bit = TRY(find_block(search, from, geometry.group_blocks(group)));
  if (bit == kNone && from > 0) bit = TRY(find_block(search, 0, from));
  if (bit == kNone && search.left_some) return kNone;
  if (bit == kNone) return std::unexpected(volume_.corrupt("no free block, against the count, in group", group));
  const u32 block = geometry.group_start(group) + bit;
  if (TRY(volume_.is_table(block))) return std::unexpected(volume_.corrupt("a table marked as free, block", block));
  TRY(volume_.fetch_group(group));
  TRY(set_bit(record.block_bitmap, bit));
  TRY(volume_.count(group, -1, 0, 0));
  return block;
}

/// kNone if there is none but in windows and retired ones.
Result<u32> Ext2Alloc::take_from_groups(u32 goal, u32 inode, Use use) {
  const Ext2Geometry& geometry = volume_.geometry();
  const u32 first = geometry.group_of_block(goal);
  for (u32 i = 0; i < geometry.groups; ++i) {
    const u32 group = first + i < geometry.groups ? first + i : first + i - geometry.groups;
    const u32 block = TRY(take_block_in(group, i == 0 ? goal - geometry.group_start(group) : 0, inode, use));
    if (block != kNone) return block;
  }
  return kNone;
}

/// No block is retired any more.
Result<> Ext2Alloc::sync_tables() {
  const u32 number = sync_begins();
  TRY(volume_.sync_tables());
  sync_ended(number);
  return {};
}

Result<u32> Ext2Alloc::take_block(u32 goal, u32 inode, Use use, Grows grows) {
  TRY(volume_.writable());
  if (volume_.free_blocks() == 0) return std::unexpected(Error::NoSpace);
  if (!volume_.geometry().has_block(goal)) goal = volume_.geometry().first_data_block;
  u32 block = TRY(take_from_groups(goal, inode, use));
  if (block == kNone) {
    std::ranges::fill(windows_, Window{});
    block = TRY(take_from_groups(goal, inode, use));
  }
  if (block == kNone && !retired_.empty()) {
    TRY(sync_tables());
    block = TRY(take_from_groups(goal, inode, use));
  }
  if (block == kNone) return std::unexpected(Error::NoSpace);
  if (grows == Grows::InOrder) reserve(inode, goal, block);
  return block;
}

Result<> Ext2Alloc::give_in_group(u32 group, u32 from, u32 blocks) {
  const Ext2Geometry& geometry = volume_.geometry();
  for (u32 i = 0; i < blocks; ++i) {
    const u32 block = geometry.group_start(group) + from + i;
    if (TRY(volume_.is_table(block))) return std::unexpected(volume_.corrupt("a file had a table, block", block));
  }
  const Ext2GroupRecord record = TRY(volume_.group(group));
  TRY(volume_.fetch_group(group));
  TRY(clear_bits(record.block_bitmap, from, blocks));
  return volume_.count(group, static_cast<i32>(blocks), 0, 0);
}

Result<> Ext2Alloc::give_blocks(u32 first, u32 blocks, Use was) {
  TRY(volume_.writable());
  const Ext2Geometry& geometry = volume_.geometry();
  if (!geometry.has_block(first) || blocks > geometry.blocks - first) {
    return std::unexpected(volume_.corrupt("a file had no such block as", first));
  }
  while (blocks > 0) {
    const u32 group = geometry.group_of_block(first);
    const u32 from = first - geometry.group_start(group);
    const u32 now = std::min(blocks, geometry.group_blocks(group) - from);
    TRY(give_in_group(group, from, now));
    if (was == Use::Table) retired_.add(first, now);
    first += now;
    blocks -= now;
  }
  return {};
}

/// A directory wants room for what will be in it: no group that has used up most of its blocks.
bool Ext2Alloc::suits(const Ext2GroupRecord& record, Kind kind) const {
  constexpr u32 kRoomOfEighths = 8;
  if (record.free_inodes == 0) return false;
  return kind == Kind::Other || record.free_blocks >= volume_.geometry().blocks_per_group / kRoomOfEighths;
}

Result<u32> Ext2Alloc::take_inode(u32 parent, Kind kind) {
  TRY(volume_.writable());
  if (volume_.free_inodes() == 0) return std::unexpected(Error::NoSpace);
  const Ext2Geometry& geometry = volume_.geometry();
  const u32 first = geometry.group_of_inode(parent);
  for (u32 i = 0; i < 2 * geometry.groups; ++i) {
    const u32 group = (first + i) % geometry.groups;
    const Ext2GroupRecord record = TRY(volume_.group(group));
    if (!suits(record, i < geometry.groups ? kind : Kind::Other)) continue;
    const u32 base = group * geometry.inodes_per_group;
    const u32 from = base + 1 < geometry.first_inode ? geometry.first_inode - 1 - base : 0;
    const u32 end = geometry.inodes_per_group;
    const u32 bit = from < end ? TRY(find_clear(record.inode_bitmap, from, end, kAnyBit)) : kNone;
    if (bit == kNone) return std::unexpected(volume_.corrupt("no free inode, against the count, in group", group));
    TRY(volume_.fetch_group(group));
    TRY(set_bit(record.inode_bitmap, bit));
    TRY(volume_.count(group, 0, -1, kind == Kind::Directory ? 1 : 0));
    return base + bit + 1;
  }
  return std::unexpected(Error::NoSpace);
}

Result<> Ext2Alloc::give_inode(u32 inode, Kind kind) {
  TRY(volume_.writable());
  const Ext2Geometry& geometry = volume_.geometry();
  if (!geometry.has_inode(inode) || inode == kExt2RootInode) {
    return std::unexpected(volume_.corrupt("cannot be freed: inode", inode));
  }
  const u32 group = geometry.group_of_inode(inode);
  const Ext2GroupRecord record = TRY(volume_.group(group));
  TRY(volume_.fetch_group(group));
  TRY(clear_bits(record.inode_bitmap, (inode - 1) % geometry.inodes_per_group, 1));
  return volume_.count(group, 0, 1, kind == Kind::Directory ? -1 : 0);
}

}  // namespace paean
