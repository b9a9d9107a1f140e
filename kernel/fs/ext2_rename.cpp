// A name moves: first the new one is made, then the old one goes, so that the file never has none.
#include "kernel/fs/ext2_core.hpp"

namespace paean {

Result<> Ext2::check_replaced(u32 inode, Ext2EntryType moved) {
  const Ext2InodeRecord record = TRY(inodes_.get(inode));
  const bool directory = ext2_entry_type(record.mode) == Ext2EntryType::Directory;
  if (directory && moved != Ext2EntryType::Directory) return std::unexpected(Error::IsDirectory);
  if (!directory && moved == Ext2EntryType::Directory) return std::unexpected(Error::NotDirectory);
  if (directory && !TRY(directory_.empty(record))) return std::unexpected(Error::NotEmpty);
  return {};
}

Result<> Ext2::set_parent(u32 inode, u32 parent) {
  Ext2InodeRecord record = TRY(inodes_.get(inode));
  const Ext2Directory::Found up = TRY(directory_.find(record, ".."));
  TRY(directory_.replace(record, up.place, parent, Ext2EntryType::Directory));
  return inodes_.put(inode, record);
}

Result<> Ext2::rename(u32 from, std::string_view name, u32 to, std::string_view new_name, u32 inode) {
  TRY(check_name(name));
  TRY(check_name(new_name));
  TRY(volume_.writable());
  const Ext2InodeRecord moved = TRY(inodes_.get(inode));
  const Ext2EntryType type = ext2_entry_type(moved.mode);
  const bool new_parent = type == Ext2EntryType::Directory && from != to;
  if (new_parent) TRY(directory_.find(moved, ".."));
  const u32 source = TRY(lookup(from, name));
  if (source != inode) return std::unexpected(Error::NotFound);
  Ext2InodeRecord target = TRY(open_directory(to));
  const Result<Ext2Directory::Found> old = directory_.find(target, new_name);
  if (!old && old.error() != Error::NotFound) return std::unexpected(old.error());
  if (old && old->inode == inode) return {};
  if (old) TRY(check_replaced(old->inode, type));
  if (new_parent && !old && target.links >= kExt2LinkLimit) return std::unexpected(Error::TooManyLinks);

  if (old) {
    TRY(directory_.replace(target, old->place, inode, type));
    TRY(inodes_.put(to, target));
  } else {
    TRY(add_name(to, new_name, inode, moved.mode));
  }
  TRY(remove_name(from, name, inode));
  if (old && type == Ext2EntryType::Directory) {
    const Ext2InodeRecord gone = TRY(inodes_.get(old->inode));
    TRY(add_links(old->inode, -i32{gone.links}));
    TRY(add_links(to, -1));
  } else if (old) {
    TRY(add_links(old->inode, -1));
  }
  if (new_parent) {
    TRY(set_parent(inode, to));
    TRY(add_links(from, -1));
    TRY(add_links(to, 1));
  }
  return add_links(inode, 0);
}

}  // namespace paean
