// meminfo, zoneinfo, buddyinfo, pagetypeinfo, vmstat: the files of Linux's /proc, field for field, so that people and
// scripts know them. What Paean has no such thing of is 0, which is true.
#include <algorithm>

#include "arch/address_space.hpp"
#include "arch/percpu.hpp"
#include "kernel/block/bounce.hpp"
#include "kernel/console/command.hpp"
#include "kernel/fs/folio_io.hpp"
#include "mm/address_regions.hpp"
#include "mm/boot_memory.hpp"
#include "mm/ledger.hpp"
#include "mm/lending.hpp"
#include "mm/lowmem_warning.hpp"
#include "mm/page_alloc.hpp"
#include "mm/page_stacks.hpp"
#include "mm/slab.hpp"
#include "mm/swap.hpp"
#include "mm/vm_events.hpp"
#include "mm/vmalloc.hpp"

namespace paean {

namespace {

void field(Sink& out, std::string_view name, u64 kib) {
  char label[32];
  BufferSink text{label};
  format_to(text, "{}:", name);
  format_to(out, "{:<16}{:>8} kB\n", text.view(), kib);
}

void zero_fields(Sink& out, std::initializer_list<std::string_view> names) {
  for (const std::string_view name : names) field(out, name, 0);
}

u64 owned_kib(Owner owner) {
  PageCount pages{0};
  for (const ZoneId id : kAllZones) pages += ledger_pages(id, owner);
  return pages.kib();
}

/// Pages that a program could still get without going below the low watermarks: free ones, and what eviction finds.
u64 available_kib() {
  const PageCacheTotals cache = page_cache_totals();
  u64 kib = PageCount{cache.active + cache.inactive}.kib();
  for (const ZoneId id : kAllZones) {
    const PageCount free = free_pages_in(id), keep = zone(id).low;
    if (free > keep) kib += (free - keep).kib();
  }
  return kib;
}

struct DirectMapSizes {
  u64 small_kib = 0, large_kib = 0;
};

DirectMapSizes direct_map_sizes() {
  DirectMapSizes sizes;
  const auto add = [](const arch::MappingRun& run, void* context) {
    auto& sum = *static_cast<DirectMapSizes*>(context);
    (run.size == arch::PageSize::Large ? sum.large_kib : sum.small_kib) += (u64{run.last - run.start} + 1) / kKiB;
  };
  for_each_address_region(layout(), [&](const AddressRegion& region) {
    if (region.kind == RegionKind::Lowmem) arch::for_each_mapping(region.first, region.last, add, &sizes);
  });
  return sizes;
}

/// Large pages: nobody has any but the direct map.
void show_page_sizes(Sink& out) {
  zero_fields(out, {"HardwareCorrupted", "AnonHugePages", "ShmemHugePages", "ShmemPmdMapped", "FileHugePages",
                    "FilePmdMapped"});
  for (const std::string_view name : {"HugePages_Total", "HugePages_Free", "HugePages_Rsvd", "HugePages_Surp"}) {
    char label[20];
    BufferSink text{label};
    format_to(text, "{}:", name);
    format_to(out, "{:<16}{:>8}\n", text.view(), 0);
  }
  field(out, "Hugepagesize", kLargePageSize / kKiB);
  field(out, "Hugetlb", 0);
  const DirectMapSizes direct = direct_map_sizes();
  field(out, "DirectMap4k", direct.small_kib);
  field(out, "DirectMap2M", direct.large_kib);
}

CommandStatus show_meminfo(Args& args, Sink& out) {
  if (!args.end()) return CommandStatus::Usage;
  const MemoryTotals low = low_totals(), high = high_totals();
  field(out, "MemTotal", (low.total + high.total).kib());
  field(out, "MemFree", (low.free + high.free).kib());
  field(out, "MemAvailable", available_kib());
  const PageCacheTotals cache = page_cache_totals();
  const u64 buffers = PageCount{device_contents_pages()}.kib(), cached = PageCount{cache.pages}.kib();
  field(out, "Buffers", buffers);
  field(out, "Cached", cached > buffers ? cached - buffers : 0);
  field(out, "SwapCached", 0);  // a page is in memory or in the swap, never in both
  field(out, "Active", PageCount{cache.active}.kib());
  field(out, "Inactive", PageCount{cache.inactive}.kib());
  zero_fields(out, {"Active(anon)", "Inactive(anon)"});
  field(out, "Active(file)", PageCount{cache.active}.kib());
  field(out, "Inactive(file)", PageCount{cache.inactive}.kib());
  // What has no home but memory: files of tmpfs, and memory that programs share.
  const u64 shared = PageCount{cache.pages - std::min(cache.pages, cache.active + cache.inactive)}.kib();
  field(out, "Unevictable", shared);
  field(out, "Mlocked", 0);
  field(out, "HighTotal", high.total.kib());
  field(out, "HighFree", high.free.kib());
  field(out, "LowTotal", low.total.kib());
  field(out, "LowFree", low.free.kib());
  const SwapTotals swap = swap_totals();
  field(out, "SwapTotal", PageCount{swap.total}.kib());
  field(out, "SwapFree", PageCount{swap.free}.kib());
  zero_fields(out, {"Zswap", "Zswapped"});
  field(out, "Dirty", PageCount{cache.dirty}.kib());
  field(out, "Writeback", PageCount{cache.write_back}.kib());
  field(out, "AnonPages", owned_kib(Owner::User));
  field(out, "Mapped", 0);
  field(out, "Shmem", shared);
  const u64 slab = owned_kib(Owner::Slab), reclaimable = std::min(slab, reclaimable_slab_pages().kib());
  field(out, "KReclaimable", reclaimable);
  field(out, "Slab", slab);
  field(out, "SReclaimable", reclaimable);
  field(out, "SUnreclaim", slab - reclaimable);
  format_to(out, "KernelStack:    {:>8} kB\n", owned_kib(Owner::Stack));
  field(out, "PageTables", owned_kib(Owner::PageTables));
  zero_fields(out, {"SecPageTables", "NFS_Unstable"});
  field(out, "Bounce", (bounced_bytes_now() + kKiB - 1) / kKiB);
  zero_fields(out, {"WritebackTmp"});
  field(out, "CommitLimit", (low.total + high.total).kib() / 2);
  field(out, "Committed_AS", owned_kib(Owner::User));
  field(out, "VmallocTotal", layout().vmalloc_bytes() / kKiB);
  field(out, "VmallocUsed", owned_kib(Owner::Vmalloc));
  field(out, "VmallocChunk", PageCount{vmalloc_statistics().largest_free_pages}.kib());
  field(out, "Percpu", reserved_bytes(BootReason::PerCpu) / kKiB);
  show_page_sizes(out);
  return CommandStatus::Ok;
}

void print_zone(const Zone& z, Sink& out) {
  format_to(out, "Node 0, zone {:>8}\n", name(z.id));
  const PageCount free = free_pages_in(z.id);
  format_to(out, "  pages free     {}\n        boost    0\n        min      {}\n", free, z.min);
  format_to(out, "        low      {}\n        high     {}\n        spanned  {}\n", z.low, z.high, z.spanned());
  format_to(out, "        present  {}\n        managed  {}\n        cma      0\n        protection: (", z.present,
            z.managed);
  for (u32 i = 0; i < kZoneCount; ++i) format_to(out, "{}{}", i == 0 ? "" : ", ", z.reserve[i]);
  format_to(out, ")\n      nr_free_pages {}\n", free);
  const CachedPages cached = cached_pages_in(z.id);
  format_to(out, "      nr_zone_inactive_file {}\n      nr_zone_active_file {}\n", cached.inactive, cached.active);
  format_to(out, "  pagesets\n");
  for (u32 cpu = 0; cpu < arch::online_cpus(); ++cpu) {
    format_to(out, "    cpu: {}\n              count: {}\n              high:  {}\n              batch: {}\n", cpu,
              stacked_pages(z.id, cpu), ZoneStacks::Singles::kCapacity, ZoneStacks::kSinglesBatch);
  }
  format_to(out, "  start_pfn:           {}\n", (z.start - Pfn{0}).count());
}

CommandStatus show_zoneinfo(Args& args, Sink& out) {
  if (!args.end()) return CommandStatus::Usage;
  for (const ZoneId id : kAllZones) {
    if (!zone(id).empty()) print_zone(zone(id), out);
  }
  return CommandStatus::Ok;
}

CommandStatus show_buddyinfo(Args& args, Sink& out) {
  if (!args.end()) return CommandStatus::Usage;
  drain_local_pages();  // pages in a stack are free too, and this is the only place where they would be missing
  for (const ZoneId id : kAllZones) {
    if (zone(id).empty()) continue;
    format_to(out, "Node 0, zone {:>8} ", name(id));
    for (const u32 blocks : free_blocks_in(id)) format_to(out, "{:>6} ", blocks);
    format_to(out, "\n");
  }
  return CommandStatus::Ok;
}

/// Linux groups pages by mobility. Here the zone decides: lowmem holds what cannot move, highmem what can.
CommandStatus show_pagetypeinfo(Args& args, Sink& out) {
  if (!args.end()) return CommandStatus::Usage;
  static constexpr std::string_view kTypes[] = {"Unmovable", "Movable"};
  drain_local_pages();
  format_to(out, "Page block order: 9\nPages per block:  512\n\n");
  format_to(out, "{:<43} ", "Free pages count per migrate type at order");
  for (u32 order = 0; order < kOrderCount; ++order) format_to(out, "{:>6} ", order);
  format_to(out, "\n");
  for (const ZoneId id : kAllZones) {
    if (zone(id).empty()) continue;
    for (const std::string_view type : kTypes) {
      const bool here = (type == "Unmovable") == is_low(id);
      format_to(out, "Node {:>4}, zone {:>8}, type {:>12} ", 0, name(id), type);
      for (const u32 blocks : free_blocks_in(id)) format_to(out, "{:>6} ", here ? blocks : 0);
      format_to(out, "\n");
    }
  }
  format_to(out, "\n{:<23}", "Number of blocks type");
  for (const std::string_view type : kTypes) format_to(out, "{:>12} ", type);
  format_to(out, "\n");
  for (const ZoneId id : kAllZones) {
    if (zone(id).empty()) continue;
    const u32 blocks = (zone(id).spanned().count() + kPagesPerLargePage - 1) / kPagesPerLargePage;
    format_to(out, "Node 0, zone {:>8} {:>12} {:>12}\n", name(id), is_low(id) ? blocks : 0, is_low(id) ? 0 : blocks);
  }
  return CommandStatus::Ok;
}

CommandStatus show_vmstat(Args& args, Sink& out) {
  if (!args.end()) return CommandStatus::Usage;
  const StackEvents events = stack_events();
  const PageCacheTotals cache = page_cache_totals();
  format_to(out, "nr_free_pages {}\n", low_totals().free + high_totals().free);
  format_to(out, "nr_inactive_file {}\nnr_active_file {}\n", cache.inactive, cache.active);
  format_to(out, "nr_file_pages {}\nnr_dirty {}\nnr_writeback {}\n", cache.pages, cache.dirty, cache.write_back);
  format_to(out, "nr_dirty_threshold {}\nnr_dirty_background_threshold {}\n", cache.dirty_limit,
            cache.background_limit);
  format_to(out, "cache_folios {}\ncache_nodes {}\n", cache.folios, cache.nodes);
  format_to(out, "cache_hits {}\ncache_misses {}\ncache_read_ahead {}\n", cache.hits, cache.misses,
            cache.read_ahead_pages);
  format_to(out, "cache_evicted {}\ncache_throttled {}\n", cache.evicted, cache.throttled);
  for (u32 i = 0; i < kVmEvents; ++i) {
    const auto event = static_cast<VmEvent>(i);
    format_to(out, "{} {}\n", name(event), vm_events(event));
  }
  format_to(out, "pcp_refill {}\npcp_drain {}\npgalloc_failed {}\n", events.fills, events.drains,
            allocation_failures());
  print_lending(out);
  return CommandStatus::Ok;
}

CommandStatus show_lowmem(Args& args, Sink& out) {
  if (!args.end()) {
    const auto count = args.number("N", kOwnerCount + kMaxCaches);
    if (!count || !args.end()) return CommandStatus::Usage;
    print_lowmem_holders(out, static_cast<u32>(*count));
    return CommandStatus::Ok;
  }
  format_to(out, "Addresses:\n");
  for_each_address_region(layout(), [&](const AddressRegion& region) {
    if (region.kind != RegionKind::Lowmem && region.kind != RegionKind::Vmalloc) return;
    format_to(out, "  {:08x}-{:08x} {:<14} {:>11} kB\n", region.first, region.last, region.name, region.bytes() / kKiB);
  });
  print_ledger(out);
  return CommandStatus::Ok;
}

}  // namespace

KCOMMAND(meminfo, "", "memory in kB, as /proc/meminfo", show_meminfo)
KCOMMAND(zoneinfo, "", "zones: free pages, watermarks, reserves, CPU stacks", show_zoneinfo)
KCOMMAND(buddyinfo, "", "free blocks of each order in each zone", show_buddyinfo)
KCOMMAND(pagetypeinfo, "", "free blocks by mobility, which follows the zone", show_pagetypeinfo)
KCOMMAND(vmstat, "", "allocator events since boot", show_vmstat)
KCOMMAND(lowmem, "[N]", "lowmem's addresses, and the ledger: who holds it, to the page; or the N largest", show_lowmem)

}  // namespace paean
