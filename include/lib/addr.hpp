// Addresses and page counts as types that cannot be mixed up.
//
//   PhysAddr   64 bits   a byte in the physical world (52 bits at most on x86)
//   Pfn        32 bits   a page frame number: PhysAddr / 4096, reaches 16 TiB
//   VirtAddr   32 bits   a byte that the CPU can point at
//   PageCount  32 bits   how many 4 KiB pages
//   Order       8 bits   a block of 2^order pages, 0..10
//
// No compiler warns about `pfn << 12` in 32 bits, about `u64 & ~0xfffu`, or about a pointer made from a u64; each of
// those has lost memory in a real kernel. So the classes have no implicit conversions, all conversions stand in this
// header, and `raw()` is allowed only in the files that scripts/lint lists.
//
// Units are in the names: bytes for PhysAddr and VirtAddr, frames for Pfn and PageCount. All operations are constexpr
// and usable in any context.
#pragma once

#include <compare>

#include "lib/types.hpp"

namespace paean {

inline constexpr u32 kPageShift = 12;
inline constexpr u32 kPageSize = 1u << kPageShift;
inline constexpr u32 kLargePageShift = 21;  // a PAE page-directory entry maps 2 MiB
inline constexpr u32 kLargePageSize = 1u << kLargePageShift;
inline constexpr u32 kPagesPerLargePage = kLargePageSize / kPageSize;

/// log2 of the pages in a block that the frame allocator hands out.
class Order {
 public:
  constexpr Order() = default;
  constexpr explicit Order(u32 value) : value_(static_cast<u8>(value)) {}
  constexpr u32 value() const { return value_; }
  constexpr u32 pages() const { return 1u << value_; }
  constexpr bool operator==(const Order&) const = default;
  constexpr auto operator<=>(const Order&) const = default;

 private:
  u8 value_ = 0;
};

inline constexpr u32 kMaxOrder = 10;  // 4 MiB, two 2 MiB pages: the largest block that hardware or drivers ask for
inline constexpr u32 kOrderCount = kMaxOrder + 1;

/// A number of 4 KiB pages. 32 bits reach 16 TiB.
class PageCount {
 public:
  constexpr PageCount() = default;
  constexpr explicit PageCount(u32 count) : count_(count) {}
  constexpr explicit PageCount(Order order) : count_(order.pages()) {}
  constexpr u32 count() const { return count_; }
  constexpr u64 bytes() const { return u64{count_} << kPageShift; }
  constexpr u64 kib() const { return u64{count_} * (kPageSize / kKiB); }
  constexpr u32 mib() const { return count_ >> 8; }
  constexpr PageCount& operator+=(PageCount other) {
    count_ += other.count_;
    return *this;
  }
  constexpr PageCount& operator-=(PageCount other) {
    count_ -= other.count_;
    return *this;
  }
  constexpr PageCount operator+(PageCount other) const { return PageCount{count_ + other.count_}; }
  constexpr PageCount operator-(PageCount other) const { return PageCount{count_ - other.count_}; }
  constexpr bool operator==(const PageCount&) const = default;
  constexpr auto operator<=>(const PageCount&) const = default;

 private:
  u32 count_ = 0;
};

/// A physical byte address, 64 bits.
class PhysAddr {
 public:
  constexpr PhysAddr() = default;
  constexpr explicit PhysAddr(u64 value) : value_(value) {}
  constexpr u64 raw() const { return value_; }
  constexpr u32 page_offset() const { return static_cast<u32>(value_) & (kPageSize - 1); }
  constexpr bool is_aligned(u64 size) const { return (value_ & (size - 1)) == 0; }
  constexpr PhysAddr align_down(u64 size) const { return PhysAddr{value_ & ~(size - 1)}; }
  /// Saturates at the highest aligned address instead of wrapping to 0.
  constexpr PhysAddr align_up(u64 size) const {
    return value_ > ~(size - 1) ? PhysAddr{~(size - 1)} : PhysAddr{(value_ + size - 1) & ~(size - 1)};
  }
  constexpr PhysAddr operator+(u64 bytes) const { return PhysAddr{value_ + bytes}; }
  constexpr PhysAddr operator-(u64 bytes) const { return PhysAddr{value_ - bytes}; }
  constexpr u64 operator-(PhysAddr other) const { return value_ - other.value_; }
  constexpr PhysAddr& operator+=(u64 bytes) {
    value_ += bytes;
    return *this;
  }
  constexpr bool operator==(const PhysAddr&) const = default;
  constexpr auto operator<=>(const PhysAddr&) const = default;

