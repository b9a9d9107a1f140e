// Calls that change names: make, remove, link, rename.
#include "kernel/fs/name_cache.hpp"
#include "kernel/fs/open_file.hpp"
#include "kernel/fs/path.hpp"

namespace paean {

namespace {

/// The way to a name that is to be made or removed.
Result<> walk_to_name(PathWalk& walk, std::string_view path) {
  TRY(walk.begin(path));
  return walk.to_last();
}

/// NotFound is what the caller wants.
Result<> check_absent(Inode& directory, std::string_view name) {
  const Result<InodeRef> found = look_up(directory, name);
  if (found) return std::unexpected(Error::Exists);
  if (found.error() != Error::NotFound || directory.links == 0) return std::unexpected(found.error());
  return check_writable(directory);
}

/// `make(directory, name)` makes it, once it is clear that the name is free.
template <typename Make>
Result<> make_name(PathWalk& walk, Make make) {
  if (!walk.is_plain_name()) return std::unexpected(Error::Exists);
  Inode& directory = walk.directory();
  const ReadGuard names{directory.super->names};
  const MutexGuard guard{directory.mutex};
  TRY(check_absent(directory, walk.last()));
  const u32 number = TRY(make(directory, walk.last()));
  NameCache::set(directory, walk.last(), number);
  return {};
}

/// Neither a mount point nor, on a disk that says so, the root; and its directory may be changed.
Result<> check_removable(const Inode& directory, const Inode& inode) {
  TRY(check_writable(directory));
  if (MountTable::is_covered(inode) || MountTable::is_root(inode)) return std::unexpected(Error::Busy);
  if (inode.is_swap.load()) return std::unexpected(Error::Busy);
  return {};
}

/// With names locked for writing: is `directory` inside of `tree`, or the same?
Result<bool> is_inside(Inode& directory, const Inode& tree) {
  constexpr u32 kDeepest = 1u << 16;  // a disk may lie about its parents
  InodeRef at = InodeCache::share(directory);
  for (u32 depth = 0; depth < kDeepest; ++depth) {
    if (&*at == &tree) return true;
    if (MountTable::is_root(*at)) return false;
    at = TRY(look_up(*at, ".."));
  }
  return std::unexpected(Error::Corrupt);
}

struct Move {
  Inode& from;
  std::string_view name;
  Inode& to;
  std::string_view new_name;
  bool directory_wanted;  // a slash stands behind one of the names
};

/// POSIX's conditions for what a name may replace.
Result<> check_move(const Move& move, const Inode& inode, const Inode* replaced) {
  TRY(check_removable(move.from, inode));
  const bool directory = inode.type == FileType::Directory;
  if (move.directory_wanted && !directory) return std::unexpected(Error::NotDirectory);
  if (directory && TRY(is_inside(move.to, inode))) return std::unexpected(Error::InvalidArgument);
  if (replaced == nullptr) return {};
  TRY(check_removable(move.to, *replaced));
  if (directory && replaced->type != FileType::Directory) return std::unexpected(Error::NotDirectory);
  if (!directory && replaced->type == FileType::Directory) return std::unexpected(Error::IsDirectory);
  return {};
}

/// What is moved, and what it replaces, if anything. Outlives the locks: what was replaced goes after their release.
struct Moved {
  InodeRef inode{}, replaced{};
};

/// Names are locked for writing, or the one directory that both names are in.
Result<> find_moved(const Move& move, Moved& moved) {
  moved.inode = TRY(look_up(move.from, move.name));
  Result<InodeRef> there = look_up(move.to, move.new_name);
  if (!there && (there.error() != Error::NotFound || move.to.links == 0)) return std::unexpected(there.error());
  if (there) moved.replaced = std::move(*there);
  return {};
}

Result<> move_locked(const Move& move, Moved& moved) {
  auto& [inode, replaced] = moved;
  if (replaced && &*replaced == &*inode) return {};
  TRY(check_move(move, *inode, replaced ? &*replaced : nullptr));
  SuperBlock& super = *move.from.super;
  if (replaced && replaced->type != FileType::Directory) {
    const MutexGuard guard{replaced->mutex};
    TRY(super.rename(move.from, move.name, move.to, move.new_name, *inode, &*replaced));
  } else {
    TRY(super.rename(move.from, move.name, move.to, move.new_name, *inode, replaced ? &*replaced : nullptr));
  }
  NameCache::set(move.from, move.name, 0);
  NameCache::set(move.to, move.new_name, inode->number);
  if (inode->type == FileType::Directory) NameCache::forget(*inode, "..");
  if (replaced && replaced->type == FileType::Directory) NameCache::forget(*replaced, "..");
  return {};
}

/// No directory moves or goes, so the tree stays as it is and nobody else need wait. False: it is not such a move.
Result<bool> move_file_in_directory(const Move& move, Moved& moved) {
  if (&move.from != &move.to) return false;
  const ReadGuard names{move.from.super->names};
  const MutexGuard guard{move.from.mutex};
  TRY(find_moved(move, moved));
  const auto is_directory = [](const InodeRef& inode) { return inode && inode->type == FileType::Directory; };
  if (is_directory(moved.inode) || is_directory(moved.replaced)) return false;
  TRY(move_locked(move, moved));
  return true;
}

}  // namespace

Result<> make_directory(std::string_view path, u16 permissions) {
  PathWalk walk;
  TRY(walk_to_name(walk, path));
  return make_name(walk, [&](Inode& directory, std::string_view name) {
    return directory.super->create(directory, name, FileType::Directory, permissions & 07777);
  });
}

Result<> make_symlink(std::string_view target, std::string_view path) {
  if (target.empty()) return std::unexpected(Error::NotFound);
  if (target.size() > kMaxPath) return std::unexpected(Error::NameTooLong);
  PathWalk walk;
  TRY(walk_to_name(walk, path));
  if (walk.wants_directory()) return std::unexpected(Error::NotFound);
  return make_name(walk, [&](Inode& directory, std::string_view name) {
    return directory.super->create_symlink(directory, name, target);
  });
}

Result<> link_file(std::string_view existing, std::string_view path) {
  InodeRef inode = TRY(resolve(existing, Links::DoNotFollow));
  if (inode->type == FileType::Directory) return std::unexpected(Error::IsDirectory);
  PathWalk walk;
  TRY(walk_to_name(walk, path));
  if (walk.wants_directory()) return std::unexpected(Error::NotFound);
  if (walk.directory().super != inode->super) return std::unexpected(Error::CrossDevice);
  return make_name(walk, [&](Inode& directory, std::string_view name) -> Result<u32> {
    const MutexGuard guard{inode->mutex};
    if (inode->links == 0) return std::unexpected(Error::NotFound);  // removed meanwhile
    TRY(directory.super->link(directory, name, *inode));
    return inode->number;
  });
}

Result<> remove_file(std::string_view path) {
  PathWalk walk;
  TRY(walk_to_name(walk, path));
  if (!walk.is_plain_name()) return std::unexpected(Error::IsDirectory);
  Inode& directory = walk.directory();
  InodeRef inode{};  // goes last: a file without names goes with it, which takes its time
  const ReadGuard names{directory.super->names};
  const MutexGuard guard{directory.mutex};
  inode = TRY(look_up(directory, walk.last()));
  if (inode->type == FileType::Directory) return std::unexpected(Error::IsDirectory);
  if (walk.wants_directory()) return std::unexpected(Error::NotDirectory);
  TRY(check_writable(directory));
  if (inode->is_swap.load()) return std::unexpected(Error::Busy);
  const MutexGuard file{inode->mutex};
  TRY(directory.super->unlink(directory, walk.last(), *inode));
  NameCache::set(directory, walk.last(), 0);
  return {};
}

Result<> remove_directory(std::string_view path) {
  PathWalk walk;
  TRY(walk_to_name(walk, path));
  if (walk.last() == ".") return std::unexpected(Error::InvalidArgument);
  if (walk.last() == "..") return std::unexpected(Error::NotEmpty);
  if (walk.last().empty()) return std::unexpected(Error::Busy);
  Inode& directory = walk.directory();
  InodeRef inode{};
  const WriteGuard names{directory.super->names};
  inode = TRY(look_up(directory, walk.last()));
  if (inode->type != FileType::Directory) return std::unexpected(Error::NotDirectory);
  TRY(check_removable(directory, *inode));
  TRY(directory.super->remove_directory(directory, walk.last(), *inode));
  NameCache::set(directory, walk.last(), 0);
  NameCache::forget(*inode, "..");
  return {};
}

Result<> rename_file(std::string_view from, std::string_view to) {
  PathWalk source, target;
  TRY(walk_to_name(source, from));
  TRY(walk_to_name(target, to));
  if (!source.is_plain_name() || !target.is_plain_name()) return std::unexpected(Error::InvalidArgument);
  if (source.directory().super != target.directory().super) return std::unexpected(Error::CrossDevice);
  const Move move{source.directory(), source.last(), target.directory(), target.last(),
                  source.wants_directory() || target.wants_directory()};
  Moved moved;
  if (TRY(move_file_in_directory(move, moved))) return {};
  moved = {};
  const WriteGuard names{move.from.super->names};
  TRY(find_moved(move, moved));
  return move_locked(move, moved);
}

}  // namespace paean
