// The kernel's page tables as the CPU sees them.
#include "arch/address_space.hpp"

#include "access.hpp"
#include "arch/cpu.hpp"
#include "arch/fixmap.hpp"
#include "arch/layout.hpp"
#include "arch/traps.hpp"
#include "mm/boot_memory.hpp"
#include "mm/stack_pool.hpp"
#include "mm/vmalloc.hpp"
#include "private_slot.hpp"
#include "threads.hpp"

namespace paean {

namespace {

using namespace arch::pte_bits;

constexpr VirtAddr kTop{0xffffffff};

/// visit(const MappingRun&) for all of the address space.
template <typename Visit>
void each_mapping(Visit visit) {
  arch::for_each_mapping(
      VirtAddr{0}, kTop, [](const arch::MappingRun& run, void* context) { (*static_cast<Visit*>(context))(run); },
      &visit);
}

u64 pdpte(u32 slot) { return arch::walk_current(VirtAddr{slot << 30}).pdpte; }

/// Is the frame the run shows at `va` inside this part of the image, by physical address?
bool shows(const arch::MappingRun& run, ImagePart part) {
  const u64 start = number(part.start) - arch::kImageOffset, end = number(part.end) - arch::kImageOffset;
  const u64 first = number(run.physical), last = first + (run.last - run.start);
  return first < end && last >= start;
}

}  // namespace

KTEST(address_space, image_is_where_the_map_says) {
  for (const ImagePart part : {image_text(), image_rodata(), image_data()}) {
    for (VirtAddr va = part.start; va < part.end; va += kPageSize) {
      const arch::Walk walk = arch::walk_current(va);
      if (!walk.mapped) continue;  // the guard below the boot stack
      EXPECT_EQ(number(walk.address), u64{number(va) - arch::kImageOffset});
    }
  }
  EXPECT(address_of(__image_start) >= arch::kImageStart);
  EXPECT(address_of(__image_end) <= arch::kImageStart + arch::kImageWindowSize);
}

KTEST(address_space, direct_map_shows_each_frame_at_its_place) {
  const VirtAddr start = direct_map.page_offset;
  for (u32 frame = 0; frame < number(direct_map.end); frame += frame < 1024 ? 1 : 251) {
    if (direct_map.in_hole(Pfn{frame})) continue;  // vmalloc may have put anything there
    const arch::Walk walk = arch::walk_current(start + (frame << kPageShift));
    if (!walk.mapped) continue;  // a gap too small for a hole; below
    EXPECT_EQ(number(walk.address), u64{frame} * kPageSize);
  }
  const u32 last = number(direct_map.end) - 1;
  EXPECT(arch::walk_current(start + (last << kPageShift)).mapped);
  EXPECT_EQ(number(arch::walk_current(start + (last << kPageShift) + 123).address), u64{last} * kPageSize + 123);
}

KTEST(address_space, every_low_frame_of_ours_is_mapped) {
  u32 missing = 0;
  for (u32 frame = 0; frame < number(direct_map.end); ++frame) {
    if (!pfn_valid(Pfn{frame})) continue;
    if (!arch::probe_read(direct_map.page_offset + (frame << kPageShift))) ++missing;
  }
  EXPECT_EQ(missing, 0);
}

KTEST(address_space, large_pages_wherever_they_fit) {
  const VirtAddr start = direct_map.page_offset;
  u32 small = 0, large = 0;
  for (u32 frame = 2 * 512; frame + 512 <= number(direct_map.end); frame += 512) {
    const arch::Walk walk = arch::walk_current(start + (frame << kPageShift));
    if (!walk.mapped) continue;
    (walk.large ? large : small) += 1;
    if (arch::cpu_features().pge) EXPECT(walk.leaf().has(kGlobal));
  }
  test.note("direct map: {} large pages, {} times 2 MiB in small ones", large, small);
  // The image and the pieces beside holes need small ones.
  EXPECT(small <= 16);
}

KTEST(address_space, nothing_is_writable_and_executable) {
  if (!arch::cpu_features().nx) SKIP("this CPU has no NX");
  each_mapping([&](const arch::MappingRun& run) {
    const bool executable = !run.flags.has(kNoExecute);
    if (executable && run.flags.has(kWritable)) test.note("{:08x} to {:08x}", run.start, run.last);
    EXPECT(!(executable && run.flags.has(kWritable)));
  });
}

KTEST(address_space, only_text_is_executable) {
  if (!arch::cpu_features().nx) SKIP("this CPU has no NX");
  each_mapping([&](const arch::MappingRun& run) {
    if (run.flags.has(kNoExecute)) return;
    test.note("executable: {:08x} to {:08x}", run.start, run.last);
    EXPECT(image_text().contains(run.start) && image_text().contains(run.last));
  });
}

KTEST(address_space, text_and_rodata_are_read_only_everywhere) {
  each_mapping([&](const arch::MappingRun& run) {
    if (!shows(run, image_text()) && !shows(run, image_rodata())) return;
    if (run.flags.has(kWritable)) test.note("writable: {:08x} to {:08x}", run.start, run.last);
    EXPECT(!run.flags.has(kWritable));
  });
  for (const ImagePart part : {image_text(), image_rodata()}) {
    for (VirtAddr va = part.start; va < part.end; va += kPageSize) {
      EXPECT(!arch::walk_current(va).leaf().has(kWritable));
      EXPECT(!arch::walk_current(direct_alias(va)).leaf().has(kWritable));
    }
  }
}

KTEST(address_space, nothing_belongs_to_user_mode) {
  each_mapping([&](const arch::MappingRun& run) {
    EXPECT(!run.flags.has(kUser));
    EXPECT(run.start >= direct_map.page_offset);
  });
}

KTEST(address_space, null_and_the_last_page_are_not_mapped) {
  EXPECT(!arch::walk_current(VirtAddr{0}).mapped);
  EXPECT(!arch::walk_current(VirtAddr{0xfffff000}).mapped);
  EXPECT(!arch::probe_read(VirtAddr{0}));
  EXPECT(!arch::probe_read(VirtAddr{0xfffffffc}));
}

KTEST(address_space, a_guard_lies_below_the_stack) {
  // This stack goes down to a page that is not mapped, within 64 KiB of here.
  const VirtAddr here = address_of(__builtin_frame_address(0)).align_down(kPageSize);
  u32 pages = 0;
  while (pages < 16 && arch::walk_current(here - pages * kPageSize).mapped) ++pages;
  test.note("{} KiB of stack below this frame", pages * 4);
  EXPECT(pages >= 1 && pages < 16);
}

KTEST(address_space, pointer_entries_are_legal) {
  // QEMU's TCG writes accessed bits into them, which hardware never does.
  const u64 reserved = ~(kPresent | kWriteThrough | kCacheDisable | kAccessed | kAddress);
  for (u32 slot = 0; slot < arch::kPdptSlots; ++slot) {
    const u64 entry = pdpte(slot);
    if ((entry & kPresent) == 0) continue;
    EXPECT_EQ(entry & reserved, u64{0});
    EXPECT_EQ(entry >> arch::cpu_features().physical_bits, u64{0});
  }
  EXPECT((pdpte(3) & kPresent) != 0);
  // CR3 has 32 bits, so the table lies below 4 GiB; its low five bits are not address.
  EXPECT_EQ(arch::read_cr3() & 31, 0u);
  EXPECT(pfn_valid(to_pfn(PhysAddr{arch::read_cr3()})));
}

KTEST(address_space, tables_of_dynamic_windows_exist) {
  const auto has_table = [](VirtAddr va) {
    const arch::Walk walk = arch::walk_current(va);
    return walk.pde.present() && !walk.large && number(walk.pt_page) != 0;
  };
  for (const VaRange& range : vmalloc_ranges()) {
    for (VirtAddr va = range.begin; va < range.end; va += kLargePageSize) {
      EXPECT(has_table(va));
      const std::optional<VmAreaInfo> area = vmalloc_area_from(va);
      const bool is_used = area && area->start <= va && area->state == VmState::Live;
      EXPECT(is_used || !arch::walk_current(va).mapped);
    }
  }
  for (VirtAddr va = arch::kPkmapStart; va < arch::kImageStart; va += kLargePageSize) EXPECT(has_table(va));
  for (u32 i = 0; i < arch::kFixmapPages; i += arch::kEntriesPerTable) EXPECT(has_table(arch::fixmap_address(i)));
}

KTEST(address_space, each_page_table_serves_one_place) {
  // Distinct directory entries name distinct tables: a table that serves two places would mirror what is mapped there.
  Pfn previous{0};
  u32 same = 0;
  for (u32 at = number(direct_map.page_offset) >> kLargePageShift; at < 2048; ++at) {
    const arch::Walk walk = arch::walk_current(VirtAddr{at << kLargePageShift});
    if (!walk.pde.present() || walk.large) continue;
    const Pfn table = to_pfn(walk.pt_page);
    same += table == previous ? 1 : 0;
    previous = table;
  }
  EXPECT_EQ(same, 0);
}

KTEST(address_space, protections_of_the_cpu_are_on) {
  const arch::CpuFeatures& f = arch::cpu_features();
  const u32 cr0 = arch::read_cr0(), cr4 = arch::read_cr4();
  EXPECT((cr0 & arch::kCr0Pg) != 0);
  EXPECT((cr0 & arch::kCr0Wp) != 0);
  EXPECT_EQ(cr0 & (arch::kCr0Cd | arch::kCr0Nw), 0u);
  EXPECT((cr4 & arch::kCr4Pae) != 0);
  EXPECT_EQ((cr4 & arch::kCr4Pge) != 0, f.pge);
  EXPECT_EQ((cr4 & arch::kCr4Smep) != 0, f.smep);
  EXPECT_EQ((cr4 & arch::kCr4Smap) != 0, f.smap);
  if (f.nx) EXPECT((arch::read_msr(arch::kMsrEfer) & arch::kEferNxe) != 0);
}

KTEST(address_space, no_entry_uses_nx_without_the_cpu) {
  if (arch::cpu_features().nx) return;  // a rule for other CPUs, kept by definition here
  each_mapping([&](const arch::MappingRun& run) { EXPECT(!run.flags.has(kNoExecute)); });
}

KTEST(address_space, global_translations_can_be_flushed) {
  // A global page's entry is changed under the CPU's nose; flush_tlb_all() must make it see the change.
  const PrivateSlot slot;
  REQUIRE(slot.valid());
  const arch::IrqsOffGuard off;
  slot.show(0, slot.leaf());
  EXPECT(arch::probe_write(PrivateSlot::at(0), 42));
  EXPECT_EQ(arch::probe_read(PrivateSlot::at(0)).value_or(0), 42);
  slot.show(0, arch::PteValue{});
  arch::flush_tlb_all();
  EXPECT(!arch::probe_read(PrivateSlot::at(0)));
  EXPECT_EQ((arch::read_cr4() & arch::kCr4Pge) != 0, arch::cpu_features().pge);
}

KTEST(address_space, protect_and_unmap_take_effect_at_once) {
  const PrivateSlot slot;
  REQUIRE(slot.valid());
  const VirtAddr va = PrivateSlot::at(1);
  const PhysAddr frame = to_phys(page_to_pfn(slot.page()));
  REQUIRE(arch::map_range(va, frame, kPageSize, arch::Protection::ReadWrite, nullptr));
  EXPECT(arch::probe_write(va, 7));
  EXPECT(arch::protect_range(va, kPageSize, arch::Protection::ReadOnly));
  EXPECT(!arch::probe_write(va, 8));
  EXPECT_EQ(arch::probe_read(va).value_or(0), 7);
  EXPECT_EQ(number(arch::walk_current(va).address), number(frame));
  EXPECT(arch::protect_range(va, kPageSize, arch::Protection::ReadWrite));
  EXPECT(arch::probe_write(va, 9));
  EXPECT(arch::unmap_range(va, kPageSize));
  EXPECT(!arch::probe_read(va));
  arch::tlb_shootdown(va, 1);
  REQUIRE(arch::map_range(va, frame, kPageSize, arch::Protection::ReadWrite, nullptr));  // after that, again
  EXPECT_EQ(arch::probe_read(va).value_or(0), 9);
}

KTEST(address_space, kernel_directories_never_change) {
  EXPECT(arch::kernel_directories_are_as_sealed());
  Crew<4> crew;
  for (u32 i = 0; i < 4; ++i) REQUIRE(crew.add("mapped", [](void*) {}, nullptr));
  crew.join();
  trim_stack_pool();  // stacks come and go: their tables stay
  EXPECT(arch::kernel_directories_are_as_sealed());
}

KTEST(death, kernel_directory_changed_after_boot, .flags = TestFlag::Death) {
  // The windows on page tables have no tables of their own.
  KTEST_EXPECT_PANIC("assertion failed: !is_sealed(va)");
  (void)arch::populate_tables(arch::kUkvaStart, kPageSize, [] { return Result<PhysAddr>{PhysAddr{0}}; });
}

}  // namespace paean