 private:
  u64 value_ = 0;
};

/// A physical page frame number.
class Pfn {
 public:
  constexpr Pfn() = default;
  constexpr explicit Pfn(u32 value) : value_(value) {}
  constexpr u32 raw() const { return value_; }
  constexpr bool is_aligned(Order order) const { return (value_ & (order.pages() - 1)) == 0; }
  constexpr Pfn align_down(Order order) const { return Pfn{value_ & ~(order.pages() - 1)}; }
  constexpr Pfn operator+(PageCount pages) const { return Pfn{value_ + pages.count()}; }
  constexpr Pfn operator-(PageCount pages) const { return Pfn{value_ - pages.count()}; }
  constexpr PageCount operator-(Pfn other) const { return PageCount{value_ - other.value_}; }
  constexpr Pfn& operator+=(PageCount pages) {
    value_ += pages.count();
    return *this;
  }
  constexpr Pfn& operator++() {
    ++value_;
    return *this;
  }
  constexpr bool operator==(const Pfn&) const = default;
  constexpr auto operator<=>(const Pfn&) const = default;

 private:
  u32 value_ = 0;
};

/// A virtual address, 32 bits whatever the host is.
class VirtAddr {
 public:
  constexpr VirtAddr() = default;
  constexpr explicit VirtAddr(u32 value) : value_(value) {}
  constexpr u32 raw() const { return value_; }
  constexpr u32 page_offset() const { return value_ & (kPageSize - 1); }
  constexpr bool is_aligned(u32 size) const { return (value_ & (size - 1)) == 0; }
  constexpr VirtAddr align_down(u32 size) const { return VirtAddr{value_ & ~(size - 1)}; }
  constexpr VirtAddr align_up(u32 size) const { return VirtAddr{(value_ + size - 1) & ~(size - 1)}; }
  constexpr VirtAddr operator+(u32 bytes) const { return VirtAddr{value_ + bytes}; }
  constexpr VirtAddr operator-(u32 bytes) const { return VirtAddr{value_ - bytes}; }
  constexpr u32 operator-(VirtAddr other) const { return value_ - other.value_; }
  constexpr VirtAddr& operator+=(u32 bytes) {
    value_ += bytes;
    return *this;
  }
  constexpr bool operator==(const VirtAddr&) const = default;
  constexpr auto operator<=>(const VirtAddr&) const = default;

 private:
  u32 value_ = 0;
};

/// Physical addresses at or above this have no 32-bit frame number; memory there is ignored with a warning.
inline constexpr PhysAddr kPfnLimit{u64{1} << (32 + kPageShift)};

constexpr PhysAddr to_phys(Pfn pfn) { return PhysAddr{u64{pfn.raw()} << kPageShift}; }
/// The frame that holds the byte. Precondition: addr < kPfnLimit.
constexpr Pfn to_pfn(PhysAddr addr) { return Pfn{static_cast<u32>(addr.raw() >> kPageShift)}; }
/// The first frame that starts at or after the byte. Precondition: addr <= kPfnLimit - 4096.
constexpr Pfn to_pfn_up(PhysAddr addr) { return to_pfn(addr.align_up(kPageSize)); }
/// Whole pages needed to hold so many bytes.
constexpr PageCount pages_for(u64 bytes) { return PageCount{static_cast<u32>((bytes + kPageSize - 1) >> kPageShift)}; }

static_assert(to_phys(Pfn{0x100000}) == PhysAddr{4 * kGiB});
static_assert(to_phys(Pfn{0xffffffff}) == kPfnLimit - kPageSize);
static_assert(to_pfn(PhysAddr{64 * kGiB}) == Pfn{0x1000000});
static_assert(PhysAddr{~u64{0}}.align_up(kPageSize) == PhysAddr{~u64{kPageSize - 1}});

}  // namespace paean
