// Memory at boot: from what the loader said to zones that allocate. The order of steps is the content of this file.
//
//   1 read_memory_map()     loader's map + mem= memmap=, clipped to what the CPU and this kernel can address
//   2 plan_address_space()  vmsplit= vmalloc= vmalloc_upper= highmem=, and who gets which address (mm/layout_plan.hpp)
//   3 build_direct_map()    lowmem at page_offset; text and rodata read-only there too; tables for dynamic windows
//                           and for the holes of lowmem, which are not mapped
//   4 check_mmu()           a table above 4 GiB, accessed and dirty bits, NX: or a clear refusal
//   5 init_frame_words()    4 bytes a frame, holes shared
//   6 init_zones()          everything that is free goes to the buddies; counts are closed
//
// Boot CPU, once, interrupts off. A step that cannot succeed refuses the boot with one sentence.
#pragma once

#include "kernel/cmdline.hpp"
#include "mm/layout_plan.hpp"
#include "mm/region_allocator.hpp"
#include "mm/zone.hpp"

namespace paean {

/// All six steps.
void init_memory(const CommandLine& options);

/// `Paean cannot boot: <why>` on the console, exit code "fail", halt.
[[noreturn]] void refuse_boot(const char* why);

// The steps; in files of their own.
void read_memory_map(const CommandLine& options);
void plan_address_space(const CommandLine& options);
void build_direct_map();
void check_mmu();
void init_frame_words();
void init_zones();

// What they leave behind, read-only afterwards.
const MemoryMap& memory_map();
const RegionAllocator& boot_regions();
const LayoutPlan& layout();
/// Where vmalloc may put areas, in address order; none may reach from one range into the next. All have their page
/// tables, and nothing is mapped but the stacks of threads (mm/stack_pool.hpp) at the start of the last range.
std::span<const VaRange> vmalloc_ranges();
/// Bytes below low_end that boot took for a reason.
u64 low_reserved_bytes(BootReason reason);
/// Memory of any zone that boot took, RAM only.
u64 reserved_bytes(BootReason reason);

// Between the steps only.
MemoryMap& memory_map_for_boot();
RegionAllocator& regions_for_boot();
LayoutPlan& layout_for_boot();
/// A zeroed page for a page table, from lowmem.
Result<PhysAddr> allocate_boot_table();

/// Every byte that the machine's memory consists of, with its use: the lines of `iomem`.
void print_iomem(Sink& out);

}  // namespace paean
