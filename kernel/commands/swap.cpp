// swapon, swapoff, swaps.
#include "mm/swap.hpp"
#include "kernel/console/command.hpp"
#include "kernel/fs/swap_area.hpp"

namespace paean {

namespace {

CommandStatus change(Args& args, Sink& out, std::string_view command, Result<> (*call)(std::string_view path)) {
  const auto path = args.word("DEVICE|FILE");
  if (!path || !args.end()) return CommandStatus::Usage;
  const Result<> done = call(*path);
  if (done) return CommandStatus::Ok;
  format_to(out, "{}: {}: {}\n", command, *path, error_name(done.error()));
  return CommandStatus::Failed;
}

CommandStatus do_swapon(Args& args, Sink& out) { return change(args, out, "swapon", swap_on); }
CommandStatus do_swapoff(Args& args, Sink& out) { return change(args, out, "swapoff", swap_off); }

CommandStatus show_swaps(Args& args, Sink& out) {
  if (!args.end()) return CommandStatus::Usage;
  print_swaps(out);
  return CommandStatus::Ok;
}

}  // namespace

KCOMMAND(swapon, "DEVICE|FILE", "use a disk, partition or file that mkswap has prepared as swap", do_swapon)
KCOMMAND(swapoff, "DEVICE|FILE", "bring everything back from it, and use it no more", do_swapoff)
KCOMMAND(swaps, "", "swap areas, as /proc/swaps", show_swaps)

}  // namespace paean
