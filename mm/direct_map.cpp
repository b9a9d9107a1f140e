// Step 3: lowmem at page_offset, and PTE pages for every window whose mappings come and go later.
#include "arch/address_space.hpp"
#include "arch/cpu.hpp"
#include "lib/log.hpp"
#include "mm/boot_memory.hpp"
#include "mm/lowmem.hpp"

namespace paean {

extern "C" char __text_start[], __rodata_end[], __boot_stack_guard[];

namespace {

void must(const Result<>& result) {
  if (!result) refuse_boot("no memory for the kernel's page tables.");
}

VirtAddr low_address(PhysAddr pa) { return VirtAddr{layout().page_offset.raw() + static_cast<u32>(pa.raw())}; }

void map_low(PhysRange range, arch::Protection protection) {
  if (range.empty()) return;
  must(arch::map_range(low_address(range.begin), range.begin, static_cast<u32>(range.bytes()), protection,
                       allocate_boot_table));
}

/// One range of RAM; what is read-only in the image's window is read-only here too, and nothing here is executable.
void map_ram(PhysRange ram, PhysRange read_only) {
  map_low(ram.intersect({PhysAddr{0}, read_only.begin}), arch::Protection::ReadWrite);
  map_low(ram.intersect(read_only), arch::Protection::ReadOnly);
  map_low(ram.intersect({read_only.end, kPhysTop}), arch::Protection::ReadWrite);
}

void print_region(const char* what, VirtAddr start, VirtAddr end) {
  log_info("    {:<11}: {:#010x} - {:#010x}   ({:>4} MB)", what, start, end - 1, (end - start) / kMiB);
}

}  // namespace

void build_direct_map() {
  const LayoutPlan& plan = layout();
  const PhysRange lowmem{PhysAddr{0}, to_phys(plan.low_end)};
  const PhysRange read_only{PhysAddr{u64{reinterpret_cast<u32>(__text_start)} - arch::kImageOffset},
                            PhysAddr{u64{reinterpret_cast<u32>(__rodata_end)} - arch::kImageOffset}};
  for (const auto& entry : memory_map().ranges()) {
    if (entry.tag == MemoryKind::Usable) map_ram(entry.range().intersect(lowmem), read_only);
  }
  must(arch::populate_tables(plan.vmalloc_start, plan.vmalloc_end() - plan.vmalloc_start, allocate_boot_table));
  must(arch::populate_tables(arch::kPkmapStart, arch::kPkmapSlots * kPageSize, allocate_boot_table));
  must(arch::unmap_range(VirtAddr{reinterpret_cast<u32>(__boot_stack_guard)}, kPageSize));

  log_info("virtual kernel memory layout:");
  print_region("fixmap", arch::kFixmapStart, arch::kFixmapEnd);
  print_region("kernel", arch::kImageStart, arch::kImageStart + arch::kImageWindowSize);
  print_region("pkmap", arch::kPkmapStart, arch::kImageStart);
  print_region("ukva", arch::kUkvaOtherStart, arch::kBlockWindowStart);
  print_region("frame words", plan.frame_window, plan.frame_window + plan.frame_window_bytes);
  print_region("vmalloc", plan.vmalloc_start, plan.vmalloc_end());
  print_region("lowmem", plan.page_offset, low_address(to_phys(plan.low_end)));
}

}  // namespace paean
