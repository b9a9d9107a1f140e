// The page-directory-pointer table: four entries, each for 1 GiB, that every CPU keeps in registers.
//
//   write_pdpte()                  memory   this CPU   the others
//     before                        old       old         old
//     the entry is written          new       old         old      <- no INVLPG and no page walk ever changes that,
//     this CPU reloads CR3          new       new         old         only a load of CR3 does
//     the others are interrupted    new       new         new
//     return
//
// Owner: write_pdpte() alone changes the kernel's table, and returns once all CPUs work with the new entry. Whoever has
// not reloaded by then owes a reload, and panics at its next thread switch, interrupt or sleep: check_cr3_reload().
// DEBUG builds also compare the table in memory with what each CPU loaded, so that a write past the owner shows.
// Source: Intel SDM vol. 3A 4.4.1. QEMU's TCG reads the table at every walk and so hides all of this; Bochs does not.
#pragma once

#include <atomic>
#include <span>

#include "arch/percpu.hpp"
#include "arch/pte.hpp"

namespace paean::arch {

/// Changes an entry of the kernel's table on every CPU, and flushes everything that was reached through it. `value` is
/// 0, or a directory's address with P and perhaps PWT and PCD: any other bit, or an address that the CPU has not, is
/// asserted, because the next load of CR3 would fault.
/// Context: a thread, or the boot CPU while it is alone; interrupts on when other CPUs run. Waits for them.
void write_pdpte(u32 slot, PteValue value);

/// Whether the CPU would load it.
bool pdpte_is_legal(PteValue value);

/// Drops the identity map that boot needed while paging was being turned on. Boot CPU, before others start: those begin
/// with a table of their own, which has an identity map of one page, and load the kernel's before they count as online.
void drop_identity_map();

/// What a CPU that starts needs until it loads the kernel's table: the same, with `low` in slot 0.
void make_start_pdpt(Pdpt& table, PhysAddr low);

/// Where the directory of a slot lies that every address space shares, or copies kernel entries from. Of kernel slots.
PhysAddr kernel_directory(u32 slot);

/// Fills the table of a user address space, before any CPU loads it; it never changes afterwards, because all of its
/// directories exist from the first moment on. So no CPU can miss a change (C6 of a 2011 kernel: munmap, then mmap).
void init_user_pdpt(Pdpt& table, std::span<const PhysAddr, kPdptSlots> directories);
/// What CR3 holds while that is in use. The table lies in the direct map, which ends below 4 GiB of physical memory.
u32 user_cr3(PhysAddr table);
/// Only for arch/user_tlb.hpp, which knows what each CPU has loaded. Interrupts off.
void load_user_pdpt(u32 cr3);
void leave_user_pdpt();

/// What CR3 holds while the kernel's table is in use.
u32 kernel_cr3();
/// For a CPU that starts and has no per-CPU variables yet: leaves the table that it began with.
void leave_start_pdpt();

/// Loads CR3 with the kernel's table. Each CPU as it starts, and once more when it is online: a change in between has
/// not reached it.
void load_kernel_pdpt();

/// How many changes this CPU has loaded, and how many all must have.
extern PerCpu<u32> pdptes_loaded;
extern std::atomic<u32> pdptes_due;
[[gnu::cold, gnu::noinline]] void cr3_reload_is_owed();
#ifdef PAEAN_DEBUG
void compare_pdptes();
#else
inline void compare_pdptes() {}
#endif

/// Panics if this CPU should have reloaded CR3. At thread switches, at the end of interrupts and before sleep. Context:
/// interrupts off. Three instructions in release builds.
[[gnu::always_inline]] inline void check_cr3_reload() {
  if (pdptes_loaded.get() != pdptes_due.load(std::memory_order_relaxed)) [[unlikely]]
    cr3_reload_is_owed();
  compare_pdptes();
}

}  // namespace paean::arch
