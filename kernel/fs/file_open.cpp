// Opening, closing, and what works on the whole file.
#include <memory>

#include "kernel/fs/file_time.hpp"
#include "kernel/fs/name_cache.hpp"
#include "kernel/fs/open_file.hpp"
#include "kernel/fs/path.hpp"
#include "lib/log.hpp"
#include "mm/kmalloc.hpp"

namespace paean {

namespace {

constexpr bool has(OpenMode mode, OpenMode bit) { return (static_cast<u32>(mode) & static_cast<u32>(bit)) != 0; }

/// Memory for an open file.
class SpareFile {
 public:
  SpareFile() = default;
  SpareFile(const SpareFile&) = delete;
  SpareFile& operator=(const SpareFile&) = delete;
  ~SpareFile() { kfree(place_); }
  Result<> take() {
    place_ = TRY(kmalloc(sizeof(OpenFile), AllocFlags::Kernel));
    return {};
  }
  OpenFile* release() { return static_cast<OpenFile*>(std::exchange(place_, nullptr)); }

 private:
  void* place_ = nullptr;
};

/// The directory is locked. A file that cannot be read into memory loses its name again: the caller was not served.
Result<InodeRef> create_here(Inode& directory, std::string_view name, u16 permissions, SpareInode spare) {
  SuperBlock& super = *directory.super;
  const u32 number = TRY(super.create(directory, name, FileType::Regular, permissions & 07777));
  Result<InodeRef> made = InodeCache::find(super, number, std::move(spare));
  if (made) {
    NameCache::set(directory, name, number);
  } else if (const Result<> undone = super.undo_create(directory, name, number); !undone) {
    log_warning("{}: inode {} was made, but is not known: {}", super.type(), number, error_name(undone.error()));
  }
  return made;
}

/// The last name of the walk, made if it is not there.
Result<InodeRef> find_or_create(PathWalk& walk, OpenMode mode, u16 permissions) {
  if (!walk.is_plain_name()) return has(mode, OpenMode::Exclusive) ? std::unexpected(Error::Exists) : walk.find_last();
  Inode& directory = walk.directory();
  SpareInode spare = TRY(SpareInode::take());
  Result<InodeRef> found{};
  {
    const ReadGuard names{directory.super->names};
    const MutexGuard guard{directory.mutex};
    found = look_up(directory, walk.last());
    if (!found && found.error() == Error::NotFound && directory.links != 0) {
      if (walk.wants_directory()) return std::unexpected(Error::IsDirectory);
      TRY(check_writable(directory));
      return create_here(directory, walk.last(), permissions, std::move(spare));
    }
  }
  if (found && has(mode, OpenMode::Exclusive)) return std::unexpected(Error::Exists);
  if (!found) return found;
  return MountTable::cross(std::move(*found));
}

Result<InodeRef> find_to_open(std::string_view path, OpenMode mode, u16 permissions) {
  if (!has(mode, OpenMode::Create)) return resolve(path, Links::Follow);
  PathWalk walk;
  TRY(walk.begin(path));
  while (true) {
    TRY(walk.to_last());
    InodeRef found = TRY(find_or_create(walk, mode, permissions));
    if (found->type != FileType::Symlink) {
      if (walk.wants_directory() && found->type != FileType::Directory) return std::unexpected(Error::NotDirectory);
      return found;
    }
    TRY(walk.follow(*found));
  }
}

Result<> check_opening(const Inode& inode, OpenMode mode) {
  const bool changes = has(mode, OpenMode::Write) || has(mode, OpenMode::Truncate);
  if (inode.type == FileType::Directory) {
    if (changes || has(mode, OpenMode::Create)) return std::unexpected(Error::IsDirectory);
    return {};
  }
  if (has(mode, OpenMode::Directory)) return std::unexpected(Error::NotDirectory);
  if (inode.type != FileType::Regular) return std::unexpected(Error::NotSupported);
  if (has(mode, OpenMode::Truncate) && !has(mode, OpenMode::Write)) return std::unexpected(Error::InvalidArgument);
  return changes ? check_writable(inode) : Result<>{};
}

}  // namespace

Result<> check_writable(const Inode& inode) {
  if (inode.super->read_only()) return std::unexpected(Error::ReadOnly);
  if (inode.is_swap.load()) return std::unexpected(Error::Busy);
  return {};
}

void touch_contents(Inode& inode) {
  inode.modified = inode.changed = file_time_now();
  inode.attributes_dirty = true;
}

Result<> set_size(Inode& inode, u64 size) {
  if (size > kMaxFileBytes) return std::unexpected(Error::TooLarge);
  TRY(check_writable(inode));
  if (size < inode.size()) {
    TRY(inode.contents->truncate(size));
    touch_contents(inode);
    return inode.super->truncate(inode, size);
  }
  TRY(inode.super->truncate(inode, size));
  inode.contents->grow(size);
  touch_contents(inode);
  return {};
}

Result<OpenFile*> open_file(std::string_view path, OpenMode mode, u16 permissions) {
  if (!has(mode, OpenMode::Read) && !has(mode, OpenMode::Write)) return std::unexpected(Error::InvalidArgument);
  SpareFile spare;  // before anything is created or cut
  TRY(spare.take());
  InodeRef inode = TRY(find_to_open(path, mode, permissions));
  TRY(check_opening(*inode, mode));
  if (has(mode, OpenMode::Truncate)) {
    const MutexGuard guard{inode->mutex};
    if (inode->size() != 0) TRY(set_size(*inode, 0));
  }
  return std::construct_at(spare.release(), std::move(inode), mode);
}

void close_file(OpenFile* file) {
  std::destroy_at(file);
  kfree(file);
}

Inode& file_inode(OpenFile& file) { return *file.inode; }

Result<> truncate_file(OpenFile& file, u64 size) {
  if (!file.has(OpenMode::Write)) return std::unexpected(Error::InvalidArgument);
  const MutexGuard guard{file.inode->mutex};
  return set_size(*file.inode, size);
}

Result<> truncate_path(std::string_view path, u64 size) {
  const InodeRef inode = TRY(resolve(path, Links::Follow));
  TRY(check_opening(*inode, OpenMode::Write));
  const MutexGuard guard{inode->mutex};
  return set_size(*inode, size);
}

Result<> sync_file(OpenFile& file) {
  const Result<> synced = file.inode->super->sync_inode(*file.inode);
  AddressSpace* contents = file.inode->contents;
  // Whether or not somebody else, who synced before, has been told.
  const Result<> errors = contents == nullptr ? Result<>{} : contents->errors_since(file.known_errors);
  return synced ? errors : synced;
}

}  // namespace paean
