// Page tables of one user address space.
//
//   PDPT (lowmem, 32 bytes) --> 4 directories (highmem): user slots | slots of the kernel alone, shared | the last one
//                                     |
//                                     +--> PTE pages (highmem, `pte=low`: lowmem), freed when empty
//
//   the last directory   | user part, with 3.5G | kernel entries, copied | other: 4 | UKVA: 4 | block windows ...
//
//   UKVA: its four entries name the four directories of this space as if they were PTE pages. So the 8 MiB behind them
//   are all PTEs of 4 GiB in a row, and applying the step twice gives the directory entry:
//     PTE of A at  kUkvaStart + (A >> 12) * 8          PDE of A at  kUkvaStart + (that >> 12) * 8
//   other: the same for the directories of one other space, while fork() fills it.
//
// The window's translations are not global: a load of CR3 drops them, and so does the space's own flush. They are used
// only by threads whose space this is. For any other space, and with `ukva=off`, tables are reached by KmapLocal.
// A PTE page has one reference of its owner and one for each entry that is not zero.
// Lock: whoever changes entries holds the space's spin lock; changes of one space by one CPU at a time.
// Source of the idea: Dave Hansen's UKVA (2003). Unlike it: all directories in highmem and private, no extra pages.
#pragma once

#include "arch/pdpt.hpp"
#include "arch/user_tlb.hpp"
#include "kernel/cmdline.hpp"
#include "kernel/spinlock.hpp"
#include "mm/block_mirror.hpp"
#include "mm/highmem.hpp"
#include "mm/page_alloc.hpp"
#include "mm/user_area.hpp"

namespace paean {

class UserTables;
/// Those of the running thread's space; nullptr if it has none.
extern arch::PerCpu<UserTables*> current_tables;

class UserTables {
 public:
  UserTables() = default;
  UserTables(const UserTables&) = delete;
  UserTables& operator=(const UserTables&) = delete;

  /// With empty tables; OutOfMemory, and nothing is left behind.
  Result<> create();
  /// Precondition: no PTE pages, and no CPU has it loaded.
  void destroy();

  arch::UserTlb& tlb() { return tlb_; }
  /// The running thread has these tables loaded and keeps them, wherever it runs.
  bool is_current() const;
  u32 table_pages() const { return table_pages_; }
  /// Those that are not zero, of all PTE pages.
  u32 entries() const { return entries_; }
  u32 cr3() const { return tlb_.cr3; }

  /// Makes sure that there is a PTE page for `va`. May sleep; `lock` is the space's and not held.
  Result<> make_table(VirtAddr va, SpinLock& lock);
  /// Opens the second window of this space on `other`, and closes it; the flush that closing needs is the caller's.
  void open_other(UserTables& other);
  void close_other();
  bool other_is_open() const { return other_ != nullptr; }

 private:
  friend class TableView;
  /// The window that shows these tables to the running thread, if one does.
  std::optional<VirtAddr> window() const;
  arch::PteValue read_pde(VirtAddr va) const;
  void write_pde(VirtAddr va, arch::PteValue value);
  void set_other_window(const UserTables* shown);

  arch::Pdpt* pdpt_ = nullptr;
  Page* directories_[arch::kPdptSlots]{};  // nullptr: shared with the kernel
  arch::UserTlb tlb_;
  BlockMirror mirror_;
  UserTables* other_ = nullptr;          // seen through this one's second window
  const UserTables* seen_by_ = nullptr;  // the other way round
  u32 table_pages_ = 0, entries_ = 0;
};

/// The entries of one PTE page in reach, for a scope: the 2 MiB around `va`. Empty if there is no such page.
/// The space's lock is held.
class [[nodiscard]] TableView {
 public:
  TableView(UserTables& tables, VirtAddr va);
  ~TableView();
  TableView(const TableView&) = delete;
  TableView& operator=(const TableView&) = delete;

  explicit operator bool() const { return entries_ != nullptr; }
  /// Any address of the same 2 MiB.
  arch::Pte& operator[](VirtAddr va) const { return entries_[arch::pt_index(va)]; }
  /// The page itself, whose references count entries.
  Page* page() const { return page_; }
  /// So many entries were zero and are not any more; the other way round.
  void note_filled(u32 entries = 1) {
    page_->get_many(entries);
    tables_.entries_ += entries;
  }
  void note_emptied(u32 entries = 1) {
    page_->put_many(entries);
    tables_.entries_ -= entries;
  }
  bool is_empty() const { return page_->references() == 1; }
  /// Takes the empty page out of its directory. It is freed by the caller, after a flush; the view ends.
  Page* detach();

 private:
  UserTables& tables_;
  VirtAddr va_;
  arch::Pte* entries_ = nullptr;
  Page* page_ = nullptr;
  void* map_ = nullptr;  // what KmapLocal's function gave, if no window showed it
};

/// Reads ukva= and pte=. Boot, once.
void init_user_tables(const CommandLine& options);
/// For tests and benchmarks: through the window, or not. No user space may be in use meanwhile.
enum class TableAccess : u8 { Window, Kmap };
void set_table_access(TableAccess access);
TableAccess table_access();
/// Tables that were reached by a kmap since boot.
u32 table_kmaps();

}  // namespace paean
