#include "lib/addr.hpp"

#include "support.hpp"

namespace paean::host {

TEST_SUITE("addr") {
  TEST_CASE("a frame above 4 GiB keeps all its bits") {
    CHECK(to_phys(Pfn{0x100000}) == PhysAddr{4 * kGiB});
    CHECK(to_pfn(PhysAddr{64 * kGiB - 1}) == Pfn{0xffffff});
    for (u32 bit = 0; bit < 32; ++bit) {
      const Pfn pfn{1u << bit};
      CHECK(to_phys(pfn) == PhysAddr{u64{1} << (bit + kPageShift)});
      CHECK(to_pfn(to_phys(pfn)) == pfn);
    }
    CHECK(to_pfn(kPfnLimit - 1) == Pfn{0xffffffff});
  }

  TEST_CASE("rounding up to frames takes a whole page more only if it must") {
    CHECK(to_pfn_up(PhysAddr{0}) == Pfn{0});
    CHECK(to_pfn_up(PhysAddr{1}) == Pfn{1});
    CHECK(to_pfn_up(PhysAddr{4 * kGiB}) == Pfn{0x100000});
    CHECK(to_pfn_up(PhysAddr{4 * kGiB + 1}) == Pfn{0x100001});
  }

  TEST_CASE("alignment works above 4 GiB") {
    const PhysAddr odd{5 * kGiB + 0x1234};
    CHECK(odd.align_down(kPageSize) == PhysAddr{5 * kGiB + 0x1000});
    CHECK(odd.align_up(kPageSize) == PhysAddr{5 * kGiB + 0x2000});
    CHECK(odd.align_down(kLargePageSize) == PhysAddr{5 * kGiB});
    CHECK(odd.align_down(u64{1} << 33) == PhysAddr{0});
    CHECK(odd.page_offset() == 0x234);
    CHECK_FALSE(odd.is_aligned(8));
    CHECK(PhysAddr{8 * kGiB}.is_aligned(u64{1} << 33));
  }

  TEST_CASE("align_up saturates at the top instead of wrapping") {
    CHECK(PhysAddr{~u64{0}}.align_up(kPageSize) == PhysAddr{~u64{0xfff}});
    CHECK(PhysAddr{~u64{0xfff}}.align_up(kPageSize) == PhysAddr{~u64{0xfff}});
    CHECK(PhysAddr{~u64{0xfff} - 1}.align_up(kPageSize) == PhysAddr{~u64{0xfff}});
  }

  TEST_CASE("distances and sums") {
    CHECK(PhysAddr{6 * kGiB} - PhysAddr{kGiB} == 5 * kGiB);
    CHECK(Pfn{10} - Pfn{4} == PageCount{6});
    CHECK(Pfn{10} + PageCount{Order{3}} == Pfn{18});
    CHECK(VirtAddr{0xc0000000} - VirtAddr{0xbffff000} == 0x1000);
    CHECK(VirtAddr{0xc0000123}.align_up(kPageSize) == VirtAddr{0xc0001000});
  }

  TEST_CASE("counts of pages") {
    CHECK(pages_for(0) == PageCount{0});
    CHECK(pages_for(1) == PageCount{1});
    CHECK(pages_for(4096) == PageCount{1});
    CHECK(pages_for(64 * kGiB) == PageCount{1u << 24});
    CHECK(PageCount{1u << 24}.bytes() == 64 * kGiB);
    CHECK(PageCount{1u << 24}.kib() == 64 * 1024 * 1024);
    CHECK(PageCount{1u << 24}.mib() == 64 * 1024);
  }

  TEST_CASE("orders") {
    CHECK(Order{0}.pages() == 1);
    CHECK(Order{kMaxOrder}.pages() == 1024);
    CHECK(Pfn{1024}.is_aligned(Order{10}));
    CHECK_FALSE(Pfn{1023}.is_aligned(Order{1}));
    CHECK(Pfn{0xffffffff}.align_down(Order{10}) == Pfn{0xfffffc00});
  }
}

}  // namespace paean::host
