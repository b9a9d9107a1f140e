// Memory for a CPU that is about to start, and the page below 1 MiB where it begins.
#pragma once

#include "arch/smp.hpp"
#include "mm/page.hpp"

namespace paean {

/// Per-CPU copy from lowmem, owner PerCpu; stacks from the stack pool, so that a guard page lies below each. Kept for
/// ever. OutOfMemory.
Result<arch::CpuMemory> allocate_cpu_memory();

/// Gives the boot CPU's double-fault task a stack with a guard page below it, in place of the one in the image; keeps
/// that one if there is no memory. Boot CPU, after init_stack_pool().
void guard_double_fault_stack();

/// Any free frame between 64 KiB and 640 KiB; NotFound if firmware left none. The caller frees it.
Result<Page*> allocate_startup_page();

}  // namespace paean
