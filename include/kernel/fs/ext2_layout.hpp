// ext2 as it lies on the medium, little endian as this machine.
//
//   block 0 or 1      superblock, 1024 bytes from the start
//   each group:       [superblock copy, descriptors, room for more] block bitmap, inode bitmap, inode table, data
//
// Pure data. Numbers here come from strangers: nobody uses one that kernel/fs/ext2_*.cpp has not checked.
// Source: "The Second Extended File System" by Dave Poirier, and what mke2fs writes.
#pragma once

#include "lib/types.hpp"

namespace paean {

inline constexpr u32 kExt2SuperOffset = 1024;
inline constexpr u16 kExt2Magic = 0xef53;
inline constexpr u32 kExt2RootInode = 2;
inline constexpr u32 kExt2NameLimit = 255;
/// What other implementations accept as a link count.
inline constexpr u32 kExt2LinkLimit = 32000;

struct Ext2SuperRecord {
  u32 inodes, blocks, reserved_blocks, free_blocks, free_inodes, first_data_block;
  u32 log_block_kib, log_fragment_kib, blocks_per_group, fragments_per_group, inodes_per_group;
  u32 mounted_at, written_at;
  u16 mounts, mounts_limit, magic, state, on_error, minor_revision;
  u32 checked_at, check_interval, creator, revision;
  u16 reserved_uid, reserved_gid;
  u32 first_inode;
  u16 inode_bytes, group_of_copy;
  u32 compatible, incompatible, read_only_compatible;
  u8 uuid[16], label[16], last_mounted_on[64];
  u32 compression;
  u8 prealloc_blocks, prealloc_directory_blocks;
  u16 reserved_descriptor_blocks;
  u8 journal_uuid[16];
  u32 journal_inode, journal_device, last_orphan;
};
static_assert(sizeof(Ext2SuperRecord) == 236 && offsetof(Ext2SuperRecord, magic) == 56);
static_assert(offsetof(Ext2SuperRecord, compatible) == 92 && offsetof(Ext2SuperRecord, last_orphan) == 232);

inline constexpr u16 kExt2StateClean = 1, kExt2StateErrors = 2;
inline constexpr u32 kExt2CompatSparseSuper2 = 0x200;
inline constexpr u32 kExt2IncompatFileType = 2;
inline constexpr u32 kExt2RoSparseSuper = 1, kExt2RoLargeFile = 2;

struct Ext2GroupRecord {
  u32 block_bitmap, inode_bitmap, inode_table;
  u16 free_blocks, free_inodes, directories, flags;
  u32 unused[3];
};
static_assert(sizeof(Ext2GroupRecord) == 32);

inline constexpr u32 kExt2DirectBlocks = 12, kExt2Pointers = 15;
struct Ext2InodeRecord {
  u16 mode, uid;
  u32 size, accessed, changed, modified, deleted;
  u16 gid, links;
  u32 blocks_512, flags, unused;
  u32 block[kExt2Pointers];
  u32 generation, attribute_block, size_high, fragment;
  u16 fragment_place, pad, uid_high, gid_high;
  u32 unused_too;
};
static_assert(sizeof(Ext2InodeRecord) == 128 && offsetof(Ext2InodeRecord, block) == 40);
static_assert(offsetof(Ext2InodeRecord, attribute_block) == 104);

inline constexpr u32 kExt2FlagIndexed = 0x1000, kExt2FlagExtents = 0x80000;
inline constexpr u16 kExt2ModeType = 0xf000, kExt2ModeFifo = 0x1000, kExt2ModeChar = 0x2000,
                     kExt2ModeDirectory = 0x4000, kExt2ModeBlock = 0x6000, kExt2ModeFile = 0x8000,
                     kExt2ModeSymlink = 0xa000, kExt2ModeSocket = 0xc000;

/// Followed by the name; the next entry begins `record` bytes behind this one. Inode 0: nothing here.
struct Ext2EntryRecord {
  u32 inode;
  u16 record;
  u8 length;
  u8 type;  // one of Ext2EntryType; without the feature `filetype` the upper half of length, which is 0
};
static_assert(sizeof(Ext2EntryRecord) == 8);
enum class Ext2EntryType : u8 { Unknown, File, Directory, Char, Block, Fifo, Socket, Symlink };

/// The bytes that a name of this length needs at least, with its header.
constexpr u32 ext2_entry_bytes(u32 length) { return (8 + length + 3) & ~3u; }

/// The start of a block of extended attributes, which several inodes may share.
struct Ext2AttributeHeader {
  u32 magic, references;
};
inline constexpr u32 kExt2AttributeMagic = 0xea020000;

/// 0: no type that exists.
constexpr Ext2EntryType ext2_entry_type(u16 mode) {
  switch (mode & kExt2ModeType) {
    case kExt2ModeFile: return Ext2EntryType::File;
    case kExt2ModeDirectory: return Ext2EntryType::Directory;
    case kExt2ModeChar: return Ext2EntryType::Char;
    case kExt2ModeBlock: return Ext2EntryType::Block;
    case kExt2ModeFifo: return Ext2EntryType::Fifo;
    case kExt2ModeSocket: return Ext2EntryType::Socket;
    case kExt2ModeSymlink: return Ext2EntryType::Symlink;
    default: return Ext2EntryType::Unknown;
  }
}

}  // namespace paean
