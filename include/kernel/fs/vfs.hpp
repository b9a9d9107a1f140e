// Files: one tree of names over several file systems.
//
//   path --walk--> Dentry (cached name) --> Inode (cached, one a file) --> SuperBlock (one mounted file system)
//                                              |
//                                              +--> AddressSpace: its contents (mm/page_cache.hpp)
//
// A file system derives from SuperBlock and works on inode numbers and names; caching, paths, open files, reference
// counts and locks are done here, once for all.
//
// Locks, in this order: SuperBlock::names (read for everything that changes or looks up names, also for moving a file
// within its directory; write, and then no directory's mutex, for all other moves and for removing directories),
// Inode::mutex of the directory (LockRank::Directory) or file (LockRank::File), SuperBlock::attributes while they are
// written, then what the file system has inside (LockRank::FileSystem). All calls of a SuperBlock may sleep. Errors are
// POSIX's, by their names in lib/result.hpp.
//
// Who does what: here it is decided whether a call is legal at all (types, own child, mount points, same file system,
// read-only, lengths), by looking the names up first. The file system finds names, keeps link counts (also those of
// parents), sizes, times of directories and blocks in the inodes that it is given, and says NotEmpty, NoSpace,
// TooManyLinks. `..` is a name like others for lookup(); the root's is never asked for.
// Source: the vnode and dentry designs of SunOS and Linux.
#pragma once

#include <string_view>

#include "kernel/block/request.hpp"
#include "kernel/fs/inode.hpp"
#include "lib/format.hpp"

namespace paean {

class BlockDevice;

enum class FileType : u8 { Unknown, Regular, Directory, CharDevice, BlockDevice, Fifo, Socket, Symlink };

/// What a directory says of one name.
struct DirectoryEntry {
  std::string_view name;
  u32 inode = 0;
  FileType type = FileType::Unknown;
};
/// False to stop.
using DirectoryVisitor = bool (*)(void* context, const DirectoryEntry& entry);

struct FsStatistics {
  u32 block_bytes;
  u64 blocks, free_blocks;
  u64 inodes, free_inodes;
  u32 name_limit;
};

enum class MountMode : u8 { ReadWrite, ReadOnly };
enum class Wait : u8 { No, Yes };

/// A part of a file that lies in one piece on its device; multiples of a sector.
struct FileRun {
  u64 offset = 0, bytes = 0;
  Sector sector = 0;
};
using FileRunVisitor = void (*)(void* context, const FileRun& run);

/// One mounted file system.
class SuperBlock {
 public:
  virtual std::string_view type() const = 0;  // "ext2", "tmpfs"
  virtual u32 root_inode() const = 0;
  virtual bool read_only() const = 0;

  /// Fills type, mode, links, size, times and contents of an inode whose number is set.
  virtual Result<> read_inode(Inode& inode) = 0;
  /// Attributes (not contents) of an inode to the file system's own tables. Called for inodes with attributes_dirty,
  /// which is cleared before, and set again after an error.
  virtual Result<> write_inode(Inode& inode) = 0;
  /// The last user of an inode has gone: without names left its blocks and its number become free. With names, contents
  /// and attributes have been written. No folio may be left in contents that the file system ends here.
  /// OutOfMemory: the inode stays, with the contents that it had if it has names, and this is called again later.
  virtual Result<> evict_inode(Inode& inode) = 0;

  virtual Result<u32> lookup(Inode& directory, std::string_view name) = 0;
  /// A new file or directory; its inode number.
  virtual Result<u32> create(Inode& directory, std::string_view name, FileType type, u16 permissions) = 0;
  /// Takes back a regular file that create() has just made and that read_inode() then failed for.
  virtual Result<> undo_create(Inode&, std::string_view, u32) { return {}; }
  virtual Result<u32> create_symlink(Inode& directory, std::string_view name, std::string_view target) = 0;
  virtual Result<> link(Inode& directory, std::string_view name, Inode& inode) = 0;
  virtual Result<> unlink(Inode& directory, std::string_view name, Inode& inode) = 0;
  virtual Result<> remove_directory(Inode& directory, std::string_view name, Inode& inode) = 0;
  /// Whatever has the new name already is replaced: `replaced` is it, or nullptr.
  virtual Result<> rename(Inode& from, std::string_view name, Inode& to, std::string_view new_name, Inode& inode,
                          Inode* replaced) = 0;
  /// From `cursor` on (0: the first), `.` and `..` included; leaves it where the next call continues. The visitor works
  /// under the directory's mutex and must not come back here.
  virtual Result<> read_directory(Inode& directory, u64& cursor, DirectoryVisitor visit, void* context) = 0;
  virtual Result<u32> read_link(Inode& inode, std::span<char> into) = 0;
  /// The file becomes `size` bytes long; its blocks behind that become free, if there are any. A shorter file's
  /// contents have been cut before, so that no page is left there; a longer one's grow only if this succeeds
  /// (TooLarge). Under the inode's mutex.
  virtual Result<> truncate(Inode& inode, u64 size) = 0;

