// The map of the kernel's address space, a line a region.
//
//   0 .. page_offset()        user programs: 1, 2, 3 or 3.5 GiB, chosen by vmsplit= at boot from one image
//   page_offset() ..          direct map of lowmem, 2 MiB global pages; NX; read-only where it shows the kernel's text
//   vmalloc                   dynamic areas                              (runtime size, vmalloc=)
//   frame words               4 bytes a frame + the buddy's bitmaps      (runtime size, from the highest frame)
//   0xfd800000  8 MiB         UKVA, second window: page tables of one other process
//   0xfe000000  8 MiB         UKVA: page tables of the current process, 8 MiB-aligned
//   0xfe800000  4 MiB         block windows: whole 2 MiB pages by one directory entry
//   0xfec00000  4 MiB         pkmap: 1024 persistent kmap slots
//   0xff000000  8 MiB         kernel image: physical address + kImageOffset
//   0xff800000  8 MiB - 4 KiB fixmap: per-CPU kmap slots with unmapped guards between, early maps, device registers
//   0xfffff000  4 KiB         never mapped, so that a pointer that wraps faults
//
// The fixed part is what this header pins; the runtime part is planned by mm/layout_plan.hpp.
// PTE pages of all dynamic windows exist from boot on, so kernel directory entries never change afterwards.
#pragma once

#include "lib/addr.hpp"

namespace paean::arch {

inline constexpr u32 kMaxCpus = 32;

inline constexpr u32 kUkvaWindowSize = 8 * kMiB;  // 2^20 PTEs of 8 bytes: every page of 4 GiB
inline constexpr u32 kBlockWindows = 2;

inline constexpr VirtAddr kFixmapEnd{0xfffff000};
inline constexpr VirtAddr kFixmapStart{0xff800000};
inline constexpr VirtAddr kImageStart{0xff000000};
inline constexpr u32 kImageOffset = 0xff000000;  // virtual = physical + this, for the kernel image only
inline constexpr u32 kImageWindowSize = 8 * kMiB;
inline constexpr VirtAddr kPkmapStart{0xfec00000};
inline constexpr u32 kPkmapSlots = 1024;
inline constexpr VirtAddr kBlockWindowStart{0xfe800000};
inline constexpr VirtAddr kUkvaStart{0xfe000000};
inline constexpr VirtAddr kUkvaOtherStart{0xfd800000};
inline constexpr VirtAddr kRuntimeEnd = kUkvaOtherStart;  // direct map, vmalloc and frame words end here

static_assert(kFixmapStart.raw() + 8 * kMiB - kPageSize == kFixmapEnd.raw());
static_assert(kImageStart + kImageWindowSize == kFixmapStart);
static_assert(kPkmapStart + kPkmapSlots * kPageSize == kImageStart);
static_assert(kBlockWindowStart + kBlockWindows * kLargePageSize == kPkmapStart);
static_assert(kUkvaStart + kUkvaWindowSize == kBlockWindowStart);
static_assert(kUkvaOtherStart + kUkvaWindowSize == kUkvaStart);
static_assert(kUkvaStart.is_aligned(kUkvaWindowSize), "one directory-pointer quarter must hold a whole window");
static_assert(kUkvaStart.raw() >= 0xc0000000, "the fixed part stays in the last page-directory-pointer slot");

// The fixmap, in pages from kFixmapStart. Odd pages of the kmap area are never mapped: a step past a mapped page
// faults instead of reading its neighbour.
inline constexpr u32 kKmapDepth = 16;  // nested maps a CPU; Linux has 16 too, and eight interrupts deep is unheard of
// The last slot of a CPU is never handed out: what lies below the first slot of the next CPU is nobody's newest map.
inline constexpr u32 kKmapPagesPerCpu = 2 * (kKmapDepth + 1);
inline constexpr u32 kFixKmapFirst = 0;
inline constexpr u32 kFixDeviceFirst = kFixKmapFirst + kMaxCpus * kKmapPagesPerCpu;
inline constexpr u32 kFixDevicePages = 512;
inline constexpr u32 kFixEarlyFirst = kFixDeviceFirst + kFixDevicePages;
inline constexpr u32 kFixEarlyPages = 8;
inline constexpr u32 kFixmapPages = (kFixmapEnd.raw() - kFixmapStart.raw()) / kPageSize;
static_assert(kFixEarlyFirst + kFixEarlyPages <= kFixmapPages);

constexpr VirtAddr fixmap_address(u32 index) { return kFixmapStart + index * kPageSize; }

}  // namespace paean::arch
