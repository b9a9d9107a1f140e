// Translations in other CPUs: flushing them, with as few interrupts as possible.
//
// Every CPU counts the generation of its last full flush of kernel translations. The kernel's generation rises whenever
// somebody needs a flush that covers everything unmapped before. A CPU whose own generation is not older has flushed
// since (for whatever reason), so it needs no interrupt.
//
//   u32 g = tlb_new_generation();       // after clearing entries: everything cleared before is older than g
//   tlb_wait_for_generation(g);         // returns when every online CPU has flushed at or after g
//
// Batches: one call covers any number of entries cleared before, wherever they lie; that is what purges of kmap slots
// and large ones of vmalloc do. A range of up to kTlbRangeLimit pages that must go at once is invalidated page by page
// instead, so that no CPU loses its other translations (tlb_shootdown(), what vunmap, iounmap and small purges do); but
// every CPU is interrupted, whatever it has flushed since.
// Context: interrupts ON when other CPUs are online (two CPUs that wait for each other with interrupts off would wait
// for ever: asserted); preemption may be off. Never call with a spin lock held that an interrupt handler takes.
#pragma once

#include "arch/percpu.hpp"

namespace paean::arch {

inline constexpr u32 kTlbRangeLimit = 32;

/// A set of CPUs, a bit each.
using CpuMask = u32;
CpuMask online_cpu_mask();

u32 tlb_new_generation();
/// Boot CPU, before others start; and each new CPU, once its per-CPU data is there.
void init_tlb_interrupts();
void tlb_cpu_is_online();

/// The last generation that was made.
u32 tlb_newest_generation();
/// What a CPU has flushed up to.
u32 tlb_cpu_generation(u32 cpu);
/// Returns how many CPUs had to be interrupted. A stamp is never younger than the newest generation; one that seems to
/// be is more than 2^31 generations old, and done.
u32 tlb_wait_for_generation(u32 generation);
/// Asks the CPUs that are behind to flush soon, and does not wait: for those who may not. Any context.
void tlb_request_generation(u32 generation);
/// True if every online CPU has flushed at or after `generation`, or is idle and will before it touches anything: what
/// was unmapped before may be mapped anew. What was done once stays so. Never waits; any context.
bool tlb_generation_is_done(u32 generation);

/// Halts this CPU until an interrupt. Called with interrupts off, returns with interrupts on. A CPU in here is not
/// interrupted for flushes: it makes up for them on its way out, before the interrupt's handler runs.
void cpu_idle();
/// From trap entry, if this CPU was idle.
void tlb_leave_idle();
/// Not zero: this CPU will flush up to the newest generation before it touches anything.
extern PerCpu<u32> cpu_is_idle;

/// Invalidates a range on every online CPU, this one included; returns when all have done so.
void tlb_shootdown(VirtAddr start, u32 pages);

/// Counters since boot.
struct TlbEvents {
  u32 full_flushes;  // on any CPU
  u32 ipis_sent;
  u32 ipis_saved;  // CPUs that needed none: their generation was new enough, or they were idle
  u32 range_shootdowns;
};
TlbEvents tlb_events();

}  // namespace paean::arch
