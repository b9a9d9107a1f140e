// Between descriptors.cpp and traps.cpp only: selectors and the task-state segment.
// Source: Intel SDM vol. 3A, chapters 3 and 8.
#pragma once

#include "lib/types.hpp"

namespace paean::arch {

inline constexpr u16 kSelectorCode = 0x08, kSelectorData = 0x10, kSelectorUserCode = 0x1b, kSelectorUserData = 0x23;
inline constexpr u16 kSelectorTask = 0x28, kSelectorPerCpu = 0x30, kSelectorDoubleFault = 0x38;
inline constexpr u32 kGdtEntries = 8;

struct TaskState {
  u32 link, esp0, ss0, esp1, ss1, esp2, ss2;
  u32 cr3, eip, eflags, eax, ecx, edx, ebx, esp, ebp, esi, edi;
  u32 es, cs, ss, ds, fs, gs, ldt;
  u16 trap, io_map;
};
static_assert(sizeof(TaskState) == 104);

/// The task that a double fault interrupted: its registers at the fault.
const TaskState& interrupted_task();

}  // namespace paean::arch
