#include "kernel/fs/ext2_fs.hpp"

#include <algorithm>
#include <memory>

#include "kernel/fault.hpp"
#include "kernel/fs/inode_cache.hpp"
#include "lib/log.hpp"
#include "mm/kmalloc.hpp"

namespace paean {

namespace {

FAULT_SITE(ext2_file, "what the contents of a file of ext2 are described by");

FileType file_type(u16 mode) {
  switch (ext2_entry_type(mode)) {
    case Ext2EntryType::File: return FileType::Regular;
    case Ext2EntryType::Directory: return FileType::Directory;
    case Ext2EntryType::Char: return FileType::CharDevice;
    case Ext2EntryType::Block: return FileType::BlockDevice;
    case Ext2EntryType::Fifo: return FileType::Fifo;
    case Ext2EntryType::Socket: return FileType::Socket;
    case Ext2EntryType::Symlink: return FileType::Symlink;
    default: return FileType::Unknown;
  }
}

FileType file_type(Ext2EntryType type) {
  constexpr FileType kTypes[] = {FileType::Unknown,     FileType::Regular, FileType::Directory, FileType::CharDevice,
                                 FileType::BlockDevice, FileType::Fifo,    FileType::Socket,    FileType::Symlink};
  return kTypes[static_cast<u8>(type)];
}

}  // namespace

Result<> Ext2Super::start(MountMode mode) {
  TRY(tables_.take_reserve());
  u32 number;
  {
    const MutexGuard guard{mutex_};
    TRY(open(mode));
    number = fs_.sync_begins();
  }
  // Not clean on the medium before anything else changes there.
  return fs_.read_only() ? Result<>{} : sync_tables(number);
}

Result<> Ext2Super::open(MountMode mode) {
  const bool only_read = mode == MountMode::ReadOnly || device().read_only();
  const u64 bytes = device().sectors() << kSectorShift;
  TRY(fs_.mount(bytes, only_read ? Ext2Mode::ReadOnly : Ext2Mode::ReadWrite));
  if (!only_read && fs_.read_only()) {
    log_warning("ext2 {}: not left clean, or with features unknown here: mounted read-only; e2fsck helps",
                device().name());
  }
  return {};
}

/// An error is for everybody whose changes it may have lost.
Result<> Ext2Super::sync_tables(u32 number) {
  const MutexGuard turn{syncing_};
  if (number <= failed_to_) return std::unexpected(failure_);
  if (number <= synced_to_) return {};
  u32 all;
  {
    const MutexGuard guard{mutex_};
    all = fs_.sync_begins();
  }
  const Result<> done = fs_.volume().sync_tables();
  if (!done) {
    if (done.error() == Error::OutOfMemory) return done;  // nothing is lost: others may have more luck
    failed_to_ = all;
    failure_ = done.error();
    return done;
  }
  synced_to_ = all;
  const MutexGuard guard{mutex_};
  fs_.sync_ended(all);
  return {};
}

/// The clean flag goes to the medium after everything else.
void Ext2Super::stop() {
  Result<> done = sync();
  u32 number = 0;
  if (done) {
    const MutexGuard guard{mutex_};
    done = fs_.unmount();
    number = fs_.sync_begins();
  }
  if (done) done = sync_tables(number);
  if (!done) log_warning("ext2 {}: not left clean: {}", device().name(), error_name(done.error()));
}

Result<> Ext2Super::may_change() {
  if (leaving_.load(std::memory_order_relaxed)) return std::unexpected(Error::ReadOnly);
  return fs_.volume().writable();
}

/// Blocks of open files that have never been written go back: the medium must not show what was in them.
Result<> Ext2Super::settle_all() {
  struct Context {
    Ext2Super& super;
    Result<> done{};
  } context{*this};
  InodeCache::for_each(
      *this,
      [](void* opaque, Inode& inode) {
        auto& [super, done] = *static_cast<Context*>(opaque);
        if (inode.contents == nullptr || !done) return;
        const MutexGuard guard{super.mutex_};
        auto& file = static_cast<Ext2File&>(*inode.contents);
        done = super.finish_cut(file);
        if (done) done = super.settle(file);
      },
      &context);
  return context.done;
}

/// First nothing new, so that what is written and settled then is all there is.
void Ext2Super::leave() {
  if (fs_.read_only()) return stop();
  {
    const MutexGuard guard{mutex_};
    leaving_.store(true, std::memory_order_relaxed);
  }
  Result<> done = InodeCache::write_all(*this);
  if (!done) done = InodeCache::write_all(*this);  // an error of long ago is told once
  if (!done) log_warning("ext2 {}: not all contents are written: {}", device().name(), error_name(done.error()));
  done = settle_all();
  if (done && InodeCache::any_nameless(*this)) done = std::unexpected(Error::Busy);
  if (done) return stop();
  log_warning("ext2 {}: not left clean: {}", device().name(), error_name(done.error()));
  (void)sync();
}

Result<> Ext2Super::read_inode(Inode& inode) {
  const MutexGuard guard{mutex_};
  const Ext2InodeRecord record = TRY(fs_.load(inode.number));
  inode.type = file_type(record.mode);
  inode.permissions = static_cast<u16>(record.mode & ~kExt2ModeType);
  inode.links = record.links;
  inode.uid = record.uid | u32{record.uid_high} << 16;
  inode.gid = record.gid | u32{record.gid_high} << 16;
  inode.accessed = record.accessed;
  inode.modified = record.modified;
  inode.changed = record.changed;
  inode.blocks_512 = record.blocks_512;
  inode.device = record.block[0] & 0xffff;
  inode.plain_size = Ext2Inodes::size_of(record);
  if (inode.type != FileType::Regular) return {};
  const u64 offset = TRY(fs_.volume().inode_offset(inode.number));
  if (must_fail(fault_ext2_file)) return std::unexpected(Error::OutOfMemory);
  void* place = TRY(kmalloc(sizeof(Ext2File), AllocFlags::Kernel));
  BackingStore& pages = *this;
  Ext2File* file = std::construct_at(static_cast<Ext2File*>(place), pages, inode.plain_size, inode, offset);
  inode.contents = file;
  return {};
}

Result<> Ext2Super::write_inode(Inode& inode) {
  const MutexGuard guard{mutex_};
  if (inode.contents != nullptr) TRY(finish_cut(static_cast<Ext2File&>(*inode.contents)));
  return fs_.set_attributes(inode.number, {.permissions = inode.permissions,
                                           .uid = inode.uid,
                                           .gid = inode.gid,
                                           .accessed = inode.accessed,
                                           .modified = inode.modified,
                                           .changed = inode.changed,
                                           .size = inode.size()});
}

/// What fails for another reason than memory has a message of the volume, or gets one here.
Result<> Ext2Super::evict_inode(Inode& inode) {
  auto* file = static_cast<Ext2File*>(inode.contents);
  if (file != nullptr && inode.links != 0) {
    const MutexGuard guard{mutex_};
    Result<> done = finish_cut(*file);
    if (done) done = settle(*file);
    if (!done && done.error() == Error::OutOfMemory) return done;
    fs_.forget_window(inode.number);
  }
  if (file != nullptr) (void)file->truncate(0);
  if (inode.links == 0 && !fs_.read_only()) {
    const MutexGuard guard{mutex_};
    const Result<> done = fs_.evict(inode.number);
    if (!done && done.error() == Error::OutOfMemory) return done;
    if (!done)
      log_warning("ext2 {}: inode {} is not freed: {}", device().name(), inode.number, error_name(done.error()));
  }
  if (file == nullptr) return {};
  inode.contents = nullptr;
  file->fresh.remove(0);
  std::destroy_at(file);
  kfree(file);
  return {};
}

/// What the core has changed in an inode's record.
void Ext2Super::note(Inode& inode) {
  const Result<u64> offset = fs_.volume().inode_offset(inode.number);
  if (!offset) return;
  const auto record = fs_.volume().get<Ext2InodeRecord>(*offset);
  if (!record) return;
  inode.links = record->links;
  inode.blocks_512 = record->blocks_512;
  inode.changed = std::max(inode.changed, record->changed);
  if (inode.type != FileType::Directory) return;
  inode.modified = std::max(inode.modified, record->modified);
  inode.plain_size = record->size;
}

Result<> Ext2Super::changed(Inode& directory, Result<> result) {
  note(directory);
  return result;
}

Result<u32> Ext2Super::lookup(Inode& directory, std::string_view name) {
  const MutexGuard guard{mutex_};
  return fs_.lookup(directory.number, name);
}

Result<u32> Ext2Super::create(Inode& directory, std::string_view name, FileType type, u16 permissions) {
  const MutexGuard guard{mutex_};
  TRY(may_change());
  Result<u32> made = std::unexpected(Error::NotSupported);
  if (type == FileType::Directory) made = fs_.make_directory(directory.number, name, permissions);
  if (type == FileType::Regular) {
    made = fs_.create(directory.number, name, static_cast<u16>(kExt2ModeFile | permissions));
  }
  note(directory);
  return made;
}

Result<> Ext2Super::undo_create(Inode& directory, std::string_view name, u32 number) {
  const MutexGuard guard{mutex_};
  const Result<> done = fs_.unlink(directory.number, name, number);
  if (done) fs_.abandon(number);
  return changed(directory, done);
}

Result<u32> Ext2Super::create_symlink(Inode& directory, std::string_view name, std::string_view target) {
  const MutexGuard guard{mutex_};
  TRY(may_change());
  const Result<u32> made = fs_.make_symlink(directory.number, name, target);
  note(directory);
  return made;
}

Result<> Ext2Super::link(Inode& directory, std::string_view name, Inode& inode) {
  const MutexGuard guard{mutex_};
  TRY(may_change());
  const Result<> done = fs_.link(directory.number, name, inode.number);
  note(inode);
  return changed(directory, done);
}

Result<> Ext2Super::unlink(Inode& directory, std::string_view name, Inode& inode) {
  const MutexGuard guard{mutex_};
  TRY(may_change());
  const Result<> done = fs_.unlink(directory.number, name, inode.number);
  note(inode);
  return changed(directory, done);
}

Result<> Ext2Super::remove_directory(Inode& directory, std::string_view name, Inode& inode) {
  const MutexGuard guard{mutex_};
  TRY(may_change());
  const Result<> done = fs_.remove_directory(directory.number, name, inode.number);
  note(inode);
  return changed(directory, done);
}

Result<> Ext2Super::rename(Inode& from, std::string_view name, Inode& to, std::string_view new_name, Inode& inode,
                           Inode* replaced) {
  const MutexGuard guard{mutex_};
  TRY(may_change());
  const Result<> done = fs_.rename(from.number, name, to.number, new_name, inode.number);
  note(inode);
  note(to);
  if (replaced != nullptr) note(*replaced);
  return changed(from, done);
}

Result<> Ext2Super::read_directory(Inode& directory, u64& cursor, DirectoryVisitor visit, void* context) {
  Ext2Entry entry;
  while (true) {
    u64 next = cursor;
    {
      const MutexGuard guard{mutex_};
      const Result<> found = fs_.next_entry(directory.number, next, entry);
      if (!found && found.error() == Error::NotFound) return {};
      TRY(found);
    }
    cursor = next;
    if (!visit(context, {.name = entry.name(), .inode = entry.inode, .type = file_type(entry.type)})) return {};
  }
}

Result<u32> Ext2Super::read_link(Inode& inode, std::span<char> into) {
  const MutexGuard guard{mutex_};
  return fs_.read_link(inode.number, into);
}

Result<> Ext2Super::truncate(Inode& inode, u64 size) {
  const MutexGuard guard{mutex_};
  TRY(may_change());
  auto& file = static_cast<Ext2File&>(*inode.contents);
  const bool shorter = size == file.size();  // cut already, in memory
  if (!shorter) TRY(finish_cut(file));
  const Result<> done = cut(file, size);
  note(inode);
  if (done || !shorter || done.error() != Error::OutOfMemory) return done;
  file.cut_at = size;
  inode.attributes_dirty = true;
  return {};
}

Result<> Ext2Super::sync_inode(Inode& inode) {
  if (inode.contents != nullptr) TRY(inode.contents->sync());
  TRY(InodeCache::write_attributes(inode));
  return sync();
}

Result<> Ext2Super::sync() {
  u32 number;
  {
    const MutexGuard guard{mutex_};
    TRY(fs_.write_super());
    number = fs_.sync_begins();
  }
  return sync_tables(number);
}

/// Without the mutex, which is held while the disk is waited for.
Result<FsStatistics> Ext2Super::statistics() {
  const Ext2Geometry& geometry = fs_.geometry();
  return FsStatistics{.block_bytes = geometry.block_bytes(),
                      .blocks = geometry.blocks,
                      .free_blocks = fs_.volume().free_blocks(),
                      .inodes = geometry.inodes,
                      .free_inodes = fs_.volume().free_inodes(),
                      .name_limit = kExt2NameLimit};
}

}  // namespace paean
