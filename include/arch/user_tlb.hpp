// Which CPU has which user address space loaded, and how translations of one leave all of them.
//
//   thread of S runs      thread without a space runs      S is flushed by another CPU
//   +--------+            +--------+                       +----------------+
//   | in use | ---------> | lazy   | --- interrupt ------> | kernel's table |     a lazy CPU is disturbed once
//   +--------+ <--------- +--------+                       +----------------+
//        | interrupt: CR3 reloaded, which drops everything that is not global
//
// A flush goes only to CPUs in the mask of the space. It is complete when each of them has left, or loaded CR3 at or
// after the flush's generation. What has been cleared in the tables before may then be freed: pages and page tables.
// The loader enters the mask first, then reads the generation; the flusher raises the generation first, then reads the
// mask: one of them sees the other.
// Locks: none. Context: as said; a flush waits for other CPUs, so interrupts are on and no spin lock is held.
#pragma once

#include <atomic>

#include "arch/irq.hpp"
#include "arch/tlb.hpp"

namespace paean::arch {

/// One address space, as CPUs see it. Lives until drop_user_tlb() has returned.
struct UserTlb {
  u32 cr3 = 0;
  std::atomic<CpuMask> cpus{0};
  std::atomic<u32> generation{0};
};

/// A thread of this space runs next on this CPU.
void load_user_tlb(UserTlb& space, IrqsOff);
/// A thread without a space runs next: it borrows what is loaded.
void make_user_tlb_lazy(IrqsOff);

/// Drops translations of `pages` pages, or all of them from kTlbRangeLimit on, on every CPU that has the space loaded.
void flush_user_range(UserTlb& space, VirtAddr start, u32 pages);
/// Drops all of them, and what the CPUs keep of page tables: before page tables are freed.
void flush_user_tlb(UserTlb& space);
/// No CPU has it loaded afterwards. Precondition: no thread uses it.
void drop_user_tlb(UserTlb& space);

/// From the TLB interrupt, interrupts off: does what flushes of this CPU's space ask for.
void answer_user_flush();
/// After CR3 was loaded with the kernel's table behind our back: puts the user's back.
void reload_user_tlb(IrqsOff);

struct UserTlbEvents {
  u32 loads, lazy_returns;  // CR3 loaded for a thread; a thread found its space still loaded
  u32 flushes, ipis;        // flushes of a space; CPUs interrupted for them
  u32 evicted;              // lazy CPUs that went to the kernel's table
};
UserTlbEvents user_tlb_events();

}  // namespace paean::arch
