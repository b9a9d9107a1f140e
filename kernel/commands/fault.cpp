// `fault`: makes something fail.
#include "kernel/fault.hpp"
#include "kernel/console/command.hpp"

namespace paean {

namespace {

CommandStatus fault(Args& args, Sink& out) {
  const std::optional<std::string_view> name = args.next();
  if (!name) {
    print_faults(out);
    return CommandStatus::Ok;
  }
  if (*name == "off") {
    if (!args.end()) return CommandStatus::Usage;
    disarm_faults();
    return CommandStatus::Ok;
  }
  FaultSite* site = find_fault_site(*name);
  if (site == nullptr) {
    format_to(out, "fault: there is no site '");
    write_escaped(out, *name);
    format_to(out, "'; 'fault' lists them\n");
    return CommandStatus::Failed;
  }
  const std::optional<std::string_view> number = args.word("N");
  if (!number || !args.end()) return CommandStatus::Usage;
  const std::optional<FaultSpec> spec = parse_fault_spec(*number);
  if (!spec) {
    format_to(out, "fault: '");
    write_escaped(out, *number);
    format_to(out, "' is not a number from 1 on, one with a + behind it, or 1/N\n");
    return CommandStatus::Failed;
  }
  arm_fault(*site, spec->n, spec->mode);
  return CommandStatus::Ok;
}

void complete_fault(CommandInterpreter&, std::string_view, Candidates& candidates) {
  candidates.add("off");
  for_each_fault_site([&](const FaultSite& site) { candidates.add(site.name); });
}

}  // namespace

KCOMMAND(fault, "[SITE N[+] | SITE 1/N | off]",
         "let the N-th passage of a site fail, with + all from then on, with 1/N one in so many; or list the sites",
         fault, .complete = complete_fault)

}  // namespace paean
