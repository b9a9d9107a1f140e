// vmalloc: what one caller sees. Load and several CPUs: vmalloc_stress_test.cpp; other people's frames: vmap_test.cpp.
#include "mm/vmalloc.hpp"

#include "access.hpp"
#include "arch/irq.hpp"
#include "arch/traps.hpp"
#include "kernel/preempt.hpp"
#include "mm/boot_memory.hpp"
#include "mm/ledger.hpp"

namespace paean {

namespace {

void* at_page(void* area, u32 page) { return static_cast<u8*>(area) + page * kPageSize; }
u32& word_at(void* area, u32 page) { return *static_cast<u32*>(at_page(area, page)); }

u32 owned_pages() {
  u32 sum = 0;
  for (const ZoneId id : kAllZones) sum += ledger_pages(id, Owner::Vmalloc).count();
  return sum;
}

u32 nonzero_bytes(const void* area, u32 bytes) {
  u32 count = 0;
  for (u32 i = 0; i < bytes; ++i) count += static_cast<const u8*>(area)[i] != 0 ? 1 : 0;
  return count;
}

VmAreaInfo info_of(const void* area) {
  const auto info = vmalloc_area_from(address_of(area));
  return info.value_or(VmAreaInfo{});
}

}  // namespace

KTEST(vmalloc, the_map_and_the_pages_are_the_same_memory) {
  constexpr u32 kPages = 11;
  const u32 before = owned_pages();
  const Result<void*> area = vmalloc(10 * kPageSize + 1);
  REQUIRE(area);
  EXPECT_EQ(vmalloc_size(*area), kPages * kPageSize);
  EXPECT(owned_pages() - before >= kPages);  // and perhaps a page of descriptors
  for (u32 i = 0; i < kPages; ++i) word_at(*area, i) = 0xabc0000 + i;
  for (u32 i = 0; i < kPages; ++i) {
    Page* page = vmalloc_to_page(at_page(*area, i));
    REQUIRE(page != nullptr);
    EXPECT(page->owner() == Owner::Vmalloc);
    const KmapLocal map{page};
    EXPECT_EQ(*map.as<u32>(), 0xabc0000 + i);
    map.as<u32>()[1023] = i;
  }
  for (u32 i = 0; i < kPages; ++i) EXPECT_EQ((&word_at(*area, i))[1023], i);
  vfree(*area);
  vmalloc_purge();
  EXPECT(owned_pages() <= before + 1);
}

KTEST(vmalloc, pages_are_high_ones, .flags = TestFlag::NeedsHighmem) {
  const Result<void*> area = vmalloc(64 * kPageSize);
  REQUIRE(area);
  for (u32 i = 0; i < 64; ++i) EXPECT(!page_address(vmalloc_to_page(at_page(*area, i))));
  vfree(*area);
  const Result<void*> low = vmalloc(3 * kPageSize, AllocFlags::Kernel);
  REQUIRE(low);
  for (u32 i = 0; i < 3; ++i) EXPECT(page_address(vmalloc_to_page(at_page(*low, i))));
  vfree(*low);
}

KTEST(vmalloc, no_area_touches_what_is_beside_it) {
  void* areas[8];
  for (u32 i = 0; i < 8; ++i) {
    const Result<void*> area = vmalloc((i + 1) * kPageSize);
    REQUIRE(area);
    areas[i] = *area;
  }
  for (u32 i = 0; i < 8; ++i) {
    const VirtAddr start = address_of(areas[i]), end = start + (i + 1) * kPageSize;
    EXPECT(arch::probe_read(start));
    EXPECT(arch::probe_write(end - 4, 1));
    EXPECT(!arch::probe_read(start - 4));
    EXPECT(!arch::probe_write(start - 4, 1));
    EXPECT(!arch::probe_read(end));
    EXPECT(!arch::probe_write(end, 1));
    EXPECT(vmalloc_to_page(at_page(areas[i], i + 1)) == nullptr);
  }
  for (void* area : areas) vfree(area);
}

KTEST(vmalloc, what_is_freed_is_gone_after_a_purge) {
  for (const u32 pages : {1u, 4u, 5u, 700u}) {
    const Result<void*> area = vmalloc(pages * kPageSize);
    REQUIRE(area);
    const VirtAddr start = address_of(*area);
    EXPECT(arch::probe_read(start));
    vfree(*area);
    EXPECT(vmalloc_to_page(*area) == nullptr);
    vmalloc_purge();
    for (u32 i = 0; i < pages; ++i) EXPECT(!arch::probe_read(start + i * kPageSize));
  }
}

KTEST(vmalloc, frames_are_kept_until_the_purge) {
  vmalloc_purge();
  const Result<void*> area = vmalloc(3 * kPageSize);
  REQUIRE(area);
  Page* page = vmalloc_to_page(*area);
  const VmallocStatistics before = vmalloc_statistics();
  vfree(*area);
  const VmallocStatistics after = vmalloc_statistics();
  EXPECT_EQ(after.live, before.live - 1);
  EXPECT_EQ(after.parked, before.parked + 1);
  EXPECT_EQ(after.parked_pages, before.parked_pages + 3);
  EXPECT(page->type() == PageType::Block && page->owner() == Owner::Vmalloc);
  EXPECT(info_of(*area).state == VmState::Parked);
  vmalloc_purge();
  EXPECT(page->type() != PageType::Block);
  EXPECT_EQ(vmalloc_statistics().parked, 0u);
  EXPECT_EQ(vmalloc_statistics().cached, 0u);
}

KTEST(vmalloc, zeroed_memory_is_zero_after_garbage) {
  for (const u32 pages : {1u, 2u, 4u, 5u, 16u, 63u}) {
    const u32 bytes = pages * kPageSize;
    for (u32 round = 0; round < 8; ++round) {
      const Result<void*> garbage = vmalloc(bytes);
      REQUIRE(garbage);
      __builtin_memset(*garbage, 0xa5, bytes);
      vfree(*garbage);
      if (round % 2 == 0) vmalloc_purge();
      const Result<void*> area = vzalloc(bytes);
      REQUIRE(area);
      EXPECT_EQ(nonzero_bytes(*area, bytes), 0u);
      vfree(*area);
    }
  }
}

KTEST(vmalloc, impossible_sizes_are_errors) {
  const VmallocStatistics before = vmalloc_statistics();
  EXPECT(vmalloc(0).error() == Error::InvalidArgument);
  EXPECT(vzalloc(0).error() == Error::InvalidArgument);
  EXPECT(vmalloc(0xffffffff).error() == Error::TooLarge);
  EXPECT(vmalloc(0xfffff000).error() == Error::TooLarge);
  EXPECT(vmalloc(0x80000000).error() == Error::TooLarge);
  for (const u32 align : {0u, 1u, 2048u, 3 * kPageSize, 8 * kMiB}) {
    EXPECT(vmalloc_as({.bytes = 1, .align = align}).error() == Error::InvalidArgument);
  }
  vfree(nullptr);
  vunmap(nullptr);
  iounmap(nullptr);
  const VmallocStatistics after = vmalloc_statistics();
  EXPECT_EQ(after.live, before.live);
  EXPECT_EQ(after.parked, before.parked);
  EXPECT_EQ(after.free_pages, before.free_pages);
}

KTEST(vmalloc, without_memory_everything_is_given_back) {
  // The DMA zone has at most 16 MiB, so this ends in the middle, with most of it taken.
  if (low_totals().free.kib() + high_totals().free.kib() < u64{20} * kKiB) SKIP("too little memory");
  const u32 before = owned_pages();
  const auto area = vmalloc(17 * kMiB, AllocFlags::Dma | AllocFlags::NoWarn);
  REQUIRE(!area);
  EXPECT(area.error() == Error::OutOfMemory);
  EXPECT(owned_pages() <= before + 1);
  EXPECT_EQ(vmalloc_statistics().parked, 0u);  // nothing was ever shown, so nothing had to wait
}

KTEST(vmalloc, without_addresses_parked_ones_are_purged) {
  constexpr u32 kPieces = 64, kSmall = 128;  // pages; what is in smaller pieces may stay
  vmalloc_purge();
  const u32 most = vmalloc_statistics().largest_free_pages - 1;
  if (free_pages_in(ZoneId::HighMem).count() + free_pages_in(ZoneId::Dma32).count() <
      vmalloc_statistics().free_pages + 4096) {
    SKIP("less high memory than addresses");
  }
  const u32 purges = vmalloc_statistics().purges;
  void* pieces[kPieces];
  u32 count = 0;
  for (u32 free = most + 1; free > kSmall && count < kPieces; free = vmalloc_statistics().largest_free_pages) {
    const u32 pages = free - 1;
    const Result<void*> piece = vmalloc(pages * kPageSize);  // in each of the ranges, to the last page
    if (!piece) break;
    word_at(*piece, 0) = word_at(*piece, pages - 1) = 1;
    pieces[count++] = *piece;
  }
  EXPECT_EQ(vmalloc_statistics().purges, purges);
  EXPECT(vmalloc_statistics().largest_free_pages <= kSmall);
  for (u32 i = 0; i < count; ++i) vfree(pieces[i]);
  const Result<void*> again = vmalloc(most * kPageSize);  // larger than a batch: purged already, or now
  REQUIRE(again);
  vfree(*again);
}

KTEST(vmalloc, without_addresses_it_is_an_error) {
  struct Chain {
    Chain* next;
  };
  Chain* chain = nullptr;
  u32 areas = 0;
  for (;;) {  // 1 MiB each; the list is in the areas themselves
    const Result<void*> area = vmalloc(kMiB, AllocFlags::HighUser | AllocFlags::NoWarn);
    if (!area) {
      EXPECT(area.error() == Error::OutOfMemory);
      break;
    }
    auto* link = static_cast<Chain*>(*area);
    link->next = chain;
    chain = link;
    ++areas;
  }
  test.note("{} areas of 1 MiB", areas);
  const u32 purges = vmalloc_statistics().purges;
  for (u32 i = 0; i < 10; ++i) EXPECT(!vmalloc(kMiB, AllocFlags::HighUser | AllocFlags::NoWarn));
  EXPECT(vmalloc_statistics().purges - purges < 10);  // there is nothing to purge, but others may free something
  const Result<void*> small = vmalloc(1);             // less than a large one is left, but not nothing
  if (small) vfree(*small);
  while (chain != nullptr) {
    Chain* const next = chain->next;
    vfree(chain);
    chain = next;
  }
}

KTEST(vmalloc, alignments_up_to_4_mib) {
  for (u32 align = kPageSize; align <= 4 * kMiB; align *= 2) {
    for (const u32 pages : {1u, 3u, 40u}) {
      const Result<void*> area = vmalloc_as({.bytes = pages * kPageSize, .align = align});
      REQUIRE(area);
      EXPECT(address_of(*area).is_aligned(align));
      EXPECT(!arch::probe_read(address_of(*area) - 4));
      EXPECT(!arch::probe_read(address_of(*area) + pages * kPageSize));
      word_at(*area, pages - 1) = align;
      vfree(*area);
    }
  }
}

KTEST(vmalloc, read_only_areas_cannot_be_written) {
  const Result<void*> area = vmalloc_as({.bytes = kPageSize, .protection = arch::Protection::ReadOnly});
  REQUIRE(area);
  EXPECT(arch::probe_read(address_of(*area)));
  EXPECT(!arch::probe_write(address_of(*area), 1));
  vfree(*area);
}

KTEST(vmalloc, areas_never_execute) {
  const Result<void*> area = vmalloc(kPageSize);
  REQUIRE(area);
  *static_cast<u8*>(*area) = 0xc3;
  EXPECT(!arch::probe_execute(address_of(*area)));
  vfree(*area);
}

KTEST(vmalloc, the_space_is_known_to_the_granule) {
  const LayoutPlan& plan = layout();
  const auto is_vmalloc = [](VirtAddr at) { return is_vmalloc_addr(pointer_to<void>(at)); };
  EXPECT(!is_vmalloc(plan.vmalloc_start - 1));
  EXPECT(is_vmalloc(plan.vmalloc_start));
  EXPECT(is_vmalloc(plan.vmalloc_end() - 1));
  EXPECT(!is_vmalloc(plan.vmalloc_end()));
  EXPECT(!is_vmalloc(VirtAddr{0}));
  EXPECT(!is_vmalloc(VirtAddr{0xffffffff}));
  EXPECT(!is_vmalloc(plan.page_offset));
  EXPECT(!is_vmalloc(image_text().start));
  EXPECT(vmalloc_to_page(pointer_to<void>(plan.page_offset)) == nullptr);
  const Result<void*> area = vmalloc(1);
  REQUIRE(area);
  EXPECT(is_vmalloc_addr(*area));
  EXPECT(vmalloc_to_page(static_cast<u8*>(*area) + 4095) == vmalloc_to_page(*area));
  vfree(*area);
}

KTEST(vmalloc, with_interrupts_off_it_works_and_does_not_wait) {
  vmalloc_purge();
  const u32 waits = vmalloc_statistics().waits;
  for (u32 i = 0; i < 500; ++i) {
    const arch::IrqsOffGuard off;
    const Result<void*> area = vmalloc((1 + i % 7) * kPageSize);
    REQUIRE(area);
    word_at(*area, i % 7) = i;
    vfree(*area);
  }
  EXPECT_EQ(vmalloc_statistics().waits, waits);
}

KTEST(vmalloc, every_area_has_an_owner) {
  const Result<void*> named = vmalloc(2 * kPageSize, AllocFlags::HighUser, "a_name");
  const Result<void*> unnamed = vmalloc(6 * kPageSize);
  REQUIRE(named && unnamed);
  const VmAreaInfo first = info_of(*named), second = info_of(*unnamed);
  EXPECT_EQ(first.name, "a_name");
  EXPECT(first.start == address_of(*named));
  EXPECT(first.end == address_of(*named) + 3 * kPageSize);
  EXPECT_EQ(first.pages, 2u);
  EXPECT(second.name == nullptr);
  EXPECT(image_text().contains(second.caller));
  EXPECT(second.kind == VmKind::Vmalloc && second.state == VmState::Live);
  vfree(*named);
  vfree(*unnamed);
  const auto stacks = vmalloc_area_from(VirtAddr{0});
  REQUIRE(stacks);
  EXPECT(stacks->kind == VmKind::Stacks);
}

}  // namespace paean
