// What the tests of block devices share: memory with a pattern, as segments.
#pragma once

#include "access.hpp"
#include "kernel/block/device.hpp"
#include "kernel/test/ktest.hpp"
#include "mm/highmem.hpp"
#include "mm/page_alloc.hpp"

namespace paean {

/// Up to so many pages that a test owns, each a segment of its own, or a part of one.
template <u32 kCapacity>
class TestPages {
 public:
  TestPages() = default;
  ~TestPages() { free(); }
  TestPages(const TestPages&) = delete;
  TestPages& operator=(const TestPages&) = delete;

  [[nodiscard]] bool take(u32 pages, AllocFlags flags) {
    for (u32 i = 0; i < pages; ++i) {
      const Result<Page*> page = alloc_page(flags, Owner::Test);
      if (!page) return false;
      segments_[count_++] = {*page, 0, kPageSize};
    }
    return true;
  }
  void free() {
    while (count_ != 0) free_page(segments_[--count_].page);
  }
  Segment& operator[](u32 index) { return segments_[index]; }
  std::span<const Segment> segments() const { return {segments_, count_}; }

 private:
  Segment segments_[kCapacity]{};
  u32 count_ = 0;
};

/// Every word of the segments tells where it belongs: words of the same `seed` at the same place are equal.
inline void fill_pattern(std::span<const Segment> segments, u32 seed) {
  u32 word = seed;
  for (const Segment& segment : segments) {
    const KmapLocal map{segment.page};
    u32* at = map.as<u32>() + segment.offset / sizeof(u32);
    for (u32 i = 0; i < segment.bytes / sizeof(u32); ++i) at[i] = word = word * 1'664'525 + 1'013'904'223;
  }
}
inline u32 wrong_words(std::span<const Segment> segments, u32 seed) {
  u32 word = seed, wrong = 0;
  for (const Segment& segment : segments) {
    const KmapLocal map{segment.page};
    const u32* at = map.as<u32>() + segment.offset / sizeof(u32);
    for (u32 i = 0; i < segment.bytes / sizeof(u32); ++i) {
      word = word * 1'664'525 + 1'013'904'223;
      wrong += at[i] != word ? 1 : 0;
    }
  }
  return wrong;
}
inline void clear_segments(std::span<const Segment> segments) {
  for (const Segment& segment : segments) zero_user(segment.page, segment.offset, segment.bytes);
}
inline u32 nonzero_words(std::span<const Segment> segments) {
  u32 found = 0;
  for (const Segment& segment : segments) {
    const KmapLocal map{segment.page};
    const u32* at = map.as<u32>() + segment.offset / sizeof(u32);
    for (u32 i = 0; i < segment.bytes / sizeof(u32); ++i) found += at[i] != 0 ? 1 : 0;
  }
  return found;
}

/// All lowmem that can be had, as a list through the pages themselves.
class NoLowmem {
 public:
  NoLowmem() { take(AllocFlags::Atomic); }
  /// All that there is of other zones too; large blocks first, because there may be gigabytes.
  void take(AllocFlags flags) {
    for (u32 order = 10; order-- != 0;) {
      while (const Result<Page*> block = alloc_pages(flags | AllocFlags::NoWarn, Order{order}, Owner::Test)) {
        const KmapLocal map{*block};
        *map.as<Taken>() = {first_, order};
        first_ = *block;
      }
    }
  }
  ~NoLowmem() {
    while (first_ != nullptr) {
      Page* const block = first_;
      u32 order;
      {
        const KmapLocal map{block};
        first_ = map.as<Taken>()->next;
        order = map.as<Taken>()->order;
      }
      free_pages(block, Order{order});
    }
  }
  NoLowmem(const NoLowmem&) = delete;
  NoLowmem& operator=(const NoLowmem&) = delete;

 private:
  struct Taken {
    Page* next;
    u32 order;
  };
  Page* first_ = nullptr;
};

}  // namespace paean
