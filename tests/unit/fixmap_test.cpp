// Temporary windows: the right contents at every depth, nothing beyond a window, nothing left after it.
#include "arch/fixmap.hpp"
#include "access.hpp"
#include "arch/address_space.hpp"
#include "arch/cpu.hpp"
#include "arch/traps.hpp"
#include "mm/highmem.hpp"

namespace paean {

namespace {

constexpr u32 kDepth = arch::kKmapDepth;

/// Sixteen pages, high if the machine has such, each with its own number inside.
class NumberedPages {
 public:
  NumberedPages() {
    for (Page*& page : pages_) {
      const Result<Page*> got = alloc_page(AllocFlags::HighUser, Owner::Test);
      if (!got) return;
      page = *got;
      const arch::FixWindow window{frame(count_)};
      window.as<u32>()[0] = mark(count_);
      window.as<u32>()[kPageSize / 4 - 1] = ~mark(count_);
      ++count_;
    }
  }
  ~NumberedPages() {
    for (u32 i = 0; i < count_; ++i) free_page(pages_[i]);
  }
  NumberedPages(const NumberedPages&) = delete;
  NumberedPages& operator=(const NumberedPages&) = delete;
  bool valid() const { return count_ == kDepth; }
  Page* operator[](u32 i) const { return pages_[i]; }
  PhysAddr frame(u32 i) const { return to_phys(page_to_pfn(pages_[i])); }
  static u32 mark(u32 i) { return 0xc0de0000 + i; }
  bool matches(u32 i, const void* at) const {
    const auto* words = static_cast<const volatile u32*>(at);
    return words[0] == mark(i) && words[kPageSize / 4 - 1] == ~mark(i);
  }

