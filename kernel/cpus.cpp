#include "kernel/cpus.hpp"

#include "arch/interrupts.hpp"
#include "arch/smp.hpp"
#include "kernel/log_lines.hpp"
#include "kernel/thread.hpp"
#include "mm/cpu_memory.hpp"
#include "mm/page_alloc.hpp"

namespace paean {

void start_cpus(const CommandLine& options) {
  LogLines complaints{LogLevel::Warning};
  u32 limit = static_cast<u32>(options.number_in("maxcpus", 1, arch::kMaxCpus, arch::kMaxCpus, complaints));
  if (options.has("nosmp")) limit = 1;
  guard_double_fault_stack();
  if (const Result<Page*> page = allocate_startup_page()) {
    arch::start_other_cpus(limit, to_phys(page_to_pfn(*page)), allocate_cpu_memory, run_idle_thread);
    free_page(*page);
  } else {
    log_warning("no free page below 640 kB to start other CPUs from");
  }
  log_info("{} of {} CPUs online", arch::online_cpus(), arch::present_cpus());
}

}  // namespace paean
