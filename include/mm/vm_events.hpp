// Counters of what memory management does, under the names that Linux's /proc/vmstat gives them.
//
// One counter for each CPU and event, counted by one instruction: any context. A sum over the CPUs is right when nobody
// counts meanwhile, and never goes back.
#pragma once

#include <string_view>

#include "arch/percpu.hpp"

namespace paean {

enum class VmEvent : u32 {
  AllocStallDma,  // requests that had to ask others for memory themselves, by their highest zone; in ZoneId's order
  AllocStallNormal,
  AllocStallDma32,
  AllocStallHigh,
  ScanKswapd,  // cached pages that eviction has looked at, by who asked
  ScanDirect,
  StealKswapd,  // of them, dropped
  StealDirect,
  Activate,    // cached pages that were used again
  Deactivate,  // and not again in good time
  KswapdRuns,
  SlabsScanned,  // objects that shrinkers were asked for
  InodeSteal,    // cached pages that went with their inode
  Dirtied,       // pages
  Written,
  SwapIn,  // pages that came back, and that were written
  SwapOut,
  OomKill,
  Lost,  // dirty pages that no disk took: what was written there is not on the medium
};
inline constexpr u32 kVmEvents = 19;

struct VmEventCounters {
  u32 counts[kVmEvents];
};
extern arch::PerCpu<VmEventCounters> vm_event_counters;

[[gnu::always_inline]] inline void count_event(VmEvent event, u32 number = 1) {
  vm_event_counters.add(static_cast<u32>(event), number);
}
/// So often on all CPUs since boot; wraps.
u32 vm_events(VmEvent event);
/// As Linux spells it.
std::string_view name(VmEvent event);

}  // namespace paean
