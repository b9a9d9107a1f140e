// tmpfs: files that live in memory and nowhere else. For kernel/fs and its tests.
//
//   NodeTable: number --> TmpNode  file:      an AddressSpace; its pages are the only ones that there are
//                                  directory: names in two trees, by name and by age, for readdir
//                                  link:      its text
//
// Nodes, names and texts are small objects in lowmem; contents are highmem pages of the page cache, which never writes
// them anywhere. Pages are charged to the file system when they are first written or read, and writing fails beyond its
// limit (NoSpace), half of the machine's memory. A number that has become free is the next one given.
//
// Locks: a directory's names, as all file systems (kernel/fs/vfs.hpp); the node table by a mutex of rank FileSystem.
#pragma once

#include <boost/intrusive/set.hpp>

#include "kernel/fs/vfs.hpp"
#include "lib/bytes.hpp"

namespace paean {

struct TmpNode {
  u32 number = 0;
  FileType type = FileType::Unknown;
  u16 permissions = 0;
  u32 links = 0, uid = 0, gid = 0;
  u32 accessed = 0, modified = 0, changed = 0;
};

struct TmpFile : TmpNode, AddressSpace {
  explicit TmpFile(BackingStore& pages) : AddressSpace(pages) {}
  std::atomic<u32> charged{0};  // pages
};

struct TmpLink : TmpNode {
  u32 length = 0;
  char* text() { return chars_at(this + 1); }
};

struct ByName;
struct ByAge;
/// The name's bytes lie behind it.
struct TmpEntry : boost::intrusive::set_base_hook<boost::intrusive::tag<ByName>>,
                  boost::intrusive::set_base_hook<boost::intrusive::tag<ByAge>> {
  u64 age = 0;  // ascends with every name that the directory gets: where readdir continues
  u32 number = 0;
  FileType type = FileType::Unknown;
  u8 length = 0;
  char* bytes() { return chars_at(this + 1); }
  std::string_view name() const { return {chars_at(this + 1), length}; }
};
struct TmpName {
  using type = std::string_view;  // NOLINT(readability-identifier-naming): Boost wants that name
  std::string_view operator()(const TmpEntry& entry) const { return entry.name(); }
};
struct TmpAge {
  using type = u64;  // NOLINT(readability-identifier-naming): Boost wants that name
  u64 operator()(const TmpEntry& entry) const { return entry.age; }
};
template <typename Tag, typename Key>
using TmpTree =
    boost::intrusive::set<TmpEntry,
                          boost::intrusive::base_hook<boost::intrusive::set_base_hook<boost::intrusive::tag<Tag>>>,
                          boost::intrusive::key_of_value<Key>, boost::intrusive::constant_time_size<false>>;

struct TmpDirectory : TmpNode {
  u32 parent = 0;
  u64 next_age = 2;  // 0 and 1 are `.` and `..`
  TmpTree<ByName, TmpName> by_name;
  TmpTree<ByAge, TmpAge> by_age;

  TmpEntry* find(std::string_view name);
  void add(TmpEntry& entry);
  void remove(TmpEntry& entry);  // and frees it
};

/// Numbers from 1 on, in chunks that come and go. Not locked.
class NodeTable {
 public:
  static constexpr u32 kChunk = 128, kChunks = 1024, kMaxNodes = kChunk * kChunks;

  NodeTable() = default;
  ~NodeTable();
  NodeTable(const NodeTable&) = delete;
  NodeTable& operator=(const NodeTable&) = delete;
  /// Stays empty until set(). OutOfMemory; NoSpace when all are in use.
  Result<u32> reserve();
  void set(u32 number, TmpNode* node) { slot(number).node = node; }
  TmpNode* get(u32 number) { return slot(number).node; }
  void release(u32 number);
  u32 used() const { return used_; }
  /// The first node at or behind `number`; nullptr at the end.
  TmpNode* next(u32 number);

 private:
  struct Slot {
    TmpNode* node;
    u32 next_free;
  };
  struct Chunk {
    u32 used, first_free;
    Slot slots[kChunk];
  };
  Slot& slot(u32 number);

  Chunk* chunks_[kChunks]{};
  u32 lowest_ = 0;  // no chunk before it has room
  u32 used_ = 0;
};

class Tmpfs final : public SuperBlock, public BackingStore {
 public:
  static constexpr u32 kRoot = 1;

  explicit Tmpfs(MountMode mode, u32 limit) : mode_(mode), limit_(limit) {}
  Result<> make_root();
  /// Everything goes. Nothing is in use.
  void clear();
  void set_limit(u32 pages) { limit_ = pages; }
  u32 charged() const { return charged_.load(std::memory_order_relaxed); }

  std::string_view type() const override { return "tmpfs"; }
  u32 root_inode() const override { return kRoot; }
  bool read_only() const override { return mode_ == MountMode::ReadOnly; }
  Result<> read_inode(Inode& inode) override;
  Result<> write_inode(Inode& inode) override;
  Result<> evict_inode(Inode& inode) override;
  Result<u32> lookup(Inode& directory, std::string_view name) override;
  Result<u32> create(Inode& directory, std::string_view name, FileType type, u16 permissions) override;
  Result<u32> create_symlink(Inode& directory, std::string_view name, std::string_view target) override;
  Result<> link(Inode& directory, std::string_view name, Inode& inode) override;
  Result<> unlink(Inode& directory, std::string_view name, Inode& inode) override;
  Result<> remove_directory(Inode& directory, std::string_view name, Inode& inode) override;
  Result<> rename(Inode& from, std::string_view name, Inode& to, std::string_view new_name, Inode& inode,
                  Inode* replaced) override;
  Result<> read_directory(Inode& directory, u64& cursor, DirectoryVisitor visit, void* context) override;
  Result<u32> read_link(Inode& inode, std::span<char> into) override;
  Result<> truncate(Inode& inode, u64 size) override;
  Result<> sync_inode(Inode&) override { return {}; }
  Result<> sync() override { return {}; }
  Result<FsStatistics> statistics() override;

  void read_folio(AddressSpace& space, Folio& folio) override;
  void write_folio(AddressSpace& space, Folio& folio) override;
  Result<> prepare_write(AddressSpace& space, u64 offset, u32 bytes) override;
  bool writes_back() const override { return false; }

 private:
  Result<> place(TmpNode& node, u32 number);
  Result<u32> add(Inode& directory, std::string_view name, TmpNode* node);
  bool charge(TmpFile& file, u32 pages);
  void recharge(TmpFile& file);
  void destroy(TmpNode* node);

  MountMode mode_;
  std::atomic<u32> limit_, charged_{0};  // pages
  Mutex mutex_{LockRank::FileSystem};
  NodeTable nodes_;
};

}  // namespace paean
