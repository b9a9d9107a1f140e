// The machine itself: dmesg, cpus, sysrq, panic, reboot, poweroff.
#include "arch/acpi.hpp"
#include "arch/cpu.hpp"
#include "arch/interrupts.hpp"
#include "arch/lapic.hpp"
#include "arch/smp.hpp"
#include "arch/traps.hpp"
#include "arch/tsc.hpp"
#include "kernel/console/command.hpp"
#include "kernel/console/interpreter.hpp"
#include "kernel/fs/vfs.hpp"
#include "lib/log.hpp"
#include "mm/ledger.hpp"

namespace paean {

namespace {

CommandStatus show_dmesg(Args& args, Sink& out) {
  if (!args.end()) return CommandStatus::Usage;
  dump_log(out);
  return CommandStatus::Ok;
}

CommandStatus show_cpus(Args& args, Sink& out) {
  if (!args.end()) return CommandStatus::Usage;
  const arch::CpuFeatures& f = arch::cpu_features();
  format_to(out, "{} ({} family {} model {} stepping {})\n", f.brand[0] != '\0' ? f.brand : f.vendor, f.vendor,
            f.family, f.model, f.stepping);
  format_to(out, "features: pae{}{}{}{}{}{}{}{}, {} physical address bits\n", f.nx ? " nx" : "", f.pge ? " pge" : "",
            f.smep ? " smep" : "", f.smap ? " smap" : "", f.pse ? " pse" : "", f.mtrr ? " mtrr" : "",
            f.apic ? " apic" : "", f.hypervisor ? " hypervisor" : "", f.physical_bits);
  format_to(out, "tsc: {} kHz{}\n", arch::tsc_khz(),
            arch::clock_unit() == arch::ClockUnit::Instructions ? ", counts instructions" : "");
  arch::describe_interrupts(out);
  for (u32 cpu = 0; cpu < arch::online_cpus(); ++cpu) {
    format_to(out, "cpu {}: apic id {}, ticks {}, serial interrupts {}, TLB generation {}\n", cpu,
              arch::apic_id_of(cpu), arch::irq_count_on(cpu, arch::using_apic() ? 16 : 0), arch::irq_count_on(cpu, 4),
              arch::tlb_cpu_generation(cpu));
  }
  const arch::TlbEvents tlb = arch::tlb_events();
  format_to(out, "tlb: {} full flushes, {} interrupts sent, {} saved, {} ranges\n", tlb.full_flushes, tlb.ipis_sent,
            tlb.ipis_saved, tlb.range_shootdowns);
  format_to(out, "{} online of {} present\n", arch::online_cpus(), arch::present_cpus());
  return CommandStatus::Ok;
}

CommandStatus do_sysrq(Args& args, Sink& out) {
  const auto letter = args.word("m|c|b|o");
  if (!letter || !args.end()) return CommandStatus::Usage;
  if (*letter == "m") {
    (void)args.interpreter().run_line("meminfo; buddyinfo; zoneinfo", out);
    print_ledger_summary(out);
    return CommandStatus::Ok;
  }
  if (*letter == "c") panic("crash asked for by sysrq");
  if (*letter == "b") arch::reboot();
  if (*letter == "o") arch::power_off(arch::ExitCode::Pass);
  format_to(out, "sysrq: m shows memory, c crashes, b reboots, o powers off\n");
  return CommandStatus::Failed;
}

CommandStatus do_panic(Args& args, Sink&) {
  const std::string_view text = args.rest();
  panic("{}", text.empty() ? std::string_view{"asked for at the console"} : text);
}

CommandStatus do_reboot(Args& args, Sink&) {
  if (!args.end()) return CommandStatus::Usage;
  leave_file_systems();
  arch::reboot();
}

CommandStatus do_poweroff(Args& args, Sink&) {
  if (!args.end()) return CommandStatus::Usage;
  leave_file_systems();
  arch::power_off(arch::ExitCode::Pass);
}

}  // namespace

KCOMMAND(dmesg, "", "what the kernel has logged", show_dmesg)
KCOMMAND(cpus, "", "processors, their features, clocks and interrupts", show_cpus)
KCOMMAND(sysrq, "m|c|b|o", "m memory, c crash, b reboot, o power off", do_sysrq)
KCOMMAND(panic, "[TEXT]", "stop the machine with a report", do_panic)
KCOMMAND(reboot, "", "unmount everything, restart the machine", do_reboot)
KCOMMAND(poweroff, "", "unmount everything, turn the machine off", do_poweroff)

}  // namespace paean
