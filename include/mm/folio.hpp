// A folio: what the page cache knows of 1, 2, 4, 8 or 16 contiguous pages of one file. 32 bytes of lowmem; the pages
// themselves stay plain blocks of the frame allocator, owner PageCache.
//
// References: one of the tree while the folio is in its file, one of each FolioRef. With the last one the pages are
// freed. State bits are atomic; who waits for one sleeps in a hashed table of wait queues.
//
//   Locked     its holder fills it, truncates it or evicts it; the store unlocks it with end_read()
//   UpToDate   contents are those of the file; set once, and then for good
//   Dirty      contents are newer than the store's; never without UpToDate
//   WriteBack  the store is writing it; contents may change meanwhile, which makes it dirty again
//   Failed     the last transfer failed
//   Gone       truncated: no longer in its file
//
// Context: get, put, end_read, end_write and the tests: any. lock, wait: may sleep.
#pragma once

#include <atomic>
#include <utility>

#include "lib/result.hpp"
#include "mm/page.hpp"

namespace paean {

class AddressSpace;

enum class FolioFlag : u32 {
  Locked = 1,
  UpToDate = 2,
  Dirty = 4,
  WriteBack = 8,
  Failed = 16,
  Gone = 32,
  Active = 64,    // on the list of folios that were used again
  Touched = 128,  // used once since somebody looked
  Used = 256,     // used again
};

class Folio {
 public:
  AddressSpace* space() const { return space_; }
  /// Page index in the file of the first page; a multiple of pages().
  u32 index() const { return index_; }
  Order order() const { return Order{state_.load(std::memory_order_relaxed) >> kOrderShift & 15}; }
  u32 pages() const { return order().pages(); }
  /// In the file, in bytes.
  u64 offset() const { return u64{index_} << kPageShift; }
  u64 end() const { return offset() + PageCount{pages()}.bytes(); }
  /// Contiguous in frames; `n` below pages().
  Page* page(u32 n = 0) const { return pfn_to_page(first_) + n; }
  /// The page of the file with this index, which the folio holds.
  Page* page_at(u32 file_index) const { return page(file_index - index_); }

  bool has(FolioFlag flag) const { return (state_.load(std::memory_order_acquire) & static_cast<u32>(flag)) != 0; }
  template <typename... Flags>
  bool has_any(Flags... flags) const {
    return (state_.load(std::memory_order_acquire) & (static_cast<u32>(flags) | ...)) != 0;
  }
  void lock();
  [[nodiscard]] bool try_lock();
  void unlock();
  void wait_until_read();     // not locked any more
  void wait_until_written();  // not under write-back
  /// Why the last transfer failed; of a folio that has Failed.
  Error error() const { return static_cast<Error>(state_.load(std::memory_order_acquire) >> kErrorShift & 255); }

  /// The store's answers. end_read unlocks: up to date, or Failed.
  void end_read(Result<> result);
  void end_write(Result<> result);

 private:
  friend class AddressSpace;
  friend class FolioRef;
  friend struct FolioOps;
  static constexpr u32 kOrderShift = 12, kErrorShift = 16;
  AddressSpace* space_ = nullptr;
  u32 index_ = 0;
  Pfn first_{};
  std::atomic<u32> state_{0};  // flags, order, error
  std::atomic<u32> references_{0};
  Folio *older_ = nullptr, *newer_ = nullptr;  // in a list by age; not for stores without write-back
  u32 dirtied_at_ = 0;                         // ticks
};
static_assert(sizeof(Folio) == 32, "8 MiB a GiB of single pages, 512 KiB with 16 pages each");

/// A counted reference; empty if there is no folio.
class [[nodiscard]] FolioRef {
 public:
  FolioRef() = default;
  FolioRef(FolioRef&& other) noexcept : folio_(std::exchange(other.folio_, nullptr)) {}
  FolioRef& operator=(FolioRef&& other) noexcept {
    std::swap(folio_, other.folio_);
    return *this;
  }
  FolioRef(const FolioRef&) = delete;
  FolioRef& operator=(const FolioRef&) = delete;
  ~FolioRef() {
    if (folio_ != nullptr) put(folio_);
  }
  explicit operator bool() const { return folio_ != nullptr; }
  Folio* operator->() const { return folio_; }
  Folio& operator*() const { return *folio_; }

 private:
  friend class AddressSpace;
  friend struct FolioOps;
  explicit FolioRef(Folio* counted) : folio_(counted) {}
  static void put(Folio* folio) {
    if (folio->references_.fetch_sub(1, std::memory_order_acq_rel) == 1) end(folio);
  }
  static void end(Folio* folio);
  Folio* folio_ = nullptr;
};

}  // namespace paean
