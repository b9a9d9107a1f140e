#include "mm/vm_events.hpp"

#include <array>

namespace paean {

PER_CPU(VmEventCounters, vm_event_counters);

namespace {

constexpr std::array<std::string_view, kVmEvents> kNames{
    "allocstall_dma", "allocstall_normal", "allocstall_dma32", "allocstall_high", "pgscan_kswapd",
    "pgscan_direct",  "pgsteal_kswapd",    "pgsteal_direct",   "pgactivate",      "pgdeactivate",
    "pageoutrun",     "slabs_scanned",     "pginodesteal",     "nr_dirtied",      "nr_written",
    "pswpin",         "pswpout",           "oom_kill",         "nr_lost",
};

}  // namespace

u32 vm_events(VmEvent event) {
  u32 sum = 0;
  for (u32 cpu = 0; cpu < arch::online_cpus(); ++cpu) sum += vm_event_counters.on(cpu).counts[static_cast<u32>(event)];
  return sum;
}

std::string_view name(VmEvent event) { return kNames[static_cast<u32>(event)]; }

}  // namespace paean
