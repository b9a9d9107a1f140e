// A file as the kernel has it in memory: one for each (file system, number) that is in use or was lately.
//
//   find_inode() --> [read from the file system] --> in use (references > 0) --put--> cached --shrinker--> gone
//                                                          |
//                                                          +-- last reference, no links: evicted at once
//
// Reading, and leaving, happens once at a time for each file: whoever asks for it meanwhile waits, then looks again.
//
// Owner: the inode cache (kernel/fs/inode.cpp); its table and counts lie under `names_lock` (LockRank::Names), but a
// reference that is not the last one is given back without it. `mutex` guards size, attributes and, for directories,
// names. The file system keeps `links`, `blocks_512`, `contents` and `private_data`; who changes an attribute sets
// `attributes_dirty`, and then the file system's write_inode() is called before the inode leaves.
// Times of access are not kept: reading would write.
#pragma once

#include <boost/intrusive/list_hook.hpp>
#include <boost/intrusive/unordered_set_hook.hpp>

#include "kernel/sync.hpp"
#include "mm/page_cache.hpp"

namespace paean {

class SuperBlock;
struct Mount;
enum class FileType : u8;

class Inode : public boost::intrusive::unordered_set_base_hook<>, public boost::intrusive::list_base_hook<> {
 public:
  SuperBlock* super = nullptr;
  u32 number = 0;
  FileType type{};
  u16 permissions = 0;  // rwxrwxrwx and the three bits above
  u32 links = 0;
  u32 uid = 0, gid = 0;
  u32 accessed = 0, modified = 0, changed = 0;  // seconds since 1970
  u32 device = 0;                               // of device files: major << 8 | minor
  u64 blocks_512 = 0;                           // what it takes on the medium
  AddressSpace* contents = nullptr;             // regular files, directories and long links, if they are in pages
  u64 size() const { return contents != nullptr ? contents->size() : plain_size; }
  u64 plain_size = 0;            // of what has no contents in pages
  void* private_data = nullptr;  // the file system's
  bool attributes_dirty = false;
  std::atomic<bool> is_swap{false};  // its blocks are a swap area: nobody changes it

  Mutex mutex;  // of rank Directory or File
  explicit Inode(LockRank rank) : mutex(rank) {}

  /// Different for each stay in memory, also if the number is used again: what cached names hang on.
  u64 serial() const { return serial_; }

 private:
  friend class InodeCache;
  friend class MountTable;
  enum class State : u32 { Reading, Ready, Failed, Leaving };
  std::atomic<u32> references_{0};
  State state() const { return static_cast<State>(state_.load(std::memory_order_acquire)); }
  void set_state(State state) { state_.store(static_cast<u32>(state), std::memory_order_release); }
  std::atomic<u32> state_{static_cast<u32>(State::Reading)};
  u64 serial_ = 0;
  Mount* covered_by_ = nullptr;  // what is mounted here; under names_lock
  u32 sync_pass_ = 0;            // the last one that has looked at it
};

/// A counted reference.
class [[nodiscard]] InodeRef {
 public:
  InodeRef() = default;
  InodeRef(InodeRef&& other) noexcept : inode_(std::exchange(other.inode_, nullptr)) {}
  InodeRef& operator=(InodeRef&& other) noexcept {
    std::swap(inode_, other.inode_);
    return *this;
  }
  InodeRef(const InodeRef&) = delete;
  InodeRef& operator=(const InodeRef&) = delete;
  ~InodeRef();
  InodeRef clone() const;
  explicit operator bool() const { return inode_ != nullptr; }
  Inode* operator->() const { return inode_; }
  Inode& operator*() const { return *inode_; }

 private:
  friend class InodeCache;
  friend class MountTable;
  explicit InodeRef(Inode* counted) : inode_(counted) {}
  Inode* inode_ = nullptr;
};

/// The inode with this number, from the cache or from the file system. May sleep.
Result<InodeRef> find_inode(SuperBlock& super, u32 number);

}  // namespace paean
