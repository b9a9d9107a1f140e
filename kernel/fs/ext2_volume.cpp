#include "kernel/fs/ext2_volume.hpp"

#include <algorithm>

#include "lib/format.hpp"

namespace paean {

Result<> Ext2Volume::open(u64 device_bytes, Ext2Mode mode) {
  const auto super = TRY(get<Ext2SuperRecord>(kExt2SuperOffset));
  geometry_ = TRY(ext2_geometry(super, device_bytes));
  cached_group_ = ~0u;
  TRY(sum_groups());
  const u32 unknown = super.revision == 0 ? 0 : super.read_only_compatible & ~(kExt2RoSparseSuper | kExt2RoLargeFile);
  const bool clean = (super.state & (kExt2StateClean | kExt2StateErrors)) == kExt2StateClean && super.last_orphan == 0;
  if (mode == Ext2Mode::ReadOnly || unknown != 0 || !clean) return {};
  read_only_.store(false, std::memory_order_relaxed);
  open_for_writing_ = true;
  return change(kExt2SuperOffset, sizeof(Ext2SuperRecord), [&](std::span<u8> bytes) {
    Ext2SuperRecord record = super;
    record.state &= static_cast<u16>(~kExt2StateClean);
    ++record.mounts;
    record.mounted_at = record.written_at = store_.now();
    __builtin_memcpy(bytes.data(), &record, sizeof record);
  });
}

Result<> Ext2Volume::close() {
  if (!open_for_writing_) return {};
  TRY(write_super());
  open_for_writing_ = false;
  read_only_.store(true, std::memory_order_relaxed);
  if (damaged_.load(std::memory_order_relaxed)) return {};
  auto super = TRY(get<Ext2SuperRecord>(kExt2SuperOffset));
  super.state |= kExt2StateClean;
  return put(kExt2SuperOffset, super);
}

Result<> Ext2Volume::write_super() {
  if (!open_for_writing_) return {};
  const bool damaged = damaged_.load(std::memory_order_relaxed);
  auto super = TRY(get<Ext2SuperRecord>(kExt2SuperOffset));
  super.free_blocks = free_blocks();
  super.free_inodes = free_inodes();
  super.written_at = store_.now();
  if (damaged) super.state |= kExt2StateErrors;
  return put(kExt2SuperOffset, super);
}

Result<> Ext2Volume::writable() const {
  if (read_only()) return std::unexpected(Error::ReadOnly);
  return {};
}

Result<> Ext2Volume::allow_large_files() {
  auto super = TRY(get<Ext2SuperRecord>(kExt2SuperOffset));
  if (super.revision == 0) return std::unexpected(Error::TooLarge);
  if ((super.read_only_compatible & kExt2RoLargeFile) != 0) return {};
  super.read_only_compatible |= kExt2RoLargeFile;
  return put(kExt2SuperOffset, super);
}

template <typename Detail>
Error Ext2Volume::complain(std::string_view what, const Detail& detail) {
  read_only_.store(true, std::memory_order_relaxed);
  if (damaged_.exchange(true)) return Error::Corrupt;
  char text[100];
  BufferSink line{text};
  format_to(line, "{} {}", what, detail);
  store_.complain(line.view());
  return Error::Corrupt;
}

Error Ext2Volume::corrupt(std::string_view what, u64 number) { return complain(what, number); }
Error Ext2Volume::corrupt(std::string_view what, Error why) { return complain(what, error_name(why)); }

/// A change that failed in the middle of others leaves tables that contradict each other.
Result<> Ext2Volume::changed(Result<> result) {
  if (!result) (void)corrupt("a table could not be changed:", result.error());
  return result;
}

u64 Ext2Volume::group_offset(u32 group) const {
  return geometry_.offset_of(geometry_.first_data_block + 1) + u64{group} * sizeof(Ext2GroupRecord);
}

Result<> Ext2Volume::check_group(u32 group, const Ext2GroupRecord& record) {
  const u32 start = geometry_.group_start(group) + (geometry_.has_copy(group) ? geometry_.copy_blocks : 0);
  const u32 end = geometry_.group_start(group) + geometry_.group_blocks(group);
  const auto inside = [&](u32 first, u32 blocks) { return first >= start && first < end && blocks <= end - first; };
  const auto in_inode_table = [&](u32 block) {
    return block >= record.inode_table && block - record.inode_table < geometry_.table_blocks;
  };
  const bool places = inside(record.block_bitmap, 1) && inside(record.inode_bitmap, 1) &&
                      inside(record.inode_table, geometry_.table_blocks) &&
                      record.block_bitmap != record.inode_bitmap && !in_inode_table(record.block_bitmap) &&
                      !in_inode_table(record.inode_bitmap);
  const bool counts = record.free_blocks <= geometry_.group_blocks(group) &&
                      record.free_inodes <= geometry_.inodes_per_group &&
                      record.directories <= geometry_.inodes_per_group;
  if (!places || !counts) return std::unexpected(corrupt("descriptor of group", group));
  return {};
}

Result<Ext2GroupRecord> Ext2Volume::group(u32 group) {
  if (group == cached_group_) return cached_;
  const auto record = TRY(get<Ext2GroupRecord>(group_offset(group)));
  TRY(check_group(group, record));
  cached_ = record;
  cached_group_ = group;
  return record;
}

Result<> Ext2Volume::sum_groups() {
  u32 blocks = 0, inodes = 0;
  for (u32 number = 0; number < geometry_.groups; ++number) {
    const Ext2GroupRecord record = TRY(group(number));
    blocks += record.free_blocks;
    inodes += record.free_inodes;
  }
  free_blocks_.store(blocks, std::memory_order_relaxed);
  free_inodes_.store(inodes, std::memory_order_relaxed);
  return {};
}

Result<> Ext2Volume::count(u32 number, i32 blocks, i32 inodes, i32 directories) {
  Ext2GroupRecord record = TRY(group(number));
  record.free_blocks = static_cast<u16>(record.free_blocks + blocks);
  record.free_inodes = static_cast<u16>(record.free_inodes + inodes);
  record.directories = static_cast<u16>(record.directories + directories);
  TRY(check_group(number, record));
  TRY(put(group_offset(number), record));
  cached_ = record;
  free_blocks_.store(free_blocks() + blocks, std::memory_order_relaxed);
  free_inodes_.store(free_inodes() + inodes, std::memory_order_relaxed);
  return {};
}

/// All of them lie in the group.
bool Ext2Volume::has_table_in(u32 group, const Ext2GroupRecord& record, u32 first, u32 blocks) const {
  const auto meets = [&](u32 start, u32 count) { return first < start + count && start < first + blocks; };
  return (geometry_.has_copy(group) && meets(geometry_.group_start(group), geometry_.copy_blocks)) ||
         meets(record.block_bitmap, 1) || meets(record.inode_bitmap, 1) ||
         meets(record.inode_table, geometry_.table_blocks);
}

Result<bool> Ext2Volume::is_table(u32 block) {
  const u32 number = geometry_.group_of_block(block);
  const Ext2GroupRecord record = TRY(group(number));
  return has_table_in(number, record, block, 1);
}

Result<bool> Ext2Volume::has_table(u32 first, u32 blocks) const {
  while (blocks > 0) {
    const u32 number = geometry_.group_of_block(first);
    const u32 now = std::min(blocks, geometry_.group_start(number) + geometry_.group_blocks(number) - first);
    // Where tables lie was checked when the volume was opened, and does not change.
    const auto record = TRY(get<Ext2GroupRecord>(group_offset(number)));
    if (has_table_in(number, record, first, now)) return true;
    first += now;
    blocks -= now;
  }
  return false;
}

Result<u64> Ext2Volume::inode_offset(u32 inode) {
  if (!geometry_.has_inode(inode)) return std::unexpected(corrupt("there is no inode", inode));
  const Ext2GroupRecord record = TRY(group(geometry_.group_of_inode(inode)));
  const u32 index = (inode - 1) % geometry_.inodes_per_group;
  return geometry_.offset_of(record.inode_table) + u64{index} * geometry_.inode_bytes;
}

/// A table that could not be written is lost, with what it says of blocks that others have now.
Result<> Ext2Volume::sync_tables() {
  const Result<> done = store_.sync();
  if (done || read_only() || done.error() == Error::OutOfMemory) return done;
  return std::unexpected(corrupt("tables could not be written:", done.error()));
}

Result<> Ext2Volume::zero_block(u32 block) {
  TRY(fetch(geometry_.offset_of(block)));
  return change(geometry_.offset_of(block), geometry_.block_bytes(),
                [](std::span<u8> bytes) { __builtin_memset(bytes.data(), 0, bytes.size()); });
}

}  // namespace paean
