// Areas over frames that are somebody else's, and what must kill the kernel.
#include "access.hpp"
#include "arch/address_space.hpp"
#include "arch/cpu.hpp"
#include "arch/lapic.hpp"
#include "arch/traps.hpp"
#include "mm/kmap.hpp"
#include "mm/vmalloc.hpp"
#include "threads.hpp"

namespace paean {

namespace {

constexpr PhysAddr kVgaText{0xb8000};
constexpr PhysAddr kLapic{0xfee00000};

arch::PteValue entry_of(const void* at) { return arch::walk_current(address_of(at)).pte; }

/// Announces the line that names the fault, beside the panic's own.
void expect_fault(TestContext& test, const char* access, VirtAddr va) {
  KTEST_EXPECT_PANIC("#PF page fault");
  char text[80];
  BufferSink line{text};
  format_to(line, "{} of {:08x} from kernel mode: not mapped", access, va);
  KTEST_EXPECT_PANIC(line.view());
}

}  // namespace

KTEST(vmap, shows_any_pages_in_any_order) {
  constexpr u32 kPages = 20;
  HeldBlocks held;
  REQUIRE(held.valid());
  Page* pages[kPages];
  for (u32 i = 0; i < kPages; ++i) {
    const auto page = alloc_page(i % 3 == 0 ? AllocFlags::Kernel : AllocFlags::HighUser, Owner::Test);
    REQUIRE(page);
    held.add(*page, Order{0});
    pages[(i * 7) % kPages] = *page;
  }
  for (u32 i = 0; i < kPages; ++i) *KmapLocal{pages[i]}.as<u32>() = 0x5500 + i;
  pages[5] = pages[4];  // one twice
  const u32 before = vmalloc_statistics().live;
  const Result<void*> area = vmap(pages, arch::Protection::ReadWrite);
  REQUIRE(area);
  auto* words = static_cast<volatile u32*>(*area);  // two of them are the same memory
  for (u32 i = 0; i < kPages; ++i) EXPECT_EQ(words[i * 1024], 0x5500 + (i == 5 ? 4 : i));
  words[4 * 1024] = 1;
  EXPECT_EQ(words[5 * 1024], 1u);
  for (u32 i = 0; i < kPages; ++i) EXPECT(vmalloc_to_page(static_cast<u32*>(*area) + i * 1024) == pages[i]);
  EXPECT(!arch::probe_read(address_of(*area) - 4));
  EXPECT(!arch::probe_read(address_of(*area) + kPages * kPageSize));
  vunmap(*area);
  EXPECT(!arch::probe_read(address_of(*area)));
  EXPECT_EQ(vmalloc_statistics().live, before);
}

KTEST(vmap, shows_a_part_of_a_block_read_only) {
  const Result<Page*> block = alloc_pages(AllocFlags::HighUser, Order{3}, Owner::Test);
  REQUIRE(block);
  Page* pages[] = {*block + 6, *block + 1};
  const Result<void*> area = vmap(pages, arch::Protection::ReadOnly, "part");
  REQUIRE(area);
  EXPECT(arch::probe_read(address_of(*area) + kPageSize));
  EXPECT(!arch::probe_write(address_of(*area), 1));
  vunmap(*area);
  free_pages(*block, Order{3});
}

KTEST(vmap, impossible_requests_are_errors) {
  EXPECT(vmap({}, arch::Protection::ReadWrite).error() == Error::InvalidArgument);
  Page* one[1] = {nullptr};
  const std::span<Page* const> many{one, 0x40000000};
  EXPECT(vmap(many, arch::Protection::ReadWrite).error() == Error::TooLarge);
}

KTEST(ioremap, the_screen_is_the_same_through_both_windows) {
  const Result<void*> screen = ioremap(kVgaText, 4000);
  REQUIRE(screen);
  auto* cells = static_cast<volatile u16*>(*screen);
  const arch::FixWindow window{kVgaText};
  auto* same = window.as<volatile u16>();
  const u16 old = same[1999];
  cells[1999] = 0x0741;
  EXPECT_EQ(same[1999], 0x0741);
  same[1999] = 0x0742;
  EXPECT_EQ(cells[1999], 0x0742);
  cells[1999] = old;
  EXPECT(vmalloc_to_page(*screen) == nullptr || vmalloc_to_page(*screen)->type() != PageType::Block);
  iounmap(*screen);
}

KTEST(ioremap, the_local_apic_answers_with_its_number) {
  if (!arch::have_lapic()) SKIP("no local APIC");
  const Result<void*> number = ioremap(kLapic + 0x20, 4, arch::Caching::Uncached, "lapic");
  REQUIRE(number);
  EXPECT_EQ(address_of(*number).page_offset(), 0x20u);
  EXPECT_EQ(*static_cast<volatile u32*>(*number) >> 24, arch::local_apic_id());
  const auto info = vmalloc_area_from(address_of(*number));
  REQUIRE(info);
  EXPECT(info->kind == VmKind::Ioremap && info->first == kLapic);
  iounmap(*number);
  EXPECT(!arch::probe_read(address_of(*number)));
}

KTEST(ioremap, caching_is_as_asked_for) {
  using namespace arch::pte_bits;
  struct Case {
    arch::Caching caching;
    u64 bits;
  };
  for (const Case& c : {Case{arch::Caching::WriteBack, 0}, Case{arch::Caching::WriteThrough, kWriteThrough},
                        Case{arch::Caching::Uncached, kWriteThrough | kCacheDisable}}) {
    const Result<void*> area = ioremap(kVgaText, 3 * kPageSize, c.caching);
    REQUIRE(area);
    for (u32 i = 0; i < 3; ++i) {
      const arch::PteValue entry = entry_of(static_cast<u8*>(*area) + i * kPageSize);
      EXPECT_EQ(bits(entry) & (kWriteThrough | kCacheDisable), c.bits);
      EXPECT(entry.address() == kVgaText + u64{i} * kPageSize);
      EXPECT(entry.has(kNoExecute) == arch::cpu_features().nx);
    }
    iounmap(*area);
  }
}

KTEST(ioremap, refuses_what_is_no_device) {
  EXPECT(ioremap(kVgaText, 0).error() == Error::InvalidArgument);
  EXPECT(ioremap(kVgaText, 0xffffffff).error() != Error::Busy);
  EXPECT(ioremap(PhysAddr{~u64{0} - 10}, 100).error() == Error::InvalidArgument);
  EXPECT(ioremap(PhysAddr{u64{1} << arch::cpu_features().physical_bits}, 1).error() == Error::InvalidArgument);
  EXPECT(ioremap(PhysAddr{u64{1} << arch::cpu_features().physical_bits} - 1, 2).error() == Error::InvalidArgument);
  const Result<Page*> page = alloc_page(AllocFlags::HighUser, Owner::Test);
  REQUIRE(page);
  EXPECT(ioremap(to_phys(page_to_pfn(*page)), 1).error() == Error::InvalidArgument);
  free_page(*page);
  EXPECT(ioremap(to_phys(page_to_pfn(*page)), 1).error() == Error::InvalidArgument);
}

KTEST(death, vmalloc_guard_behind, .flags = TestFlag::Death) {
  const Result<void*> area = vmalloc(2 * kPageSize);
  REQUIRE(area);
  expect_fault(test, "write", address_of(*area) + 2 * kPageSize);
  static_cast<volatile u8*>(*area)[2 * kPageSize] = 1;
}

KTEST(death, vmalloc_guard_in_front, .flags = TestFlag::Death) {
  (void)vmalloc(kPageSize);
  const Result<void*> area = vmalloc(2 * kPageSize);
  REQUIRE(area);
  expect_fault(test, "read", address_of(*area) - 1);
  test.note("{}", *pointer_to<volatile u8>(address_of(*area) - 1));
}

/// The other CPU computes and never passes by, so that the freed page waits for it.
KTEST(death, vmap_of_a_parked_page, .flags = TestFlag::Death | TestFlag::NeedsHighmem | TestFlag::NeedsSmp) {
  Crew<1> crew;
  REQUIRE(crew.add(
      "busy",
      [](void*) {
        for (;;) asm volatile("");
      },
      nullptr, elsewhere()));
  thread_sleep_ms(50);
  const Result<Page*> page = alloc_page(AllocFlags::HighUser, Owner::Test);
  REQUIRE(page);
  kunmap_address(kmap(*page));
  free_page(*page);
  REQUIRE((*page)->type() == PageType::Parked);
  KTEST_EXPECT_PANIC("vmap of a page that is freed and parked");
  Page* pages[] = {*page};
  (void)vmap(pages, arch::Protection::ReadWrite);
}

KTEST(death, vfree_of_a_wild_pointer, .flags = TestFlag::Death) {
  KTEST_EXPECT_PANIC("vfree of c0100000: it is no vmalloc address");
  vfree(pointer_to<void>(VirtAddr{0xc0100000}));
}

KTEST(death, vfree_inside_an_area, .flags = TestFlag::Death) {
  const Result<void*> area = vmalloc(3 * kPageSize, AllocFlags::HighUser, "somebody");
  REQUIRE(area);
  KTEST_EXPECT_PANIC("it lies inside an area of vmalloc");
  KTEST_EXPECT_PANIC("for somebody");
  vfree(static_cast<u8*>(*area) + kPageSize);
}

KTEST(death, vfree_of_an_odd_address, .flags = TestFlag::Death) {
  const Result<void*> area = vmalloc(kPageSize);
  REQUIRE(area);
  KTEST_EXPECT_PANIC("it lies inside an area of vmalloc");
  vfree(static_cast<u8*>(*area) + 4);
}

KTEST(death, vfree_twice, .flags = TestFlag::Death) {
  const Result<void*> area = vmalloc(kPageSize, AllocFlags::HighUser, "somebody");
  REQUIRE(area);
  vfree(*area);
  KTEST_EXPECT_PANIC("freed already; it was an area of vmalloc");
  vfree(*area);
}

KTEST(death, vfree_twice_with_a_purge_between, .flags = TestFlag::Death) {
  const Result<void*> area = vmalloc(9 * kPageSize);
  REQUIRE(area);
  vfree(*area);
  vmalloc_purge();
  KTEST_EXPECT_PANIC("nothing is there; freed twice?");
  vfree(*area);
}

KTEST(death, vfree_of_a_device, .flags = TestFlag::Death) {
  const Result<void*> screen = ioremap(kVgaText, 4000);
  REQUIRE(screen);
  KTEST_EXPECT_PANIC("it is an area of ioremap");
  vfree(*screen);
}

KTEST(death, vmap_of_a_free_page, .flags = TestFlag::Death) {
  const Result<Page*> page = alloc_page(AllocFlags::HighUser, Owner::Test);
  REQUIRE(page);
  free_page(*page);
  KTEST_EXPECT_PANIC("vmap of a free page");
  Page* pages[] = {*page};
  (void)vmap(pages, arch::Protection::ReadWrite);
}

KTEST(death, vunmap_of_memory, .flags = TestFlag::Death) {
  const Result<void*> area = vmalloc(kPageSize);
  REQUIRE(area);
  KTEST_EXPECT_PANIC("it is an area of vmalloc");
  vunmap(*area);
}

}  // namespace paean
