// Each CPU's stacks of single frames, one for each zone. Between zone.cpp and page_alloc.cpp.
// Owner: the CPU, with interrupts off. Other CPUs only read the counts.
#pragma once

#include "arch/percpu.hpp"
#include "mm/zone.hpp"

namespace paean {

struct CpuPageStacks {
  PageStack zone[kZoneCount];
};
extern arch::PerCpu<CpuPageStacks> page_stacks;

}  // namespace paean
