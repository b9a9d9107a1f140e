// What is known of a file, and of the file system that it lies in.
#include "kernel/fs/file_time.hpp"
#include "kernel/fs/open_file.hpp"
#include "kernel/fs/path.hpp"

namespace paean {

namespace {

FileStatus status_of(Inode& inode) {
  const MutexGuard guard{inode.mutex};
  return {.type = inode.type,
          .permissions = inode.permissions,
          .inode = inode.number,
          .links = inode.links,
          .uid = inode.uid,
          .gid = inode.gid,
          .device = inode.device,
          .size = inode.size(),
          .blocks_512 = inode.blocks_512,
          .accessed = inode.accessed,
          .modified = inode.modified,
          .changed = inode.changed};
}

Result<> change(Inode& inode, const FileChange& change) {
  const MutexGuard guard{inode.mutex};
  TRY(check_writable(inode));
  inode.permissions = change.permissions.value_or(inode.permissions);
  inode.uid = change.uid.value_or(inode.uid);
  inode.gid = change.gid.value_or(inode.gid);
  inode.accessed = change.accessed.value_or(inode.accessed);
  inode.modified = change.modified.value_or(inode.modified);
  inode.changed = file_time_now();
  inode.attributes_dirty = true;
  return {};
}

}  // namespace

Result<> change_file(std::string_view path, const FileChange& wanted, Links links) {
  const InodeRef inode = TRY(resolve(path, links));
  return change(*inode, wanted);
}

Result<> change_file(OpenFile& file, const FileChange& wanted) { return change(*file.inode, wanted); }

Result<FileStatus> status_of(std::string_view path, Links links) {
  const InodeRef inode = TRY(resolve(path, links));
  return status_of(*inode);
}

FileStatus status_of(OpenFile& file) { return status_of(*file.inode); }

Result<u32> read_symlink(std::string_view path, std::span<char> into) {
  const InodeRef inode = TRY(resolve(path, Links::DoNotFollow));
  if (inode->type != FileType::Symlink) return std::unexpected(Error::InvalidArgument);
  return inode->super->read_link(*inode, into);
}

Result<FsStatistics> statistics_of(std::string_view path) {
  const InodeRef inode = TRY(resolve(path, Links::Follow));
  return inode->super->statistics();
}

}  // namespace paean
