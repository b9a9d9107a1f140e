// lsblk, bounceinfo, diskpages.
#include "kernel/block/bounce.hpp"
#include "kernel/block/device.hpp"
#include "kernel/console/command.hpp"
#include "kernel/fs/folio_io.hpp"

namespace paean {

namespace {

void show_device(void* context, BlockDevice& device) {
  Sink& out = *static_cast<Sink*>(context);
  char indented[20];
  BufferSink name{indented};
  format_to(name, "{}{}", device.is_whole() ? "" : "  ", device.name());
  format_to(out, "{:<12} {:>12} {:>8} {:>2}", name.view(), device.sectors(), device.sectors() >> 11,
            device.read_only() ? "ro" : "rw");
  if (device.is_whole()) {
    const BlockStatistics s = block_statistics(device);
    format_to(out, " {:>9} {:>9} {:>7} {:>9} {:>11} {:>11} {:>11} {:>6} {:>8}", s.reads, s.writes, s.flushes, s.merged,
              s.sectors_read, s.sectors_written, s.bounced_bytes >> 9, s.errors, s.timeouts);
  }
  format_to(out, "\n");
}

CommandStatus list_devices(Args& args, Sink& out) {
  if (!args.end()) return CommandStatus::Usage;
  format_to(out, "{:<12} {:>12} {:>8} {:>2} {:>9} {:>9} {:>7} {:>9} {:>11} {:>11} {:>11} {:>6} {:>8}\n", "name",
            "sectors", "MiB", "", "reads", "writes", "flushes", "merged", "read", "written", "bounced", "errors",
            "timeouts");
  for_each_block_device(show_device, &out);
  return CommandStatus::Ok;
}

CommandStatus show_bounce(Args& args, Sink& out) {
  if (!args.end()) return CommandStatus::Usage;
  print_bounce(out);
  return CommandStatus::Ok;
}

CommandStatus choose_pages(Args& args, Sink&) {
  const auto word = args.word("reached or anywhere");
  if (!word || !args.end()) return CommandStatus::Usage;
  if (*word != "reached" && *word != "anywhere") return CommandStatus::Usage;
  set_device_pages(*word == "reached" ? DevicePages::WhereItReaches : DevicePages::Anywhere);
  return CommandStatus::Ok;
}

}  // namespace

KCOMMAND(lsblk, "", "disks and partitions; commands since boot, and sectors", list_devices)
KCOMMAND(bounceinfo, "", "bounce memory: who waits, how much was used, in sectors", show_bounce)
KCOMMAND(diskpages, "reached|anywhere", "where pages of files on disks come from, to compare", choose_pages)

}  // namespace paean
