// Other CPUs: starting them, counting them, interrupting them.
//
// CPUs are numbered in the order in which they came up; 0 is the boot CPU. A CPU that does not answer, or that lacks a
// feature which the boot CPU has turned on, is left asleep and named in the log.
#pragma once

#include "arch/irq.hpp"
#include "arch/percpu.hpp"
#include "arch/tlb.hpp"
#include "lib/result.hpp"

namespace paean::arch {

inline constexpr u32 kVectorReschedule = 0xf1, kVectorTlb = 0xf2, kVectorStop = 0xf3, kVectorCall = 0xf4;

/// Memory for one more CPU: its copy of the per-CPU variables, its first stack, its double-fault stack, all with
/// addresses that every CPU sees. Given by the caller because arch has no allocator.
struct CpuMemory {
  void* percpu;     // percpu_size() bytes, page-aligned
  void* stack_top;  // of at least 8 KiB
  void* fault_stack_top;
};
using CpuMemoryProvider = Result<CpuMemory> (*)();
u32 percpu_size();

/// Starts up to `limit` CPUs in all, one after the other. `low_page` is a free frame below 1 MiB; `idle` is where
/// each new CPU goes, with interrupts off, and never returns from. Boot CPU, interrupts on or off, after interrupts
/// are set up.
void start_other_cpus(u32 limit, PhysAddr low_page, CpuMemoryProvider provider, void (*idle)());

/// From hold to release the caller stays on its CPU, and no other thread runs there; interrupts come. Nests.
/// Implemented by kernel/sched/scheduler.cpp.
void hold_cpu();
void release_cpu();
class [[nodiscard]] CpuHold {
 public:
  CpuHold() { hold_cpu(); }
  ~CpuHold() { release_cpu(); }
  CpuHold(const CpuHold&) = delete;
  CpuHold& operator=(const CpuHold&) = delete;
};

/// Makes another CPU look at need_resched on its way out of an interrupt. Any context.
void send_reschedule_ipi(u32 cpu);
/// Runs `function` on every other online CPU, in its interrupt context, and waits until all have finished. One caller
/// at a time (others wait). Interrupts on, as for TLB waits; `function` must not wait for another CPU.
void run_on_other_cpus(void (*function)(IrqsOff));
/// Stops all others for good: a panic. Any context; does not wait.
void stop_other_cpus();

/// The local APIC id of an online CPU.
u32 apic_id_of(u32 cpu);

}  // namespace paean::arch
