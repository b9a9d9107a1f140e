// Which superblocks make sense. Everything that later code divides by, shifts by or indexes with is bounded here.
#include "kernel/fs/ext2_volume.hpp"

namespace paean {

namespace {

constexpr u32 kLargestLogBlock = 2;  // 4 KiB, a page
constexpr u32 kOldInodeBytes = 128, kOldFirstInode = 11;
constexpr u32 kMostReservedDescriptors = 1024;

bool is_power_of(u32 number, u32 base) {
  while (number % base == 0) number /= base;
  return number == 1;
}

Result<> read_inode_sizes(const Ext2SuperRecord& super, Ext2Geometry& geometry) {
  const bool old = super.revision == 0;
  geometry.inode_bytes = old ? kOldInodeBytes : super.inode_bytes;
  geometry.first_inode = old ? kOldFirstInode : super.first_inode;
  geometry.inodes = super.inodes;
  geometry.inodes_per_group = super.inodes_per_group;
  const u32 bytes = geometry.inode_bytes;
  if (bytes < kOldInodeBytes || bytes > geometry.block_bytes() || (bytes & (bytes - 1)) != 0) {
    return std::unexpected(Error::Corrupt);
  }
  if (super.inodes_per_group == 0 || super.inodes_per_group > geometry.block_bytes() * 8) {
    return std::unexpected(Error::Corrupt);
  }
  if (geometry.first_inode < kOldFirstInode || geometry.first_inode > super.inodes) {
    return std::unexpected(Error::Corrupt);
  }
  const u32 per_block = geometry.block_bytes() / bytes;
  geometry.table_blocks = (super.inodes_per_group + per_block - 1) / per_block;
  return {};
}

Result<> read_groups(const Ext2SuperRecord& super, u64 device_bytes, Ext2Geometry& geometry) {
  const u32 bits = geometry.block_bytes() * 8;
  geometry.blocks = super.blocks;
  geometry.first_data_block = super.first_data_block;
  geometry.blocks_per_group = super.blocks_per_group;
  if (super.first_data_block != (super.log_block_kib == 0 ? 1u : 0u)) return std::unexpected(Error::Corrupt);
  if (super.blocks <= super.first_data_block || super.blocks > device_bytes >> geometry.block_shift) {
    return std::unexpected(Error::Corrupt);
  }
  if (super.blocks_per_group < 8 || super.blocks_per_group > bits || super.blocks_per_group % 8 != 0) {
    return std::unexpected(Error::Corrupt);
  }
  const u32 data_blocks = super.blocks - super.first_data_block;
  geometry.groups = (data_blocks - 1) / super.blocks_per_group + 1;
  if (u64{geometry.groups} * super.inodes_per_group != super.inodes) return std::unexpected(Error::Corrupt);
  if (super.reserved_descriptor_blocks > kMostReservedDescriptors) return std::unexpected(Error::Corrupt);
  const u32 per_block = geometry.block_bytes() / sizeof(Ext2GroupRecord);
  geometry.copy_blocks = 1 + (geometry.groups + per_block - 1) / per_block + super.reserved_descriptor_blocks;
  return {};
}

}  // namespace

bool Ext2Geometry::has_copy(u32 group) const {
  if (group == 0 || copies == Copies::All) return true;
  if (copies == Copies::First) return false;
  return group == 1 || is_power_of(group, 3) || is_power_of(group, 5) || is_power_of(group, 7);
}

Result<u32> ext2_block_shift(const Ext2SuperRecord& super) {
  if (super.magic != kExt2Magic) return std::unexpected(Error::Corrupt);
  if (super.revision > 1 || super.log_block_kib > kLargestLogBlock) return std::unexpected(Error::NotSupported);
  return 10 + super.log_block_kib;
}

Result<Ext2Geometry> ext2_geometry(const Ext2SuperRecord& super, u64 device_bytes) {
  Ext2Geometry geometry;
  geometry.block_shift = TRY(ext2_block_shift(super));
  const bool new_fields = super.revision > 0;
  if (new_fields && (super.incompatible & ~kExt2IncompatFileType) != 0) return std::unexpected(Error::NotSupported);
  if (super.log_fragment_kib != super.log_block_kib) return std::unexpected(Error::Corrupt);
  TRY(read_inode_sizes(super, geometry));
  TRY(read_groups(super, device_bytes, geometry));
  if (super.reserved_blocks > super.blocks || super.free_blocks > super.blocks || super.free_inodes > super.inodes) {
    return std::unexpected(Error::Corrupt);
  }
  geometry.file_types = new_fields && (super.incompatible & kExt2IncompatFileType) != 0;
  if (new_fields && (super.read_only_compatible & kExt2RoSparseSuper) != 0) {
    geometry.copies = Ext2Geometry::Copies::Sparse;
  }
  if (new_fields && (super.compatible & kExt2CompatSparseSuper2) != 0) geometry.copies = Ext2Geometry::Copies::First;
  return geometry;
}

}  // namespace paean
