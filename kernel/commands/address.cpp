// Addresses: iomem, ptdump, vtop, ptov, showmappings, pageinfo.
#include "arch/address_space.hpp"
#include "kernel/console/command.hpp"
#include "mm/address_regions.hpp"
#include "mm/boot_memory.hpp"
#include "mm/highmem.hpp"
#include "mm/ledger.hpp"
#include "mm/slab.hpp"
#include "mm/vcompound.hpp"

namespace paean {

namespace {

CommandStatus show_iomem(Args& args, Sink& out) {
  if (!args.end()) return CommandStatus::Usage;
  print_iomem(out);
  return CommandStatus::Ok;
}

/// What the address map calls the region of an address.
std::string_view region_of(VirtAddr va) { return address_region(layout(), va).name; }

/// Where runs are printed, and how many there were.
struct RunPrinter {
  Sink& out;
  u32 count = 0;
};

void print_run(const arch::MappingRun& run, void* context) {
  RunPrinter& printer = *static_cast<RunPrinter*>(context);
  Sink& out = printer.out;
  ++printer.count;
  const u32 bytes = run.last - run.start + 1;
  format_to(out, "{:08x}-{:08x} {:>7}K -> {:010x} {} ", run.start, run.last, bytes / kKiB, run.physical,
            run.size == arch::PageSize::Large ? "2M" : "4K");
  arch::print_flags(out, run.flags);
  format_to(out, " {}{}\n", region_of(run.start), run.repeats ? " (one page, repeated)" : "");
}

CommandStatus show_ptdump(Args& args, Sink& out) {
  if (!args.end()) return CommandStatus::Usage;
  // Region by region: where lowmem and vmalloc alternate, the borders show although nothing is mapped there.
  RunPrinter printer{out};
  for_each_address_region(layout(), [&](const AddressRegion& region) {
    format_to(out, "---[ {} {:08x}-{:08x} {}K ]---\n", region.name, region.first, region.last, region.bytes() / kKiB);
    arch::for_each_mapping(region.first, region.last, print_run, &printer);
  });
  return CommandStatus::Ok;
}

CommandStatus show_mappings(Args& args, Sink& out) {
  const auto first = args.virt_address("VA");
  if (!first) return CommandStatus::Usage;
  VirtAddr last = *first;
  if (args.more()) {
    const auto given = args.virt_address("VA");
    if (!given) return CommandStatus::Usage;
    last = *given;
  }
  if (!args.end()) return CommandStatus::Usage;
  if (last < *first) {
    format_to(out, "showmappings: the range ends before it begins\n");
    return CommandStatus::Failed;
  }
  RunPrinter printer{out};
  arch::for_each_mapping(*first, last, print_run, &printer);
  if (printer.count == 0) format_to(out, "nothing is mapped in {:08x}-{:08x} ({})\n", *first, last, region_of(*first));
  return CommandStatus::Ok;
}

CommandStatus show_vtop(Args& args, Sink& out) {
  const auto va = args.virt_address("VA");
  if (!va || !args.end()) return CommandStatus::Usage;
  const arch::Walk walk = arch::walk_current(*va);
  if (walk.mapped)
    format_to(out, "{:08x} -> {:#x} ({})\n", *va, walk.address, region_of(*va));
  else
    format_to(out, "{:08x} is not mapped ({})\n", *va, region_of(*va));
  arch::print_walk(out, *va);
  return CommandStatus::Ok;
}

CommandStatus show_ptov(Args& args, Sink& out) {
  const auto pa = args.phys_address("PA");
  if (!pa || !args.end()) return CommandStatus::Usage;
  if (*pa < kPfnLimit) {
    if (const auto low = to_low(to_pfn(*pa)); low && arch::walk_current(low->address()).mapped) {
      format_to(out, "{:#x} -> {:08x}\n", *pa, low->address() + pa->page_offset());
      return CommandStatus::Ok;
    }
    if (pfn_valid(to_pfn(*pa))) {
      format_to(out, "{:#x} is highmem: no address until it is mapped\n", *pa);
      return CommandStatus::Ok;
    }
  }
  format_to(out, "{:#x} is not memory\n", *pa);
  return CommandStatus::Ok;
}

/// What happened to a frame, in words.
void describe_frame(const Page* page, Sink& out) NO_THREAD_SAFETY_ANALYSIS {
  const Pfn pfn = page_to_pfn(page);
  Zone& z = zone(zone_of(pfn));
  switch (page->type()) {
    case PageType::Hole: return format_to(out, "no memory here\n");
    case PageType::Reserved:
      return format_to(out, "reserved at boot: {}\n", name(static_cast<BootReason>(page->detail())));
    case PageType::Slab: return format_to(out, "allocated: slab, cache {}\n", cache_name_of(page));
    case PageType::Cached: return format_to(out, "free, in a CPU's stack\n");
    case PageType::Free:
      if (const u32 order = z.buddy.covering_order(z.index_of(pfn)); order != Buddy::kNone) {
        return format_to(out, "free, in a block of order {}\n", order);
      }
      break;
    case PageType::VCompound: {
      const VCompoundInfo block = vcompound_info(page);
      if (block.head == nullptr) return format_to(out, "freed, waits until every CPU has flushed its TLB\n");
      return format_to(out, "allocated: {}, virtual block of order {}, page {} of it, {} references\n",
                       name(page->owner()), block.order, block.index, block.references);
    }
    case PageType::Block:
    case PageType::Parked: break;
  }
  const Page* head = block_head(const_cast<Page*>(page));
  if (head == nullptr) return format_to(out, "in no block\n");
  if (head->type() == PageType::Parked) return format_to(out, "freed, waits until every CPU has flushed its TLB\n");
  format_to(out, "allocated: {}, order {}, page {} of the block, {} references\n", name(head->owner()), head->order(),
            static_cast<u32>(page - head), head->references());
}

CommandStatus show_pageinfo(Args& args, Sink& out) {
  const auto number = args.number("PFN", 0xffffffff);
  if (!number || !args.end()) return CommandStatus::Usage;
  const Pfn pfn{static_cast<u32>(*number)};
  if (pfn >= frame_limit()) {
    format_to(out, "pageinfo: frame {:#x} is beyond the last one, {:#x}\n", pfn, frame_limit() - PageCount{1});
    return CommandStatus::Failed;
  }
  const Page* page = pfn_to_page(pfn);
  format_to(out, "frame {:#x}, physical {:#x}, zone {}, word {:08x}\n", pfn, to_phys(pfn),
            pfn_valid(pfn) ? name(zone_of(pfn)) : "none", page->word());
  if (const auto va = page_address(page); va && pfn_valid(pfn)) format_to(out, "address {:08x}\n", *va);
  describe_frame(page, out);
  return CommandStatus::Ok;
}

}  // namespace

KCOMMAND(iomem, "", "physical address space and what boot took of it", show_iomem)
KCOMMAND(ptdump, "", "all mappings by region, runs joined: range, size, physical, protection", show_ptdump)
KCOMMAND(showmappings, "VA [VA]", "the mappings of a range of addresses", show_mappings)
KCOMMAND(vtop, "VA", "physical address and page walk of a virtual address", show_vtop)
KCOMMAND(ptov, "PA", "virtual address of a physical one", show_ptov)
KCOMMAND(pageinfo, "PFN", "everything about one frame", show_pageinfo)

}  // namespace paean
