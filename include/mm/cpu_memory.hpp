// Memory for a CPU that is about to start, and the page below 1 MiB where it begins.
#pragma once

#include "arch/smp.hpp"
#include "mm/page.hpp"

namespace paean {

/// Per-CPU copy and stacks from lowmem, owner PerCpu; kept for ever. OutOfMemory.
Result<arch::CpuMemory> allocate_cpu_memory();

/// Any free frame between 64 KiB and 640 KiB; NotFound if firmware left none. The caller frees it.
Result<Page*> allocate_startup_page();

}  // namespace paean
