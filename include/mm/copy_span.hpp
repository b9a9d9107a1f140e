// The other end of a copy into or out of cached pages: memory of the kernel, or of the running program, which is then
// copied once and not by way of a buffer.
//
//   read:   CopyTarget, an address of the program. Its pages come while the copy is on its way, as for a store of its
//           own; whoever copies holds references to pages, but no lock. A fault that nobody can resolve ends the copy.
//   write:  CopySource, pages that the caller holds. Locks of a file are held then, in which no fault may be, and
//           contents that have been announced must come.
//
// Both are views, as std::span, which they take the place of: of the kernel's memory they are made without a word.
#pragma once

#include <concepts>
#include <span>

#include "lib/addr.hpp"
#include "lib/result.hpp"
#include "mm/highmem.hpp"

namespace paean {

class CopyTarget {
 public:
  CopyTarget(u8* at, usize bytes) : at_(at), size_(static_cast<u32>(bytes)) {}
  template <std::convertible_to<std::span<u8>> Bytes>
  explicit(false) CopyTarget(Bytes&& bytes) : CopyTarget(std::span<u8>{bytes}.data(), std::span<u8>{bytes}.size()) {}
  /// Precondition: is_user_range().
  static CopyTarget of_program(VirtAddr at, u32 bytes) {
    CopyTarget target{nullptr, bytes};
    target.program_ = at;
    return target;
  }

  u32 size() const { return size_; }
  bool empty() const { return size_ == 0; }
  CopyTarget subspan(u32 offset, u32 count) const {
    CopyTarget part{at_ == nullptr ? nullptr : at_ + offset, count};
    part.program_ = program_ + offset;
    return part;
  }
  CopyTarget subspan(u32 offset) const { return subspan(offset, size_ - offset); }
  CopyTarget first(u32 count) const { return subspan(0, count); }
  /// Bytes copied: all of them, but where the program's memory is none.
  u32 fill(const void* from) const {
    if (at_ == nullptr) return fill_program(from);
    copy_bytes(at_, from, size_);
    return size_;
  }
  /// The same with zeros.
  u32 clear() const;
  /// Of the kernel's memory (asserted).
  std::span<u8> kernel_bytes() const {
    ASSERT(at_ != nullptr || size_ == 0);
    return {at_, size_};
  }

 private:
  u32 fill_program(const void* from) const;

  u8* at_;  // nullptr: the program's
  u32 size_;
  VirtAddr program_{};
};

class CopySource {
 public:
  CopySource(const u8* at, usize bytes) : at_(at), size_(static_cast<u32>(bytes)) {}
  template <std::convertible_to<std::span<const u8>> Bytes>
  explicit(false) CopySource(Bytes&& bytes)
      : CopySource(std::span<const u8>{bytes}.data(), std::span<const u8>{bytes}.size()) {}
  /// Bytes of pages side by side, from an offset in the first one on. The pages are held until the copy has ended.
  static CopySource of_pages(Page* const* pages, u32 offset, u32 bytes) {
    CopySource source{nullptr, bytes};
    source.pages_ = pages;
    source.offset_ = offset;
    return source;
  }

  u32 size() const { return size_; }
  bool empty() const { return size_ == 0; }
  CopySource subspan(u32 offset, u32 count) const {
    CopySource part{pages_ == nullptr ? at_ + offset : nullptr, count};
    part.pages_ = pages_;
    part.offset_ = offset_ + offset;
    return part;
  }
  CopySource subspan(u32 offset) const { return subspan(offset, size_ - offset); }
  /// All of it, to a part of a page; must end within it (asserted).
  void copy_to(Page* page, u32 offset) const;
  /// Of the kernel's memory (asserted).
  std::span<const u8> kernel_bytes() const {
    ASSERT(pages_ == nullptr);
    return {at_, size_};
  }

 private:
  const u8* at_;
  u32 size_;
  Page* const* pages_ = nullptr;  // or nullptr
  u32 offset_ = 0;                // from the beginning of the first one
};

/// Pages of the running program that are read from, held for a scope: no fault and no swap takes them away, and what
/// the program stores meanwhile may be seen or not. May sleep where it is made.
class [[nodiscard]] HeldPages {
 public:
  static constexpr u32 kMost = 17;  // 64 KiB that begin anywhere

  /// As many as there are of [at, at + bytes), from the first one on.
  HeldPages(VirtAddr at, u32 bytes);
  ~HeldPages();
  HeldPages(const HeldPages&) = delete;
  HeldPages& operator=(const HeldPages&) = delete;
  /// Empty if there is not even the first page.
  CopySource bytes() const { return CopySource::of_pages(pages_, offset_, bytes_); }

 private:
  Page* pages_[kMost];
  u32 count_ = 0, offset_, bytes_ = 0;
};

}  // namespace paean
