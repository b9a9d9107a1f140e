// Bytes in and out of open files.
#include "kernel/fs/open_file.hpp"

namespace paean {

namespace {

/// What reading means for things that are no files with contents.
[[gnu::cold]] Result<u32> read_nothing(const OpenFile& file) {
  if (!file.has(OpenMode::Read)) return std::unexpected(Error::InvalidArgument);
  if (file.inode->type == FileType::Directory) return std::unexpected(Error::IsDirectory);
  return 0;
}

enum class Place : u8 { Given, End };

Result<u32> write_at(OpenFile& file, u64& offset, Place place, CopySource from) {
  if (!file.has(OpenMode::Write)) return std::unexpected(Error::InvalidArgument);
  if (from.empty()) return 0;
  Inode& inode = *file.inode;
  const MutexGuard guard{inode.mutex};
  if (place == Place::End) offset = inode.size();
  if (offset > kMaxFileBytes || kMaxFileBytes - offset < from.size()) return std::unexpected(Error::TooLarge);
  const Result<u32> done = inode.contents->write(offset, from);
  if (done) touch_contents(inode);
  return done;
}

}  // namespace

Result<u32> read_file_at(OpenFile& file, u64 offset, CopyTarget into) {
  AddressSpace* contents = file.inode->contents;
  if (contents == nullptr || !file.has(OpenMode::Read) || file.inode->type != FileType::Regular) [[unlikely]]
    return read_nothing(file);
  return contents->read(offset, into, &file.ahead);
}

Result<u32> read_file(OpenFile& file, CopyTarget into) {
  const Result<u32> got = read_file_at(file, file.position, into);
  if (got) file.position += *got;
  return got;
}

Result<u32> write_file(OpenFile& file, CopySource from) {
  u64 offset = file.position;
  const Place place = file.has(OpenMode::Append) ? Place::End : Place::Given;
  const Result<u32> done = write_at(file, offset, place, from);
  if (done) file.position = offset + *done;
  return done;
}

Result<u32> write_file_at(OpenFile& file, u64 offset, CopySource from) {
  return write_at(file, offset, Place::Given, from);
}

Result<u64> seek_file(OpenFile& file, i64 distance, SeekFrom from) {
  u64 start = 0;
  if (from == SeekFrom::Current) start = file.position;
  if (from == SeekFrom::End) {
    const MutexGuard guard{file.inode->mutex};
    start = file.inode->size();
  }
  const u64 position = start + static_cast<u64>(distance);
  const bool wrapped = distance < 0 ? position > start : position < start;
  if (wrapped || position > static_cast<u64>(~u64{0} >> 1)) return std::unexpected(Error::InvalidArgument);
  file.position = position;
  return position;
}

Result<> read_directory(OpenFile& directory, DirectoryVisitor visit, void* context) {
  Inode& inode = *directory.inode;
  if (inode.type != FileType::Directory) return std::unexpected(Error::NotDirectory);
  const ReadGuard names{inode.super->names};
  const MutexGuard guard{inode.mutex};
  if (inode.links == 0) return {};
  return inode.super->read_directory(inode, directory.position, visit, context);
}

}  // namespace paean
