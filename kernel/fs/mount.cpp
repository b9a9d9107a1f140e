#include <algorithm>
#include <memory>

#include "kernel/fs/mount_table.hpp"
#include "kernel/fs/name_cache.hpp"
#include "kernel/fs/path.hpp"
#include "kernel/thread.hpp"
#include "kernel/wait.hpp"
#include "lib/log.hpp"
#include "mm/kmalloc.hpp"

namespace paean {

namespace {

constinit Mutex mount_lock{LockRank::Mount};
constinit Mount* first = nullptr;  // `/`, then in the order of mounting
constinit Inode* base = nullptr;   // root of the first one
constinit WaitQueue one_unpinned;

std::span<const FileSystemType* const> all_types() { return {__start_file_systems, __stop_file_systems}; }

Mount* mount_with_root(const Inode& root) {
  Mount* mount = first;
  while (mount != nullptr && &*mount->root != &root) mount = mount->next;
  return mount;
}

}  // namespace

Result<Mount*> MountTable::make(const FileSystemType& type, std::string_view source, std::string_view path,
                                MountMode mode) {
  void* place = TRY(kmalloc(sizeof(Mount), AllocFlags::Kernel));
  const Result<void*> text = kmalloc(static_cast<u32>(path.size() + 1), AllocFlags::Kernel);
  if (!text) {
    kfree(place);
    return std::unexpected(text.error());
  }
  Mount* mount = std::construct_at(static_cast<Mount*>(place));
  mount->type = &type;
  mount->path = static_cast<char*>(*text);
  *std::copy(path.begin(), path.end(), mount->path) = '\0';
  const std::string_view from = source.empty() ? std::string_view{type.name} : source;
  std::copy_n(from.begin(), std::min(from.size(), sizeof(mount->source) - 1), mount->source);
  const Result<SuperBlock*> super = type.mount(source, mode);
  if (super) {
    mount->super = *super;
    Result<InodeRef> root = find_inode(**super, (*super)->root_inode());
    if (root && root->operator->()->type == FileType::Directory) {
      mount->root = std::move(*root);
      (*super)->mount_ = mount;
      return mount;
    }
    const Error why = root ? Error::Corrupt : root.error();
    root = InodeRef{};
    end(mount);
    return std::unexpected(why);
  }
  end(mount);
  return std::unexpected(super.error());
}

/// It is in no list, and nobody uses it.
void MountTable::end(Mount* mount) {
  mount->root = InodeRef{};
  if (mount->super != nullptr) {
    InodeCache::drop_all(*mount->super);
    (void)mount->super->sync();  // what leaving inodes have written; a failure has been logged
    mount->type->unmount(mount->super);
  }
  kfree(mount->path);
  std::destroy_at(mount);
  kfree(mount);
}

/// The first type that takes it; if none does, the error that says most.
Result<Mount*> MountTable::make_any(std::string_view source, std::string_view path, std::string_view type,
                                    MountMode mode) {
  Error why = Error::NotSupported;
  for (const FileSystemType* each : all_types()) {
    if (!type.empty() && type != each->name) continue;
    const Result<Mount*> made = make(*each, source, path, mode);
    if (made) return made;
    if (made.error() != Error::NotSupported) why = made.error();
  }
  return std::unexpected(why);
}

void MountTable::append(Mount* mount, InodeRef covered) {
  Mount** end_of_list = &first;
  while (*end_of_list != nullptr) end_of_list = &(*end_of_list)->next;
  const SpinGuard<NoIrq> guard{names_lock};
  *end_of_list = mount;
  if (covered)
    covered->covered_by_ = mount;
  else
    base = &*mount->root;
  std::swap(mount->covered, covered);
}

/// False if what it should cover was removed meanwhile.
bool MountTable::attach(Mount* mount, InodeRef covered) {
  if (covered) {
    const WriteGuard names{covered->super->names};  // nobody removes a directory now
    if (covered->links == 0) return false;
    append(mount, std::move(covered));
    return true;
  }
  append(mount, {});
  return true;
}

Result<> MountTable::mount(std::string_view source, std::string_view path, std::string_view type, MountMode mode) {
  const MutexGuard guard{mount_lock};
  InodeRef covered{};
  if (first != nullptr) {
    covered = TRY(resolve(path, Links::Follow));
    if (covered->type != FileType::Directory) return std::unexpected(Error::NotDirectory);
  }
  while (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
  Mount* mount = TRY(make_any(source, path, type, mode));
  if (attach(mount, std::move(covered))) return {};
  end(mount);
  return std::unexpected(Error::NotFound);
}

/// Of its files, in memory.
static u32 dirty_pages(SuperBlock& super) {
  u32 pages = 0;
  const auto add = [](void* sum, Inode& inode) {
    if (inode.contents != nullptr) *static_cast<u32*>(sum) += inode.contents->dirty_pages();
  };
  InodeCache::for_each(super, add, &pages);
  return pages;
}

Result<> MountTable::unmount(std::string_view path, UnmountMode mode) {
  const MutexGuard guard{mount_lock};
  InodeRef root = TRY(resolve(path, Links::Follow));
  Mount* mount = mount_with_root(*root);
  if (mount == nullptr) return std::unexpected(Error::InvalidArgument);
  if (!mount->covered) return std::unexpected(Error::Busy);
  const u32 dirty = dirty_pages(*mount->super);
  Result<> written = InodeCache::write_all(*mount->super);
  if (written) written = mount->super->sync();
  if (!written && (mode == UnmountMode::Clean || written.error() == Error::OutOfMemory)) return written;
  TRY(take_away(mount, std::move(root)));
  if (!written) log_warning("{}: {}; given up with {} dirty pages of files", path, error_name(written.error()), dirty);
  return {};
}

/// Nobody visits it.
Result<> MountTable::leave_list(Mount* mount, const Inode& root) {
  // The mount's own reference and the caller's.
  if (!InodeCache::all_unused_locked(*mount->super, root, 2)) return std::unexpected(Error::Busy);
  mount->covered->covered_by_ = nullptr;
  Mount** link = &first;
  while (*link != mount) link = &(*link)->next;
  *link = mount->next;
  return {};
}

/// Everything is written that can be. `root` is the mount's, with a reference of the caller. Under the mount lock.
Result<> MountTable::take_away(Mount* mount, InodeRef root) {
  Result<> left{};
  one_unpinned.wait([&] {
    const SpinGuard<NoIrq> names{names_lock};
    if (mount->pins != 0) return false;
    left = leave_list(mount, *root);
    return true;
  });
  TRY(left);
  root = InodeRef{};
  end(mount);
  return {};
}

namespace {

constinit u32 leaving = 0;  // threads that have not done yet
constinit WaitQueue one_left;

void leave_one(void* super) {
  static_cast<SuperBlock*>(super)->leave();
  __atomic_fetch_sub(&leaving, 1, __ATOMIC_ACQ_REL);
  (void)one_left.wake_all();
}

}  // namespace

/// Each in a thread of its own, so that a disk that does not answer holds up no other. Nothing is unmounted: what is
/// open stays open, and is on the disk.
void MountTable::leave_all() {
  const MutexGuard guard{mount_lock};
  for (Mount* mount = first; mount != nullptr; mount = mount->next) {
    __atomic_fetch_add(&leaving, 1, __ATOMIC_ACQ_REL);
    if (!thread_create("leave", leave_one, mount->super, {.detach = Detach::Yes})) leave_one(mount->super);
  }
  one_left.wait([] { return __atomic_load_n(&leaving, __ATOMIC_ACQUIRE) == 0; });
}

/// The next one is pinned before this one is let go, so that the way through the list is never lost.
template <typename Visit>
void MountTable::for_each_pinned(Visit visit) {
  Mount* mount = nullptr;
  while (true) {
    bool unpinned = false;
    {
      const SpinGuard<NoIrq> names{names_lock};
      Mount* const last = mount;
      mount = last == nullptr ? first : last->next;
      if (mount != nullptr) ++mount->pins;
      if (last != nullptr) unpinned = --last->pins == 0;
    }
    if (unpinned) (void)one_unpinned.wake_all();
    if (mount == nullptr) return;
    visit(*mount);
  }
}

Result<> MountTable::sync() {
  Result<> result{};
  for_each_pinned([&](Mount& mount) {
    if (const Result<> written = InodeCache::write_all(*mount.super); !written && result) result = written;
    if (const Result<> synced = mount.super->sync(); !synced && result) result = synced;
  });
  return result;
}

void MountTable::for_each(void (*visit)(void* context, const MountInfo& mount), void* context) {
  for_each_pinned([&](Mount& mount) { visit(context, {mount.source, mount.path, mount.type->name, *mount.super}); });
}

InodeRef MountTable::cross_locked(InodeRef inode) {
  // What is covered has the mount's reference too, so that giving ours back here never is the last.
  while (inode->covered_by_ != nullptr) inode = InodeCache::share_locked(*inode->covered_by_->root);
  return inode;
}

InodeRef MountTable::cross(InodeRef inode) {
  const SpinGuard<NoIrq> guard{names_lock};
  return cross_locked(std::move(inode));
}

InodeRef MountTable::start() {
  const SpinGuard<NoIrq> guard{names_lock};
  return cross_locked(InodeCache::share_locked(*base));
}

Result<InodeRef> MountTable::parent_of(InodeRef directory) {
  // Holding an inode of it keeps a file system mounted, so mount_ and covered stay.
  while (is_root(*directory)) {
    const Mount* mount = directory->super->mount_;
    if (!mount->covered) return cross(std::move(directory));
    directory = mount->covered.clone();
  }
  return step_to(*directory, "..");
}

bool MountTable::is_covered(const Inode& inode) {
  const SpinGuard<NoIrq> guard{names_lock};
  return inode.covered_by_ != nullptr;
}

Result<> mount(std::string_view source, std::string_view path, std::string_view type, MountMode mode) {
  return MountTable::mount(source, path, type, mode);
}
Result<> unmount(std::string_view path, UnmountMode mode) { return MountTable::unmount(path, mode); }
Result<> sync_file_systems() { return MountTable::sync(); }
void for_each_mount(void (*visit)(void* context, const MountInfo& mount), void* context) {
  MountTable::for_each(visit, context);
}

void init_files() {
  InodeCache::init();
  NameCache::init();
  if (const Result<> mounted = mount({}, "/", "tmpfs", MountMode::ReadWrite); !mounted) {
    panic("no memory for the first file system: {}", error_name(mounted.error()));
  }
}

}  // namespace paean
