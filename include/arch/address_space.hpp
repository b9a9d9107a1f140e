// The kernel's page tables: building them at boot, walking them at any time.
//
// Tables may lie anywhere in physical memory; they are reached through a FixWindow, one table at a time.
// Owner: the boot CPU builds; afterwards kernel directory entries never change (arch/layout.hpp), so that they are the
// same in every address space and no CPU can miss one; leaf entries belong to the owner of their region (fixmap, pkmap,
// vmalloc). The level above is in arch/pdpt.hpp.
#pragma once

#include "arch/pte.hpp"
#include "lib/format.hpp"
#include "lib/result.hpp"

namespace paean::arch {

/// Gives a zeroed page for a page table, below MAXPHYADDR; boot memory at first. Out of memory is the caller's error.
using TableAllocator = Result<PhysAddr> (*)();

/// What a translation met on its way, for people and for tests.
struct Walk {
  u64 pdpte = 0;
  PteValue pde, pte;
  PhysAddr pd_page{}, pt_page{};
  bool large = false;
  bool mapped = false;
  PhysAddr address{};  // of the byte, if mapped
  PteValue leaf() const { return large ? pde : pte; }
};

/// Walks the tables that CR3 names. Any context.
Walk walk_current(VirtAddr va);

/// Maps [va, va + bytes) to [pa, ...), with 2 MiB pages where alignment allows it. Everything is page-aligned, the
/// range was not mapped. On OutOfMemory a front part stays mapped: boot then stops.
Result<> map_range(VirtAddr va, PhysAddr pa, u32 bytes, Protection protection, TableAllocator allocate);

/// Makes sure that every directory entry of the range has a (possibly empty) PTE page.
Result<> populate_tables(VirtAddr va, u32 bytes, TableAllocator allocate);

/// The live PTE for a 4 KiB mapping in the kernel half, inside a window that the callback may use; NotFound if
/// there is no PTE page.
Result<> with_pte(VirtAddr va, void (*use)(Pte& pte, u64 argument), u64 argument);

/// From here on the directory entries from `from` upwards are as they are for ever: needing another one panics. The
/// block windows are excepted, their entries belong to kmap. Boot CPU, before others start.
void seal_kernel_directories(VirtAddr from);
/// Whether they are still the same, but for accessed and dirty bits.
bool kernel_directories_are_as_sealed();

/// Changes protection of 4 KiB mappings that exist, and flushes them on this CPU.
Result<> protect_range(VirtAddr va, u32 bytes, Protection protection);
/// Removes 4 KiB mappings, and flushes them on this CPU. Until the others have flushed them too (arch/tlb.hpp) neither
/// the addresses nor the frames may be used again; DEBUG builds check it, see arch/tlb_checker.hpp.
Result<> unmap_range(VirtAddr va, u32 bytes);

/// Flushes every translation of this CPU, global ones included.
void flush_tlb_all();

/// Calls `visit` for every run of equal mappings in [from, to], in order. The last byte is inclusive, so 4 GiB fits.
enum class PageSize : u8 { Small, Large };  // 4 KiB, 2 MiB
struct MappingRun {
  VirtAddr start, last;
  PhysAddr physical;
  PteValue flags;  // address part zero
  PageSize size;
  bool repeats;  // every page shows the same frame
};
void for_each_mapping(VirtAddr from, VirtAddr last, void (*visit)(const MappingRun&, void*), void* context);

/// `RW-  global  nx` and so on, in a fixed width.
void print_flags(Sink& out, PteValue flags);
/// Three lines, one a level, for panics and `vtop`.
void print_walk(Sink& out, VirtAddr va);

}  // namespace paean::arch