  /// Where a regular file lies whose contents have been written: calls `visit` with its parts, in order. The device.
  /// For who uses the blocks without the file's pages. InvalidArgument: it has holes. NotSupported: it is on no disk.
  virtual Result<BlockDevice*> for_each_run(Inode&, FileRunVisitor, void*) {
    return std::unexpected(Error::NotSupported);
  }
  /// Contents and attributes of one file, and its name, are on the medium.
  virtual Result<> sync_inode(Inode& inode) = 0;
  /// Everything is.
  virtual Result<> sync() = 0;
  /// The machine goes off while files are open; all that is known has been written. The medium is left clean, and takes
  /// no changes any more.
  virtual void leave() {}
  /// Waits for no disk.
  virtual Result<FsStatistics> statistics() = 0;

  RwLock names{LockRank::Rename};
  Mutex walk{LockRank::WriteAll};          // who walks through all inodes, and has marked those it has seen
  Mutex attributes{LockRank::Attributes};  // held until write_inode() has taken what is no longer dirty

 protected:
  ~SuperBlock() = default;

 private:
  friend class MountTable;
  Mount* mount_ = nullptr;
};

/// A kind of file system. Registers itself by being linked.
struct FileSystemType {
  const char* name;
  /// `source` is the device's name, or nothing. Corrupt, NotSupported, NotFound.
  Result<SuperBlock*> (*mount)(std::string_view source, MountMode mode);
  /// Everything is written, nothing is in use. Frees it.
  void (*unmount)(SuperBlock* super);
};
/// The linker collects them.
#define FILE_SYSTEM(identifier)               \
  [[gnu::used, gnu::section(".file_systems"), \
    gnu::aligned(4)]] constinit const ::paean::FileSystemType* const identifier##_type

extern "C" const FileSystemType* const __start_file_systems[];
extern "C" const FileSystemType* const __stop_file_systems[];

/// `type` empty: each type is tried. Busy, NotFound, NotDirectory, NotSupported, and what the file system says.
Result<> mount(std::string_view source, std::string_view path, std::string_view type, MountMode mode);
/// Busy while a file is open there, and for the first `/`. InvalidArgument if nothing is mounted there. Everything is
/// written first; if that fails it stays mounted. Forced: what a disk does not take, because it has gone, is given up
/// with a message. OutOfMemory is no reason to.
enum class UnmountMode : u8 { Clean, Forced };
Result<> unmount(std::string_view path, UnmountMode mode = UnmountMode::Clean);
/// Every mounted file system.
Result<> sync_file_systems();
/// Before the machine goes off or starts anew: each file system is written and left clean, all at the same time, but
/// for what a disk does not take within kLeaveMs. Nothing can be changed any more. May sleep, no locks held.
inline constexpr u32 kLeaveMs = 10'000;
void leave_file_systems();
struct MountInfo {
  std::string_view source, path, type;
  SuperBlock& super;
};
/// In the order of mounting. Who visits holds no lock: what is visited stays mounted meanwhile, other file systems come
/// and go, and one whose disk is slow delays nobody.
void for_each_mount(void (*visit)(void* context, const MountInfo& mount), void* context);
/// Inodes and cached names, for people and tests.
struct FileCaches {
  u32 inodes, unused_inodes, names;
};
FileCaches file_caches();

/// Caches, shrinkers, and a memory file system as `/`. Boot, once, threads running.
void init_files();

}  // namespace paean
