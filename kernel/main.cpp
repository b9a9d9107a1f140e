// The boot CPU's way from paging to the prompt. Reads like the table of contents of the kernel.
#include "arch/address_space.hpp"
#include "arch/boot_info.hpp"
#include "arch/cpu.hpp"
#include "arch/fixmap.hpp"
#include "arch/interrupts.hpp"
#include "arch/pci.hpp"
#include "arch/pdpt.hpp"
#include "arch/traps.hpp"
#include "arch/tsc.hpp"
#include "kernel/block/device.hpp"
#include "kernel/boot_options.hpp"
#include "kernel/console_uart.hpp"
#include "kernel/cpus.hpp"
#include "kernel/fault.hpp"
#include "kernel/fs/file_time.hpp"
#include "kernel/fs/folio_io.hpp"
#include "kernel/fs/root.hpp"
#include "kernel/log_lines.hpp"
#include "kernel/panic.hpp"
#include "kernel/process/process.hpp"
#include "kernel/process/run.hpp"
#include "kernel/session.hpp"
#include "kernel/test/environment.hpp"
#include "kernel/test/selftest.hpp"
#include "kernel/thread.hpp"
#include "lib/log.hpp"
#include "mm/boot_memory.hpp"
#include "mm/kmap.hpp"
#include "mm/kswapd.hpp"
#include "mm/ledger.hpp"
#include "mm/lending.hpp"
#include "mm/page_cache.hpp"
#include "mm/slab.hpp"
#include "mm/stack_pool.hpp"
#include "mm/swap.hpp"
#include "mm/user_space.hpp"
#include "mm/vcompound.hpp"
#include "mm/vmalloc.hpp"

namespace paean {

namespace {

extern "C" char __text_start[];

void describe_cpu() {
  const arch::CpuFeatures& f = arch::cpu_features();
  log_info("paging on: PAE{}{}{}{}, {} physical address bits", f.nx ? " NX" : "", f.pge ? " PGE" : "",
           f.smep ? " SMEP" : "", f.smap ? " SMAP" : "", f.physical_bits);
  log_info("CPU: {} family {} model {} stepping {} ({})", f.vendor, f.family, f.model, f.stepping,
           f.brand[0] != '\0' ? f.brand : "no brand string");
}

void log_command_line(const CommandLine& options) {
  LogLines line{LogLevel::Info};
  format_to(line, "Command line: ");
  write_escaped(line, options.text(), 150);  // any bytes may be in there
}

void arm_boot_faults(const CommandLine& options) {
  LogLines complaints{LogLevel::Warning};
  arm_faults(options, complaints);
}

/// From here on the whole system runs, and whatever it takes may be virtual.
void force_vfallback(const CommandLine& options) {
  LogLines complaints{LogLevel::Warning};
  init_vfallback(options, complaints);
}

void on_tick(arch::IrqsOff) {
  scheduler_tick();
  if (const u32 nmis = arch::take_unasked_nmis(); nmis != 0) [[unlikely]]
    log_warning("{} NMIs on CPU {} that nobody asked for", nmis, arch::this_cpu());
  if (arch::this_cpu() == 0) test_watchdog_tick(1000 / arch::kTicksPerSecond);
}

void init_cpu() {
  arch::set_tsc_at_entry(arch::boot_info.tsc);
  init_console_output();
  arch::init_cpu_features();
  arch::init_boot_cpu_descriptors();
  arch::init_idt();
  arch::init_fix_slots(0);
  arch::enable_protection();
  arch::drop_identity_map();
  arch::verify_physical_bits();
}

}  // namespace

extern "C" [[noreturn]] void kernel_main() {
  static_assert(arch::kImageStart.raw() == arch::kImageOffset);
  ASSERT(reinterpret_cast<u32>(__text_start) > arch::kImageOffset);  // linker.ld agrees with arch/layout.hpp
  init_cpu();
  const CommandLine options = read_boot_options();
  arch::calibrate_tsc();
  log_info("Paean, 32-bit x86 with PAE ({})", kBuildFlavour);
  describe_cpu();
  log_command_line(options);
  report_option_mistakes(options);

  arm_boot_faults(options);
  init_memory(options);
  init_slab();
  init_user_spaces(options);
  arch::seal_kernel_directories(layout().page_offset);
  add_panic_report(print_ledger_summary);

  arch::init_interrupts();
  log_info("TSC {}.{:03} MHz{}", arch::tsc_khz() / 1000, arch::tsc_khz() % 1000,
           arch::clock_unit() == arch::ClockUnit::Instructions ? ", counting instructions" : "");
  log_info("interrupts: {}, {} CPUs present", arch::using_apic() ? "IOAPIC and LAPIC" : "PIC and PIT",
           arch::present_cpus());
  arch::set_timer_handler(on_tick);
  if (!arch::using_apic()) arch::set_irq_handler(0, on_tick);
  init_stack_pool();
  init_vmalloc();
  init_threads();
  arch::start_tick();
  init_console_input();
  arch::enable_irqs();
  start_cpus(options);
  share_out_kmaps();
  init_lending();
  init_page_cache();
  init_kswapd();
  init_swap();
  arch::init_pci();
  init_folio_io();
  force_vfallback(options);
  init_block_devices(options);
  init_test_environment();
  init_file_time();
  init_files();
  unpack_boot_modules();
  mount_root(options);
  init_processes();
  run_init(options);

  run_session(options);
}

}  // namespace paean
