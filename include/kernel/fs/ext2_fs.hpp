// ext2 on a block device: the core (kernel/fs/ext2_core.hpp) between the file layer and the page cache.
//
//   SuperBlock calls --> Ext2Super --mutex--> Ext2 --> Ext2Tables: one page of the cache for each block of tables
//   pages of a file  --> Ext2Super::read_folio, write_folio --map()--> extents on the device
//
// Tables have pages of their own, a block in each whatever its size, so that writing one never writes a neighbour that
// belongs to a file. A block that stops being a table is dropped from there before a file gets it (forget()), and no
// file gets it before the medium has the tables that do not point to it any more (kernel/fs/ext2_retired.hpp).
// Blocks are allocated when a page is about to become dirty. Until it has been written for the first time such a block
// is fresh (kernel/fs/ext2_fresh.hpp): it holds somebody's old contents, and whoever reads it gets zeros. What is fresh
// when the file leaves memory becomes a hole.
// Write-back needs no memory: where there is none for the tables that say where a page lies, they are looked at in a
// page that each volume has from the start (Ext2Tables::Reserve).
// A file that becomes shorter is so in memory at once. Without memory for its tables its blocks are cut later, before
// anything else of it changes on the medium (finish_cut()).
//
// Many who sync at once share the work: each waits for the sync that runs, and then one of them does it for all who
// came meanwhile.
//
// Locks: `mutex_` (LockRank::FileSystem) for everything that changes tables. Pages are read and written without it,
// because what a file's pages lie on does not move while they exist; so write-back never waits for an operation that
// waits for memory. `syncing_` (LockRank::TableSync) outside of it: who syncs. Owner: the mount table.
// Source of the shared syncs: group commit (DeWitt and others, 1984).
#pragma once

#include "kernel/block/device.hpp"
#include "kernel/fs/ext2_core.hpp"
#include "kernel/fs/ext2_fresh.hpp"
#include "kernel/fs/folio_io.hpp"
#include "kernel/fs/vfs.hpp"
#include "kernel/sync.hpp"

namespace paean {

/// The medium, for the core.
class Ext2Tables final : public Ext2Store, public BackingStore {
 public:
  Ext2Tables(BlockDevice& device, u32 block_shift)
      : device_(device),
        block_shift_(block_shift),
        space_(*this, (device.sectors() << kSectorShift >> block_shift) << kPageShift) {}
  ~Ext2Tables();
  /// The page of the reserve. Before anything is written. OutOfMemory.
  Result<> take_reserve();

  /// While it exists, view() in this thread does without memory: what is not in the cache is read from the disk into
  /// the reserved page, and not kept. For who writes dirty pages out, which may be the only way to get memory. No
  /// changes meanwhile, and view() not within view(). Others wait for their turn: may sleep.
  class Reserve {
   public:
    explicit Reserve(Ext2Tables& tables);
    ~Reserve();
    Reserve(const Reserve&) = delete;
    Reserve& operator=(const Reserve&) = delete;

   private:
    Ext2Tables& tables_;
  };

  Result<> view(u64 offset, u32 bytes, Viewer viewer, void* context) override;
  Result<> change(u64 offset, u32 bytes, Changer changer, void* context) override;
  void forget(u32 block) override;
  Result<> sync() override;
  u32 now() override;
  void complain(std::string_view what) override;

  void read_folio(AddressSpace& space, Folio& folio) override;
  void write_folio(AddressSpace& space, Folio& folio) override { write_folios(space, {{&folio}}); }
  void write_folios(AddressSpace& space, std::span<Folio* const> folios) override;
  Result<> prepare_write(AddressSpace&, u64, u32) override { return {}; }
  AllocFlags page_flags() const override { return pages_for(device_); }
  Order largest_folio() const override { return Order{0}; }

  BlockDevice& device() const { return device_; }

 private:
  u64 place_of(u64 offset) const {
    return (offset >> block_shift_ << kPageShift) | (offset & ((1u << block_shift_) - 1));
  }
  Extent extent_of(const Folio& folio) const;
  bool have_reserve() const { return __atomic_load_n(&reserve_user_, __ATOMIC_RELAXED) == current_thread(); }
  Result<> view_in_reserve(u64 offset, u32 bytes, Viewer viewer, void* context);

  BlockDevice& device_;
  u32 block_shift_;
  Page* reserve_ = nullptr;
  Semaphore reserve_free_{1};
  Thread* reserve_user_ = nullptr;
  AddressSpace space_;
};

/// What a regular file has more than its inode.
class Ext2File final : public AddressSpace {
 public:
  Ext2File(BackingStore& store, u64 size, Inode& owner, u64 record_at)
      : AddressSpace(store, size), inode(owner), record_offset(record_at) {}

