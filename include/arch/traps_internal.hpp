// Between descriptors.cpp and traps.cpp only: selectors and the task-state segment.
// Source: Intel SDM vol. 3A, chapters 3 and 8.
#pragma once

#include "lib/types.hpp"

namespace paean::arch {

inline constexpr u16 kSelectorCode = 0x08, kSelectorData = 0x10, kSelectorUserCode = 0x1b, kSelectorUserData = 0x23;
inline constexpr u16 kSelectorTask = 0x28, kSelectorPerCpu = 0x30, kSelectorDoubleFault = 0x38;
inline constexpr u32 kGdtEntries = 11;  // from the eighth on: of the running thread, see arch/user.hpp

struct TaskState {
  u32 link, esp0, ss0, esp1, ss1, esp2, ss2;
  u32 cr3, eip, eflags, eax, ecx, edx, ebx, esp, ebp, esi, edi;
  u32 es, cs, ss, ds, fs, gs, ldt;
  u16 trap, io_map;
};
static_assert(sizeof(TaskState) == 104);

constexpr u64 make_descriptor(u32 base, u32 limit, u32 access, u32 flags) {
  return (limit & 0xffffull) | (u64{base & 0xffffff} << 16) | (u64{access} << 40) | (u64{(limit >> 16) & 15} << 48) |
         (u64{flags} << 52) | (u64{base >> 24} << 56);
}

/// The task that a double fault interrupted: its registers at the fault.
const TaskState& interrupted_task();

}  // namespace paean::arch
