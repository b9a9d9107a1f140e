// The records of lent frames, as movers see them. Private to mm; mm/lending.hpp says what they are for.
#pragma once

#include "mm/lending.hpp"
#include "mm/page_cache_internal.hpp"

namespace paean {

/// A page whose contents go to another one.
struct PageMove {
  Page* from = nullptr;
  Page* to = nullptr;
  VirtAddr va{};      // where a program sees it
  bool done = false;  // the last change of its entry; false once the entry showed something else
};

/// A place where a program sees a page, and the promise that its space does not end meanwhile.
class [[nodiscard]] PinnedPlace {
 public:
  PinnedPlace() = default;
  PinnedPlace(PinnedPlace&& other) noexcept : space_(std::exchange(other.space_, nullptr)), va_(other.va_) {}
  PinnedPlace& operator=(PinnedPlace&& other) noexcept {
    std::swap(space_, other.space_);
    std::swap(va_, other.va_);
    return *this;
  }
  PinnedPlace(const PinnedPlace&) = delete;
  PinnedPlace& operator=(const PinnedPlace&) = delete;
  ~PinnedPlace() { unpin(); }

  explicit operator bool() const { return space_ != nullptr; }
  const UserSpace* space() const { return space_; }
  VirtAddr va() const { return va_; }

  /// Of pages of this space: makes entries read-only.
  void protect(std::span<PageMove> moves) const;
  /// Of pages that are `done`: shows the other page, which has the same contents, with a reference of its own, and
  /// still read-only. The reference for the old one is the caller's then, to be dropped after flush().
  void replace(std::span<PageMove> moves) const;
  /// Takes the page of a file out, and drops the entry's reference. False if the entry shows something else.
  bool drop(Page* page, Folio& folio) const;
  /// Every CPU has dropped its translations of this space, wherever the page was seen.
  void flush() const;

 private:
  friend struct LentFrames;
  PinnedPlace(UserSpace& space, VirtAddr va);
  void unpin();
  UserSpace* space_ = nullptr;
  VirtAddr va_{};
};

struct LentFrames {
  /// What is known about a page that is to move.
  struct Use {
    enum class Kind : u8 { None, Busy, Mapped, Cached } kind = Kind::None;
    u32 places = 0;     // Mapped: where programs see it. The caller has a reference more
    PinnedPlace place;  // the first of them
    FolioRef folio;     // Cached
  };
  static Use begin_move(Page* page);
  /// The n-th place; empty if there are not so many.
  static PinnedPlace place(Page* page, u32 n);
  /// Is anything known? A hint.
  static bool is_used(Pfn pfn);
  /// One past the last frame with a record.
  static Pfn end();
};

}  // namespace paean
