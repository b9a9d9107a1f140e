// Step 3: lowmem at page_offset, and PTE pages for every window whose mappings come and go later, the holes of lowmem
// among them.
#include "arch/address_space.hpp"
#include "arch/cpu.hpp"
#include "lib/log.hpp"
#include "mm/address_regions.hpp"
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

void print_layout(const LayoutPlan& plan) {
  log_info("virtual kernel memory layout:");
  for_each_address_region(plan, [](const AddressRegion& region) {
    if (region.kind == RegionKind::User || region.kind == RegionKind::Unused) return;
    log_info("    {:<13}: {:#010x} - {:#010x}   ({:>4} MB)", region.name, region.first, region.last,
             region.bytes() / kMiB);
  });
  if (plan.unused_hole_bytes != 0) {
    log_info("{} MB of holes in lowmem stay unused: vmalloc takes the {} largest, and no more than it has tables for",
             plan.unused_hole_bytes / kMiB, DirectMapHoles::kMost);
  }
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
  for (const VaRange& range : plan.vmalloc_ranges()) {
    must(arch::populate_tables(range.begin, range.bytes(), allocate_boot_table));
  }
  must(arch::populate_tables(arch::kPkmapStart, arch::kPkmapSlots * kPageSize, allocate_boot_table));
  must(arch::unmap_range(VirtAddr{reinterpret_cast<u32>(__boot_stack_guard)}, kPageSize));
  print_layout(plan);
}

}  // namespace paean