 private:
  Page* pages_[kDepth]{};
  u32 count_ = 0;
};

}  // namespace

KTEST(fixmap, sixteen_windows_show_sixteen_pages) {
  const NumberedPages pages;
  REQUIRE(pages.valid());
  REQUIRE_EQ(arch::fix_depth(), 0);
  void* at[kDepth];
  for (u32 i = 0; i < kDepth; ++i) {
    at[i] = arch::fix_push(pages.frame(i));
    EXPECT_EQ(arch::fix_depth(), i + 1);
    for (u32 j = 0; j <= i; ++j) EXPECT(pages.matches(j, at[j]));
  }
  for (u32 i = kDepth; i-- != 0;) {
    for (u32 j = 0; j <= i; ++j) EXPECT(pages.matches(j, at[j]));
    arch::fix_pop(at[i]);
    EXPECT_EQ(arch::fix_depth(), i);
  }
}

KTEST(fixmap, windows_lie_in_the_fixmap_two_pages_apart) {
  const NumberedPages pages;
  REQUIRE(pages.valid());
  const arch::FixWindow first{pages.frame(0)};
  const arch::FixWindow second{pages.frame(1)};
  const VirtAddr a = address_of(first.bytes()), b = address_of(second.bytes());
  EXPECT(a >= arch::kFixmapStart && b + kPageSize <= arch::kFixmapEnd);
  EXPECT_EQ(b - a, 2 * kPageSize);
  EXPECT(a.is_aligned(kPageSize));
}

KTEST(fixmap, one_byte_past_a_window_faults) {
  const NumberedPages pages;
  REQUIRE(pages.valid());
  void* at[kDepth];
  for (u32 i = 0; i < kDepth; ++i) at[i] = arch::fix_push(pages.frame(i));
  for (u32 i = 0; i < kDepth; ++i) {
    const VirtAddr start = address_of(at[i]);
    EXPECT(arch::probe_read(start));
    EXPECT(arch::probe_read(start + (kPageSize - 4)));
    EXPECT(!arch::probe_read(start + kPageSize));
    EXPECT(!arch::probe_write(start + kPageSize, 1));
    EXPECT(!arch::probe_read(start - 4));
    EXPECT(!arch::probe_read(start + (kPageSize - 2)));  // two bytes on each side of the edge
  }
  for (u32 i = kDepth; i-- != 0;) arch::fix_pop(at[i]);
}

KTEST(fixmap, a_stale_window_faults) {
  const NumberedPages pages;
  REQUIRE(pages.valid());
  for (u32 i = 0; i < 1000; ++i) {
    const arch::IrqsOffGuard off;  // an interrupt could use the slot between pop and probe
    void* at = arch::fix_push(pages.frame(i % kDepth));
    REQUIRE(pages.matches(i % kDepth, at));
    arch::fix_pop(at);
    REQUIRE(!arch::probe_read(address_of(at)));
    REQUIRE(!arch::probe_write(address_of(at), 0));
  }
}

KTEST(fixmap, a_slot_shows_its_new_page_at_once) {
  const NumberedPages pages;
  REQUIRE(pages.valid());
  for (u32 i = 0; i < 10'000; ++i) {
    const u32 which = test.random_below(kDepth);
    const arch::FixWindow window{pages.frame(which)};
    REQUIRE(pages.matches(which, window.bytes()));
  }
}

KTEST(fixmap, pop_takes_any_address_of_the_page) {
  const NumberedPages pages;
  REQUIRE(pages.valid());
  auto* at = static_cast<u8*>(arch::fix_push(pages.frame(0)));
  arch::fix_pop(at + kPageSize - 1);
  EXPECT_EQ(arch::fix_depth(), 0);
}

KTEST(fixmap, windows_cannot_execute) {
  if (!arch::cpu_features().nx) SKIP("this CPU has no NX");
  const NumberedPages pages;
  REQUIRE(pages.valid());
  const arch::FixWindow window{pages.frame(0)};
  *window.bytes() = 0xc3;
  EXPECT(!arch::probe_execute(address_of(window.bytes())));
}

KTEST(fixmap, copies_out_of_physical_memory_across_pages) {
  const Result<Page*> block = alloc_pages(AllocFlags::HighUser, Order{2}, Owner::Test);
  REQUIRE(block);
  const PhysAddr start = to_phys(page_to_pfn(*block));
  for (u32 i = 0; i < 4; ++i) {
    const arch::FixWindow window{start + u64{i} * kPageSize};
    for (u32 j = 0; j < kPageSize; ++j) window.bytes()[j] = static_cast<u8>(i * 64 + j % 61);
  }
  u8 copy[300];
  arch::copy_from_physical(copy, start + (2 * kPageSize - 100), sizeof copy);
  for (u32 i = 0; i < sizeof copy; ++i) {
    const u32 at = 2 * kPageSize - 100 + i;
    EXPECT_EQ(copy[i], static_cast<u8>(at / kPageSize * 64 + at % kPageSize % 61));
  }
  free_pages(*block, Order{2});
}

KTEST(highmem, lowmem_needs_no_window) {
  if (direct_words == 0) SKIP("kmap=force maps lowmem too");
  const Result<Page*> page = alloc_page(AllocFlags::Kernel, Owner::Test);
  REQUIRE(page);
  {
    const KmapAtomic map{*page};
    EXPECT_EQ(arch::fix_depth(), 0);
    EXPECT_EQ(number(address_of(map.data())), number(*page_address(*page)));
    EXPECT_EQ(map.bytes().size(), kPageSize);
  }
  free_page(*page);
}

KTEST(highmem, a_high_page_has_no_address_until_it_is_mapped, .flags = TestFlag::NeedsHighmem) {
  const Result<Page*> page = alloc_page(AllocFlags::HighUser, Owner::Test);
  REQUIRE(page);
  EXPECT(!page_address(*page));
  EXPECT(!to_low(page_to_pfn(*page)));
  {
    const KmapAtomic map{*page};
    EXPECT_EQ(arch::fix_depth(), 1);
    const arch::Walk walk = arch::walk_current(address_of(map.data()));
    EXPECT(walk.mapped);
    EXPECT_EQ(number(walk.address), number(to_phys(page_to_pfn(*page))));
  }
  EXPECT_EQ(arch::fix_depth(), 0);
  free_page(*page);
}

KTEST(highmem, clear_highpage_clears_all_of_it_and_no_more) {
  const Result<Page*> block = alloc_pages(AllocFlags::HighUser, Order{2}, Owner::Test);
  REQUIRE(block);
  for (u32 i = 0; i < 4; ++i) __builtin_memset(KmapAtomic{*block + i}.data(), 0xa5, kPageSize);
  clear_highpage(*block + 1);
  for (u32 i = 0; i < 4; ++i) {
    const KmapAtomic map{*block + i};
    u32 wrong = 0;
    for (const u8 byte : map.bytes()) wrong += byte == (i == 1 ? 0 : 0xa5) ? 0 : 1;
    EXPECT_EQ(wrong, 0);
  }
  free_pages(*block, Order{2});
}

}  // namespace paean