  Inode& inode;
  const u64 record_offset;  // on the medium
  FreshBlocks fresh;
  static constexpr u64 kWhole = ~u64{0};
  // Blocks behind this size are still to be freed, and nothing of them is in memory; under the volume's mutex. The size
  // may be smaller: then pages between the two may still be under write-back.
  u64 cut_at = kWhole;
};

class Ext2Super final : public SuperBlock, public BackingStore {
 public:
  Ext2Super(BlockDevice& device, u32 block_shift) : tables_(device, block_shift), fs_(tables_) {}
  Result<> start(MountMode mode);
  void stop();
  BlockDevice& device() const { return tables_.device(); }

  void leave() override;

  std::string_view type() const override { return "ext2"; }
  u32 root_inode() const override { return kExt2RootInode; }
  bool read_only() const override { return fs_.read_only() || leaving_.load(std::memory_order_relaxed); }
  Result<> read_inode(Inode& inode) override;
  Result<> write_inode(Inode& inode) override;
  Result<> evict_inode(Inode& inode) override;
  Result<u32> lookup(Inode& directory, std::string_view name) override;
  Result<u32> create(Inode& directory, std::string_view name, FileType type, u16 permissions) override;
  Result<> undo_create(Inode& directory, std::string_view name, u32 number) override;
  Result<u32> create_symlink(Inode& directory, std::string_view name, std::string_view target) override;
  Result<> link(Inode& directory, std::string_view name, Inode& inode) override;
  Result<> unlink(Inode& directory, std::string_view name, Inode& inode) override;
  Result<> remove_directory(Inode& directory, std::string_view name, Inode& inode) override;
  Result<> rename(Inode& from, std::string_view name, Inode& to, std::string_view new_name, Inode& inode,
                  Inode* replaced) override;
  Result<> read_directory(Inode& directory, u64& cursor, DirectoryVisitor visit, void* context) override;
  Result<u32> read_link(Inode& inode, std::span<char> into) override;
  Result<> truncate(Inode& inode, u64 size) override;
  Result<BlockDevice*> for_each_run(Inode& inode, FileRunVisitor visit, void* context) override;
  Result<> sync_inode(Inode& inode) override;
  Result<> sync() override;
  Result<FsStatistics> statistics() override;

  void read_folio(AddressSpace& space, Folio& folio) override { read_folios(space, {{&folio}}); }
  void read_folios(AddressSpace& space, std::span<Folio* const> folios) override;
  void write_folio(AddressSpace& space, Folio& folio) override { write_folios(space, {{&folio}}); }
  void write_folios(AddressSpace& space, std::span<Folio* const> folios) override;
  void write_ends(Folio& folio, Result<> result) override;
  Result<> prepare_write(AddressSpace& space, u64 offset, u32 bytes) override;
  AllocFlags page_flags() const override { return pages_for(tables_.device()); }

 private:
  /// Fresh blocks are holes for readers.
  enum class MapFor : u8 { Reading, Writing };
  struct Extents {
    Extent list[kMaxExtents];
    u32 count = 0;
    /// Behind those that are there; its offset follows from them.
    void add(Extent part);
  };
  Result<> open(MountMode mode) REQUIRES(mutex_);
  void write_mapped(Ext2File& file, Folio& folio, FolioRequests& requests);
  Result<> map_folio(Ext2File& file, const Folio& folio, MapFor purpose, Extents& extents);
  Result<> map_to_read(Ext2File& file, const Folio& folio, Extents& extents);
  Result<> map_to_write(Ext2File& file, const Folio& folio, Extents& extents);
  Result<> allocate(Ext2File& file, u32 first, u32 last, u64 end) REQUIRES(mutex_);
  Result<Ext2NewBlock::Age> allocate_block(Ext2File& file, u32 block, u64 end) REQUIRES(mutex_);
  Result<> give_back(Ext2File& file, u32 block) REQUIRES(mutex_);
  Result<> settle(Ext2File& file) REQUIRES(mutex_);
  Result<> settle_all();
  Result<> may_change() REQUIRES(mutex_);
  Result<> finish_cut(Ext2File& file) REQUIRES(mutex_);
  Result<> cut(Ext2File& file, u64 size) REQUIRES(mutex_);
  /// All that changed before sync_begins() gave this number is on the medium.
  Result<> sync_tables(u32 number);
  void note(Inode& inode) REQUIRES(mutex_);
  Result<> changed(Inode& directory, Result<> result) REQUIRES(mutex_);

  Ext2Tables tables_;
  Mutex syncing_{LockRank::TableSync};
  // Of the last syncs that ended well and with an error: what had its number by then.
  u32 synced_to_ GUARDED_BY(syncing_) = 0, failed_to_ GUARDED_BY(syncing_) = 0;
  Error failure_ GUARDED_BY(syncing_){};
  Mutex mutex_{LockRank::FileSystem};
  std::atomic<bool> leaving_{false};  // no new changes; under the mutex
  Ext2 fs_;
};

}  // namespace paean
