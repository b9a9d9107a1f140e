#include "kernel/fs/tmpfs.hpp"

#include <algorithm>
#include <memory>

#include "kernel/fs/file_time.hpp"
#include "mm/kmalloc.hpp"
#include "mm/zone.hpp"

namespace paean {

namespace {

template <typename Node, typename... Arguments>
Result<Node*> make_node(FileType type, u16 permissions, u32 more_bytes, Arguments&&... arguments) {
  void* place = TRY(kmalloc(static_cast<u32>(sizeof(Node)) + more_bytes, AllocFlags::Kernel));
  Node* node = std::construct_at(static_cast<Node*>(place), std::forward<Arguments>(arguments)...);
  node->type = type;
  node->permissions = permissions;
  node->accessed = node->modified = node->changed = file_time_now();
  return node;
}

Result<TmpEntry*> make_entry(std::string_view name) {
  void* place = TRY(kmalloc(static_cast<u32>(sizeof(TmpEntry) + name.size()), AllocFlags::Kernel));
  TmpEntry* entry = std::construct_at(static_cast<TmpEntry*>(place));
  entry->length = static_cast<u8>(name.size());
  std::copy(name.begin(), name.end(), entry->bytes());
  return entry;
}

void free_entry(TmpEntry* entry) {
  std::destroy_at(entry);
  kfree(entry);
}

TmpNode& node_of(const Inode& inode) { return *static_cast<TmpNode*>(inode.private_data); }
TmpDirectory& directory_of(const Inode& inode) { return static_cast<TmpDirectory&>(node_of(inode)); }

/// The node is what counts; the inode is what others see of it.
void set_links(Inode& inode, u32 links) {
  node_of(inode).links = inode.links = links;
  inode.changed = file_time_now();
  inode.attributes_dirty = true;
}

void touch_directory(Inode& directory) {
  directory.modified = directory.changed = file_time_now();
  directory.attributes_dirty = true;
}

}  // namespace

void Tmpfs::destroy(TmpNode* node) {
  switch (node->type) {
    case FileType::Directory: {
      auto* directory = static_cast<TmpDirectory*>(node);
      while (!directory->by_age.empty()) directory->remove(*directory->by_age.begin());
      std::destroy_at(directory);
      break;
    }
    case FileType::Regular: {
      auto* file = static_cast<TmpFile*>(node);
      (void)file->truncate(0);
      recharge(*file);
      std::destroy_at(file);
      break;
    }
    default: break;
  }
  kfree(node);
}

Result<> Tmpfs::make_root() {
  TmpDirectory* root = TRY(make_node<TmpDirectory>(FileType::Directory, 0755, 0));
  const MutexGuard guard{mutex_};
  const Result<u32> number = nodes_.reserve();
  if (!number) {
    kfree(root);
    return std::unexpected(number.error());
  }
  ASSERT(*number == kRoot);
  root->number = root->parent = kRoot;
  root->links = 2;
  nodes_.set(kRoot, root);
  return {};
}

void Tmpfs::clear() {
  for (u32 number = kRoot; TmpNode* node = nodes_.next(number);) {
    number = node->number;
    destroy(node);
    nodes_.release(number);
  }
}

Result<> Tmpfs::read_inode(Inode& inode) {
  const MutexGuard guard{mutex_};
  TmpNode& node = *nodes_.get(inode.number);
  inode.type = node.type;
  inode.permissions = node.permissions;
  inode.links = node.links;
  inode.uid = node.uid;
  inode.gid = node.gid;
  inode.accessed = node.accessed;
  inode.modified = node.modified;
  inode.changed = node.changed;
  inode.private_data = &node;
  if (node.type == FileType::Regular) {
    inode.contents = &static_cast<TmpFile&>(node);
    (void)truncate(inode, 0);
  } else if (node.type == FileType::Symlink) {
    inode.plain_size = static_cast<TmpLink&>(node).length;
  }
  return {};
}

Result<> Tmpfs::write_inode(Inode& inode) {
  TmpNode& node = node_of(inode);
  node.permissions = inode.permissions;
  node.uid = inode.uid;
  node.gid = inode.gid;
  node.accessed = inode.accessed;
  node.modified = inode.modified;
  node.changed = inode.changed;
  return {};
}

Result<> Tmpfs::evict_inode(Inode& inode) {
  if (inode.links != 0) return {};
  destroy(&node_of(inode));
  const MutexGuard guard{mutex_};
  nodes_.release(inode.number);
  return {};
}

Result<u32> Tmpfs::lookup(Inode& directory, std::string_view name) {
  TmpDirectory& entries = directory_of(directory);
  if (name == "..") return entries.parent;
  const TmpEntry* entry = entries.find(name);
  if (entry == nullptr) return std::unexpected(Error::NotFound);
  return entry->number;
}

/// Gives a new node its number and its name, or frees it.
Result<u32> Tmpfs::add(Inode& directory, std::string_view name, TmpNode* node) {
  const Result<TmpEntry*> entry = make_entry(name);
  if (!entry) {
    destroy(node);
    return std::unexpected(entry.error());
  }
  {
    const MutexGuard guard{mutex_};
    const Result<u32> number = nodes_.reserve();
    if (number) {
      nodes_.set(*number, node);
      node->number = *number;
    } else {
      free_entry(*entry);
      destroy(node);
      return number;
    }
  }
  node->links = node->type == FileType::Directory ? 2 : 1;
  (*entry)->number = node->number;
  (*entry)->type = node->type;
  directory_of(directory).add(**entry);
  if (node->type == FileType::Directory) set_links(directory, directory.links + 1);
  touch_directory(directory);
  return node->number;
}

Result<u32> Tmpfs::create(Inode& directory, std::string_view name, FileType type, u16 permissions) {
  if (type == FileType::Directory) {
    TmpDirectory* node = TRY(make_node<TmpDirectory>(type, permissions, 0));
    node->parent = directory.number;
    return add(directory, name, node);
  }
  if (type != FileType::Regular) return std::unexpected(Error::NotSupported);
  BackingStore& pages = *this;
  return add(directory, name, TRY(make_node<TmpFile>(type, permissions, 0, pages)));
}

Result<u32> Tmpfs::create_symlink(Inode& directory, std::string_view name, std::string_view target) {
  const auto length = static_cast<u32>(target.size());
  TmpLink* node = TRY(make_node<TmpLink>(FileType::Symlink, 0777, length));
  node->length = length;
  std::copy(target.begin(), target.end(), node->text());
  return add(directory, name, node);
}

Result<> Tmpfs::link(Inode& directory, std::string_view name, Inode& inode) {
  TmpEntry* entry = TRY(make_entry(name));
  entry->number = inode.number;
  entry->type = inode.type;
  directory_of(directory).add(*entry);
  set_links(inode, inode.links + 1);
  touch_directory(directory);
  return {};
}

Result<> Tmpfs::unlink(Inode& directory, std::string_view name, Inode& inode) {
  TmpDirectory& entries = directory_of(directory);
  entries.remove(*entries.find(name));
  set_links(inode, inode.links - 1);
  touch_directory(directory);
  return {};
}

Result<> Tmpfs::remove_directory(Inode& directory, std::string_view name, Inode& inode) {
  if (!directory_of(inode).by_name.empty()) return std::unexpected(Error::NotEmpty);
  TmpDirectory& entries = directory_of(directory);
  entries.remove(*entries.find(name));
  set_links(inode, 0);
  set_links(directory, directory.links - 1);
  touch_directory(directory);
  return {};
}

Result<> Tmpfs::rename(Inode& from, std::string_view name, Inode& to, std::string_view new_name, Inode& inode,
                       Inode* replaced) {
  TmpDirectory& old_names = directory_of(from);
  TmpDirectory& new_names = directory_of(to);
  const bool directory = inode.type == FileType::Directory;
  if (replaced != nullptr) {
    // Its entry becomes the new one's, so that nothing has to be allocated.
    if (directory && !directory_of(*replaced).by_name.empty()) return std::unexpected(Error::NotEmpty);
    TmpEntry& entry = *new_names.find(new_name);
    entry.number = inode.number;
    entry.type = inode.type;
    set_links(*replaced, directory ? 0 : replaced->links - 1);
    if (directory) set_links(to, to.links - 1);
  } else {
    TmpEntry* entry = TRY(make_entry(new_name));
    entry->number = inode.number;
    entry->type = inode.type;
    new_names.add(*entry);
  }
  old_names.remove(*old_names.find(name));
  if (directory && &from != &to) {
    set_links(from, from.links - 1);
    set_links(to, to.links + 1);
    directory_of(inode).parent = to.number;
  }
  inode.changed = file_time_now();
  inode.attributes_dirty = true;
  touch_directory(from);
  touch_directory(to);
  return {};
}

Result<> Tmpfs::read_directory(Inode& directory, u64& cursor, DirectoryVisitor visit, void* context) {
  const TmpDirectory& entries = directory_of(directory);
  for (; cursor < 2;) {
    const DirectoryEntry entry{cursor == 0 ? "." : "..", cursor == 0 ? directory.number : entries.parent,
                               FileType::Directory};
    ++cursor;
    if (!visit(context, entry)) return {};
  }
  for (auto at = entries.by_age.lower_bound(cursor); at != entries.by_age.end(); ++at) {
    cursor = at->age + 1;
    if (!visit(context, {at->name(), at->number, at->type})) return {};
  }
  return {};
}

Result<u32> Tmpfs::read_link(Inode& inode, std::span<char> into) {
  TmpLink& link = static_cast<TmpLink&>(node_of(inode));
  const u32 length = std::min(link.length, static_cast<u32>(into.size()));
  std::copy_n(link.text(), length, into.begin());
  return length;
}

namespace {

/// A source is only a label here; what names a device is meant for others.
Result<SuperBlock*> mount_tmpfs(std::string_view source, MountMode mode) {
  if (!source.empty() && source != "tmpfs" && source != "none") return std::unexpected(Error::NotSupported);
  void* place = TRY(kmalloc(sizeof(Tmpfs), AllocFlags::Kernel));
  const u32 half = (low_totals().total.count() + high_totals().total.count()) / 2;
  Tmpfs* super = std::construct_at(static_cast<Tmpfs*>(place), mode, half);
  if (const Result<> made = super->make_root(); !made) {
    std::destroy_at(super);
    kfree(super);
    return std::unexpected(made.error());
  }
  return super;
}

void unmount_tmpfs(SuperBlock* super) {
  auto* tmpfs = static_cast<Tmpfs*>(super);
  tmpfs->clear();
  std::destroy_at(tmpfs);
  kfree(tmpfs);
}

constinit const FileSystemType kTmpfs{.name = "tmpfs", .mount = mount_tmpfs, .unmount = unmount_tmpfs};

}  // namespace

FILE_SYSTEM(tmpfs) = &kTmpfs;

}  // namespace paean
