#include "kernel/fs/ext2_core.hpp"

#include <algorithm>

namespace paean {

namespace {

constexpr u32 kShortLink = sizeof(Ext2InodeRecord::block);  // targets below this lie in the inode
constexpr u64 kSmallFile = u64{1} << 31;

bool is_dots(std::string_view name) { return name == "." || name == ".."; }

bool is_directory(const Ext2InodeRecord& record) { return (record.mode & kExt2ModeType) == kExt2ModeDirectory; }

}  // namespace

Result<> Ext2::check_name(std::string_view name) {
  if (name.empty() || is_dots(name)) return std::unexpected(Error::InvalidArgument);
  if (name.size() > kExt2NameLimit) return std::unexpected(Error::NameTooLong);
  return {};
}

Result<> Ext2::mount(u64 device_bytes, Ext2Mode mode) {
  TRY(volume_.open(device_bytes, mode));
  const Ext2InodeRecord root = TRY(inodes_.get(kExt2RootInode));
  if (!is_directory(root)) return std::unexpected(volume_.corrupt("no directory: inode", kExt2RootInode));
  return {};
}

Ext2InodeRecord Ext2::fresh(u16 mode, u16 links) const {
  Ext2InodeRecord record{};
  record.mode = mode;
  record.links = links;
  record.accessed = record.modified = record.changed = volume_.store().now();
  return record;
}

/// A directory without links is one that was removed while somebody is in it.
Result<Ext2InodeRecord> Ext2::open_directory(u32 inode) {
  const Ext2InodeRecord record = TRY(inodes_.get_raw(inode));
  if (!is_directory(record)) return std::unexpected(Error::NotDirectory);
  if (record.links == 0) return std::unexpected(Error::NotFound);
  return record;
}

Result<> Ext2::add_name(u32 directory, std::string_view name, u32 inode, u16 mode) {
  TRY(check_name(name));
  Ext2InodeRecord record = TRY(open_directory(directory));
  const Result<> added = directory_.add(directory, record, name, inode, ext2_entry_type(mode));
  if (added || !volume_.read_only()) TRY(inodes_.put(directory, record));
  return added;
}

Result<> Ext2::remove_name(u32 directory, std::string_view name, u32 inode) {
  TRY(check_name(name));
  Ext2InodeRecord record = TRY(open_directory(directory));
  TRY(directory_.remove(record, name, inode));
  return inodes_.put(directory, record);
}

Result<> Ext2::add_links(u32 inode, i32 links) {
  Ext2InodeRecord record = TRY(inodes_.get(inode));
  if (links > 0 && record.links >= kExt2LinkLimit) return std::unexpected(Error::TooManyLinks);
  if (links + record.links < 0) return std::unexpected(volume_.corrupt("too few links: inode", inode));
  record.links = static_cast<u16>(record.links + links);
  record.changed = volume_.store().now();
  return inodes_.put(inode, record);
}

Result<> Ext2::destroy_new(u32 inode) {
  Ext2InodeRecord record = TRY(inodes_.get_raw(inode));
  record.links = 0;
  TRY(inodes_.put(inode, record));
  return inodes_.destroy(inode);
}

/// A new inode whose name could not be made.
void Ext2::forget_new(u32 inode) {
  const Result<> done = destroy_new(inode);
  if (done || volume_.read_only()) return;
  if (done.error() == Error::OutOfMemory && waiting_count_ < kMostWaiting) {
    waiting_[waiting_count_++] = inode;
    return;
  }
  (void)volume_.corrupt("cannot be freed: inode", inode);
}

Result<> Ext2::destroy_waiting() {
  while (waiting_count_ > 0 && !volume_.read_only()) {
    TRY(destroy_new(waiting_[waiting_count_ - 1]));
    --waiting_count_;
  }
  return {};
}

Result<> Ext2::write_super() {
  const Result<> done = destroy_waiting();
  if (!done && done.error() != Error::OutOfMemory) return done;
  return volume_.write_super();
}

Result<> Ext2::unmount() {
  TRY(destroy_waiting());
  return volume_.close();
}

Result<u32> Ext2::create_with(u32 directory, std::string_view name, const Ext2InodeRecord& record) {
  TRY(check_name(name));
  TRY(volume_.writable());
  const u32 inode = TRY(inodes_.create(directory, record));
  const Result<> added = add_name(directory, name, inode, record.mode);
  if (added) return inode;
  forget_new(inode);
  return std::unexpected(added.error());
}

Result<u32> Ext2::lookup(u32 directory, std::string_view name) {
  if (name.size() > kExt2NameLimit) return std::unexpected(Error::NameTooLong);
  const Ext2InodeRecord record = TRY(open_directory(directory));
  const Ext2Directory::Found found = TRY(directory_.find(record, name));
  return found.inode;
}

Result<u32> Ext2::create(u32 directory, std::string_view name, u16 mode) {
  return create_with(directory, name, fresh(mode, 1));
}

Result<u32> Ext2::make_directory(u32 directory, std::string_view name, u16 permissions) {
  TRY(check_name(name));
  TRY(volume_.writable());
  const Ext2InodeRecord parent = TRY(open_directory(directory));
  if (parent.links >= kExt2LinkLimit) return std::unexpected(Error::TooManyLinks);
  Ext2InodeRecord record = fresh(static_cast<u16>(kExt2ModeDirectory | permissions), 2);
  const u32 inode = TRY(inodes_.create(directory, record));
  record = TRY(inodes_.get(inode));
  Result<> made = directory_.make(inode, record, directory);
  TRY(inodes_.put(inode, record));
  if (made) made = add_name(directory, name, inode, record.mode);
  if (!made) {
    forget_new(inode);
    return std::unexpected(made.error());
  }
  TRY(add_links(directory, 1));
  return inode;
}

Result<> Ext2::fill_symlink(u32 inode, std::string_view target) {
  Ext2InodeRecord record = TRY(inodes_.get(inode));
  if (target.size() < kShortLink) {
    __builtin_memcpy(record.block, target.data(), target.size());
    record.size = static_cast<u32>(target.size());
    return inodes_.put(inode, record);
  }
  const Result<Ext2NewBlock> found = inodes_.need(inode, record, 0, Ext2Inodes::Use::Table);
  if (found) record.size = static_cast<u32>(target.size());
  TRY(inodes_.put(inode, record));
  if (!found) return std::unexpected(found.error());
  return volume_.change(geometry().offset_of(found->block), geometry().block_bytes(), [&](std::span<u8> bytes) {
    __builtin_memset(bytes.data(), 0, bytes.size());
    __builtin_memcpy(bytes.data(), target.data(), target.size());
  });
}

Result<u32> Ext2::make_symlink(u32 directory, std::string_view name, std::string_view target) {
  constexpr u16 kEverybody = 0777;
  if (target.empty()) return std::unexpected(Error::InvalidArgument);
  if (target.size() >= geometry().block_bytes()) return std::unexpected(Error::NameTooLong);
  const u32 inode = TRY(create_with(directory, name, fresh(kExt2ModeSymlink | kEverybody, 1)));
  const Result<> filled = fill_symlink(inode, target);
  if (filled) return inode;
  TRY(remove_name(directory, name, inode));
  forget_new(inode);
  return std::unexpected(filled.error());
}

Result<> Ext2::link(u32 directory, std::string_view name, u32 inode) {
  TRY(volume_.writable());
  const Ext2InodeRecord record = TRY(inodes_.get_raw(inode));
  if (record.links == 0) return std::unexpected(Error::NotFound);
  if (is_directory(record)) return std::unexpected(Error::IsDirectory);
  if (record.links >= kExt2LinkLimit) return std::unexpected(Error::TooManyLinks);
  TRY(add_name(directory, name, inode, record.mode));
  return add_links(inode, 1);
}

Result<> Ext2::unlink(u32 directory, std::string_view name, u32 inode) {
  TRY(volume_.writable());
  if (is_directory(TRY(inodes_.get(inode)))) return std::unexpected(Error::IsDirectory);
  TRY(remove_name(directory, name, inode));
  return add_links(inode, -1);
}

Result<> Ext2::remove_directory(u32 directory, std::string_view name, u32 inode) {
  TRY(volume_.writable());
  Ext2InodeRecord record = TRY(inodes_.get(inode));
  if (!is_directory(record)) return std::unexpected(Error::NotDirectory);
  if (inode == kExt2RootInode) return std::unexpected(Error::Busy);
  if (!TRY(directory_.empty(record))) return std::unexpected(Error::NotEmpty);
  TRY(remove_name(directory, name, inode));
  record.links = 0;
  record.changed = volume_.store().now();
  TRY(inodes_.put(inode, record));
  return add_links(directory, -1);
}

Result<> Ext2::next_entry(u32 directory, u64& cursor, Ext2Entry& entry) {
  const Result<Ext2InodeRecord> record = open_directory(directory);
  if (!record) return std::unexpected(record.error());
  return directory_.next(*record, cursor, entry);
}

Result<u32> Ext2::read_link(u32 inode, std::span<char> into) {
  const Ext2InodeRecord record = TRY(inodes_.get_raw(inode));
  if ((record.mode & kExt2ModeType) != kExt2ModeSymlink) return std::unexpected(Error::InvalidArgument);
  const u32 bytes = std::min<u32>(record.size, into.size());
  const u32 attributes = record.attribute_block != 0 ? geometry().sectors_per_block() : 0;
  const bool in_inode = record.blocks_512 <= attributes;
  if (record.size >= (in_inode ? kShortLink : geometry().block_bytes())) {
    return std::unexpected(volume_.corrupt("length of the symbolic link, inode", inode));
  }
  if (in_inode) {
    __builtin_memcpy(into.data(), record.block, bytes);
    return bytes;
  }
  const Ext2Run run = TRY(inodes_.map(record, 0, 1));
  if (run.block == 0) return std::unexpected(volume_.corrupt("a symbolic link without a target, inode", inode));
  TRY(volume_.view(geometry().offset_of(run.block), geometry().block_bytes(),
                   [&](std::span<const u8> found) { __builtin_memcpy(into.data(), found.data(), bytes); }));
  return bytes;
}

/// Before anything else of the file changes.
Result<> Ext2::allow_size(u64 size) {
  if (size > inodes_.largest_size()) return std::unexpected(Error::TooLarge);
  return size >= kSmallFile ? volume_.allow_large_files() : Result<>{};
}

void Ext2::set_size(Ext2InodeRecord& record, u64 size) {
  record.size = static_cast<u32>(size);
  record.size_high = static_cast<u32>(size >> 32);
}

Result<> Ext2::set_attributes(u32 inode, const Ext2Attributes& attributes) {
  TRY(volume_.writable());
  Ext2InodeRecord record = TRY(inodes_.get_raw(inode));
  const bool is_file = (record.mode & kExt2ModeType) == kExt2ModeFile;
  if (is_file) TRY(allow_size(attributes.size));
  record.mode = static_cast<u16>((record.mode & kExt2ModeType) | (attributes.permissions & ~kExt2ModeType));
  record.uid = static_cast<u16>(attributes.uid);
  record.uid_high = static_cast<u16>(attributes.uid >> 16);
  record.gid = static_cast<u16>(attributes.gid);
  record.gid_high = static_cast<u16>(attributes.gid >> 16);
  record.accessed = attributes.accessed;
  record.modified = attributes.modified;
  record.changed = attributes.changed;
  if (is_file) set_size(record, attributes.size);
  return inodes_.put(inode, record);
}

Result<Ext2Run> Ext2::map_to_write(const Ext2InodeRecord& record, u32 first, u32 limit) {
  const Ext2Run run = TRY(inodes_.map(record, first, limit));
  if (run.block != 0 && TRY(volume_.has_table(run.block, run.blocks))) {
    return std::unexpected(volume_.corrupt("a file points to a table, block", run.block));
  }
  return run;
}

Result<Ext2NewBlock> Ext2::need_block(u32 inode, u32 file_block, u64 end) {
  TRY(volume_.writable());
  Ext2InodeRecord record = TRY(inodes_.get_raw(inode));
  const bool grows = end > Ext2Inodes::size_of(record);
  if (grows) TRY(allow_size(end));
  const Result<Ext2NewBlock> found = inodes_.need(inode, record, file_block, Ext2Inodes::Use::Pages);
  if (found && grows) set_size(record, end);
  if (!volume_.read_only()) TRY(inodes_.put(inode, record));
  return found;
}

Result<> Ext2::punch_block(u32 inode, u32 file_block) {
  TRY(volume_.writable());
  Ext2InodeRecord record = TRY(inodes_.get_raw(inode));
  const Result<> punched = inodes_.punch(record, file_block);
  if (!volume_.read_only()) TRY(inodes_.put(inode, record));
  return punched;
}

Result<> Ext2::truncate(u32 inode, u64 size) {
  TRY(volume_.writable());
  Ext2InodeRecord record = TRY(inodes_.get_raw(inode));
  if ((record.mode & kExt2ModeType) != kExt2ModeFile) return std::unexpected(Error::InvalidArgument);
  TRY(allow_size(size));
  const u64 keep = (size + geometry().block_bytes() - 1) >> geometry().block_shift;
  const Result<> cut = inodes_.cut(inode, record, static_cast<u32>(std::min<u64>(keep, ~0u)));
  if (cut) set_size(record, size);
  record.modified = record.changed = volume_.store().now();
  if (!volume_.read_only()) TRY(inodes_.put(inode, record));
  return cut;
}

}  // namespace paean
