// `vmallocinfo`: who has which addresses of the vmalloc space, in the format of Linux's /proc/vmallocinfo.
#include "mm/vmalloc.hpp"
#include "kernel/console/command.hpp"
#include "lib/symbols.hpp"

namespace paean {

namespace {

void print_area(const VmAreaInfo& area, Sink& out) {
  format_to(out, "{:#010x}-{:#010x} {:>7}", area.start, area.end, area.end - area.start);
  if (area.state == VmState::Parked) return format_to(out, " unpurged vm_area\n");
  if (area.state == VmState::Cached) return format_to(out, " cached vm_area\n");
  if (area.name != nullptr) {
    format_to(out, " {}", area.name);
  } else {
    const Symbol symbol = find_symbol(area.caller);
    format_to(out, " {}+{:#x}/{:#x}", symbol.name, symbol.offset, symbol.size);
  }
  switch (area.kind) {
    case VmKind::Vmalloc: return format_to(out, " pages={} vmalloc\n", area.pages);
    case VmKind::Vmap: return format_to(out, " pages={} vmap\n", area.pages);
    case VmKind::Ioremap: return format_to(out, " phys={:#018x} ioremap\n", area.first);
    case VmKind::Stacks: return format_to(out, " stacks\n");
    case VmKind::Compound: return format_to(out, " pages={} vcompound\n", area.pages);
  }
}

void print_totals(Sink& out) {
  const VmallocStatistics s = vmalloc_statistics();
  const auto kib = [](u32 pages) { return PageCount{pages}.kib(); };
  format_to(out, "addresses     {:>10} kB   {} kB free, {} kB in one piece\n", kib(s.total_pages), kib(s.free_pages),
            kib(s.largest_free_pages));
  format_to(out, "live          {:>10} areas\n", s.live);
  format_to(out, "parked        {:>10} areas, {} kB, until every CPU has flushed; {} kB a CPU at most\n", s.parked,
            kib(s.parked_pages), kib(s.parked_limit));
  format_to(out, "cached        {:>10} areas: addresses only, for the next small ones\n", s.cached);
  format_to(out, "batches       {:>10} parked and flushed together\n", s.batches);
  format_to(out, "waits         {:>10} for CPUs that were behind; {} purges of everything\n", s.waits, s.purges);
}

CommandStatus vmallocinfo(Args& args, Sink& out) {
  const std::optional<std::string_view> word = args.next();
  if (word) {
    if (*word != "totals" || !args.end()) return CommandStatus::Usage;
    print_totals(out);
    return CommandStatus::Ok;
  }
  VirtAddr from{};
  while (const std::optional<VmAreaInfo> area = vmalloc_area_from(from)) {
    print_area(*area, out);
    from = area->end;
  }
  return CommandStatus::Ok;
}

}  // namespace

KCOMMAND(vmallocinfo, "[totals]", "areas of the vmalloc space by address", vmallocinfo)

}  // namespace paean
