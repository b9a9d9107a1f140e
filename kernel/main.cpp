// The boot CPU's way from paging to the prompt. Reads like the table of contents of the kernel.
#include "arch/address_space.hpp"
#include "arch/boot_info.hpp"
#include "arch/cpu.hpp"
#include "arch/fixmap.hpp"
#include "arch/interrupts.hpp"
#include "arch/traps.hpp"
#include "arch/tsc.hpp"
#include "kernel/boot_options.hpp"
#include "kernel/console_uart.hpp"
#include "kernel/cpus.hpp"
#include "kernel/log_lines.hpp"
#include "kernel/panic.hpp"
#include "kernel/session.hpp"
#include "kernel/test/environment.hpp"
#include "kernel/test/selftest.hpp"
#include "kernel/thread.hpp"
#include "lib/log.hpp"
#include "mm/boot_memory.hpp"
#include "mm/ledger.hpp"
#include "mm/stack_pool.hpp"

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

void on_tick(arch::IrqsOff) {
  scheduler_tick();
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

  init_memory(options);
  add_panic_report(print_ledger_summary);

  arch::init_interrupts();
  log_info("TSC {}.{:03} MHz{}", arch::tsc_khz() / 1000, arch::tsc_khz() % 1000,
           arch::clock_unit() == arch::ClockUnit::Instructions ? ", counting instructions" : "");
  log_info("interrupts: {}, {} CPUs present", arch::using_apic() ? "IOAPIC and LAPIC" : "PIC and PIT",
           arch::present_cpus());
  arch::set_timer_handler(on_tick);
  if (!arch::using_apic()) arch::set_irq_handler(0, on_tick);
  init_stack_pool();
  init_threads();
  arch::start_tick();
  init_console_input();
  arch::enable_irqs();
  start_cpus(options);
  init_test_environment();

  run_session(options);
}

}  // namespace paean
