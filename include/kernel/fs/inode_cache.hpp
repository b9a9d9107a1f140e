// Which inodes are in memory. For kernel/fs alone.
//
// A table by (file system, number), and a list of those that nobody uses, oldest last. Beyond kMaxUnused the oldest
// leaves; the shrinker takes more of them. One that has lost its last name leaves with its last user.
// Lock: names_lock, also of cached names and mount points, so that one step of a path takes it once.
// Context: may sleep, but for what ends in _locked.
#pragma once

#include "kernel/fs/vfs.hpp"

namespace paean {

/// LockRank::Names. Never taken in interrupts.
extern SpinLock names_lock;

/// Memory for an inode, taken before what cannot be undone.
class [[nodiscard]] SpareInode {
 public:
  static Result<SpareInode> take();
  SpareInode(SpareInode&& other) noexcept : inode_(std::exchange(other.inode_, nullptr)) {}
  SpareInode& operator=(SpareInode&&) = delete;
  SpareInode(const SpareInode&) = delete;
  SpareInode& operator=(const SpareInode&) = delete;
  ~SpareInode();

 private:
  friend class InodeCache;
  explicit SpareInode(Inode* inode) : inode_(inode) {}
  Inode* inode_;
};

class InodeCache {
 public:
  static constexpr u32 kMaxUnused = 8192;  // about 2 MiB

  static void init();
  static Result<InodeRef> find(SuperBlock& super, u32 number, SpareInode spare);
  static void put(Inode* inode);
  static InodeRef share(Inode& inode);

  /// Only if it can be had at once.
  static InodeRef find_locked(SuperBlock& super, u32 number) REQUIRES(names_lock);
  static InodeRef share_locked(Inode& inode) REQUIRES(names_lock);
  /// Nobody uses any, but for `besides`, which has so many users.
  static bool all_unused_locked(const SuperBlock& super, const Inode& besides, u32 users) REQUIRES(names_lock);

  /// Nobody but the caller has a reference.
  static bool has_one_user(const Inode& inode);
  /// Somebody uses a file without names.
  static bool any_nameless(const SuperBlock& super);

  /// Every one of a file system leaves. Nobody uses or finds them any more.
  static void drop_all(SuperBlock& super);
  /// Contents and attributes of all of them go to the file system; the first error.
  static Result<> write_all(SuperBlock& super);
  /// Calls `visit` with each inode that a file system has in memory, once, under no lock.
  static void for_each(SuperBlock& super, void (*visit)(void* context, Inode& inode), void* context);
  /// The attributes of one, if they have changed.
  static Result<> write_attributes(Inode& inode);
  /// Lets go of so many unused ones with what is cached of them: first, oldest first, those that need no disk.
  static u32 shrink(u32 inodes);
  static FileCaches count();

  struct Lists;

 private:
  static Result<InodeRef> read(Inode* inode);
  static Result<> write_back(Inode& inode);
  static Inode* oldest_leaves() REQUIRES(names_lock);
  static Inode* oldest_clean_leaves(u32& looks) REQUIRES(names_lock);
  static u32 shrink_clean(u32 inodes);
  static bool end(Inode* inode);
  static void stay(Inode* inode);
  enum class Visit : u8 { ToWrite, All };
  /// The next in the bucket, or in it and those behind it, that this pass has not met; `bucket` is where it was found.
  static InodeRef next_in(SuperBlock& super, u32 bucket, u32 pass, Visit visit) REQUIRES(names_lock);
  static InodeRef next_of(SuperBlock& super, u32& bucket, u32 pass, Visit visit);
};

}  // namespace paean
