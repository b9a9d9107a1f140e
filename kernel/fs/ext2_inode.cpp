#include "kernel/fs/ext2_inode.hpp"

#include <algorithm>

namespace paean {

u64 Ext2Inodes::size_of(const Ext2InodeRecord& record) {
  const bool wide = (record.mode & kExt2ModeType) == kExt2ModeFile;
  return record.size | (wide ? u64{record.size_high} << 32 : 0);
}

u64 Ext2Inodes::largest_file_blocks() const {
  const u32 shift = volume_.geometry().pointer_shift();
  return kExt2DirectBlocks + (u64{1} << shift) + (u64{1} << (2 * shift)) + (u64{1} << (3 * shift));
}

/// i_blocks counts sectors, those of pointers included, in 32 bits.
u64 Ext2Inodes::largest_size() const {
  constexpr u64 kCountedBytes = 2 * kTiB - 4 * kGiB;
  return std::min(largest_file_blocks() << volume_.geometry().block_shift, kCountedBytes);
}

Result<Ext2InodeRecord> Ext2Inodes::get_raw(u32 inode) {
  const u64 offset = TRY(volume_.inode_offset(inode));
  return volume_.get<Ext2InodeRecord>(offset);
}

Result<Ext2InodeRecord> Ext2Inodes::get(u32 inode) {
  const Ext2InodeRecord record = TRY(get_raw(inode));
  const bool typed = ext2_entry_type(record.mode) != Ext2EntryType::Unknown;
  if (!typed || record.links == 0 || (record.flags & kExt2FlagExtents) != 0 || size_of(record) > largest_size()) {
    return std::unexpected(volume_.corrupt("makes no sense: inode", inode));
  }
  return record;
}

Result<> Ext2Inodes::put(u32 inode, const Ext2InodeRecord& record) {
  TRY(volume_.writable());
  const u64 offset = TRY(volume_.inode_offset(inode));
  return volume_.put(offset, record);
}

Result<u32> Ext2Inodes::create(u32 parent, const Ext2InodeRecord& record) {
  const bool directory = (record.mode & kExt2ModeType) == kExt2ModeDirectory;
  const Ext2Alloc::Kind kind = directory ? Ext2Alloc::Kind::Directory : Ext2Alloc::Kind::Other;
  const u32 inode = TRY(alloc_.take_inode(parent, kind));
  const u64 offset = TRY(volume_.inode_offset(inode));
  if (const Result<> fetched = volume_.fetch(offset); !fetched) {
    (void)alloc_.give_inode(inode, kind);  // an error has made the volume read-only, which says enough
    return std::unexpected(fetched.error());
  }
  TRY(volume_.change(offset, volume_.geometry().inode_bytes, [&](std::span<u8> bytes) {
    Ext2InodeRecord old;
    __builtin_memcpy(&old, bytes.data(), sizeof old);
    Ext2InodeRecord fresh = record;
    fresh.generation = old.generation + 1;  // a number that was used before is another file now
    __builtin_memset(bytes.data(), 0, bytes.size());
    __builtin_memcpy(bytes.data(), &fresh, sizeof fresh);
  }));
  return inode;
}

/// All blocks, if the inode has any.
Result<> Ext2Inodes::release(u32 inode, Ext2InodeRecord& record) {
  const Ext2EntryType type = ext2_entry_type(record.mode);
  if (record.attribute_block != 0) TRY(drop_attributes(record));
  const bool in_blocks = type == Ext2EntryType::File || type == Ext2EntryType::Directory ||
                         (type == Ext2EntryType::Symlink && record.blocks_512 != 0);
  return in_blocks ? cut(inode, record, 0) : Result<>{};
}

Result<> Ext2Inodes::destroy(u32 inode) {
  TRY(volume_.writable());
  Ext2InodeRecord record = TRY(get_raw(inode));
  if (record.links != 0) return std::unexpected(volume_.corrupt("freed with links: inode", inode));
  alloc_.forget_window(inode);
  const Result<> released = release(inode, record);
  if (!released && released.error() != Error::OutOfMemory) return released;
  if (released) {
    record.size = record.size_high = 0;
    record.deleted = record.changed = std::max(volume_.store().now(), 1u);
  }
  TRY(put(inode, record));
  TRY(released);
  const bool directory = ext2_entry_type(record.mode) == Ext2EntryType::Directory;
  return alloc_.give_inode(inode, directory ? Ext2Alloc::Kind::Directory : Ext2Alloc::Kind::Other);
}

/// Extended attributes that mke2fs or another system wrote; files may share them.
Result<> Ext2Inodes::drop_attributes(Ext2InodeRecord& record) {
  const u32 block = TRY(checked(record.attribute_block));
  const u64 offset = volume_.geometry().offset_of(block);
  auto header = TRY(volume_.get<Ext2AttributeHeader>(offset));
  if (header.magic != kExt2AttributeMagic || header.references == 0) {
    return std::unexpected(volume_.corrupt("no extended attributes in block", block));
  }
  if (header.references == 1) {
    TRY(alloc_.give_blocks(block, 1, Use::Table));
  } else {
    --header.references;
    TRY(volume_.put(offset, header));
  }
  record.attribute_block = 0;
  record.blocks_512 -= std::min(record.blocks_512, volume_.geometry().sectors_per_block());
  return {};
}

}  // namespace paean
