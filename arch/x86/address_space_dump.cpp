// Showing page tables to people: runs of equal mappings for ptdump, one walk for vtop and panics.
#include "arch/address_space.hpp"
#include "arch/cpu.hpp"
#include "arch/fixmap.hpp"

namespace paean::arch {

using namespace pte_bits;

namespace {

constexpr u64 kShown = kPresent | kWritable | kUser | kWriteThrough | kCacheDisable | kGlobal | kNoExecute;

/// Joins neighbours into runs.
class RunBuilder {
 public:
  RunBuilder(void (*visit)(const MappingRun&, void*), void* context) : visit_(visit), context_(context) {}

  void add(VirtAddr va, u32 bytes, PhysAddr pa, PteValue entry, PageSize size) {
    const PteValue flags{entry.raw() & kShown};
    if (open_ && flags == run_.flags && size == run_.size && va == run_.last + 1) {
      const bool rising = !run_.repeats && pa == run_.physical + (va - run_.start);
      const bool single = run_.last - run_.start == bytes - 1;
      const bool repeated = (single || run_.repeats) && pa == run_.physical;
      if (rising || repeated) {
        run_.last = va + (bytes - 1);
        run_.repeats = repeated;
        return;
      }
    }
    finish();
    run_ = MappingRun{va, va + (bytes - 1), pa, flags, size, false};
    open_ = true;
  }
  void finish() {
    if (open_) visit_(run_, context_);
    open_ = false;
  }

 private:
  void (*visit_)(const MappingRun&, void*);
  void* context_;
  MappingRun run_{};
  bool open_ = false;
};

void print_entry(Sink& out, const char* level, u32 index, u64 value) {
  format_to(out, "  {:<5} [{:>3}] {:016x}", level, index, value);
}

}  // namespace

void for_each_mapping(VirtAddr from, VirtAddr last, void (*visit)(const MappingRun&, void*), void* context) {
  RunBuilder runs{visit, context};
  u64 at = from.align_down(kPageSize).raw();
  while (at <= last.raw()) {
    const VirtAddr va{static_cast<u32>(at)};
    const Walk walk = walk_current(va);
    const bool no_directory = !PteValue{walk.pdpte}.present();
    const bool whole = no_directory || !walk.pde.present() || walk.large;
    if (walk.mapped) {
      const u32 step = walk.large ? kLargePageSize - (va.raw() & (kLargePageSize - 1)) : kPageSize;
      runs.add(va, step, walk.address, walk.leaf(), walk.large ? PageSize::Large : PageSize::Small);
    }
    const u64 span = no_directory ? kGiB : whole ? kLargePageSize : kPageSize;
    at = (at & ~(span - 1)) + span;
  }
  runs.finish();
}

void print_flags(Sink& out, PteValue flags) {
  format_to(out, "{}{}{} {} {}{}", flags.has(kUser) ? 'u' : 'k', flags.has(kWritable) ? 'w' : 'r',
            flags.has(kNoExecute) || !cpu_features().nx ? '-' : 'x', flags.has(kGlobal) ? "global" : "local ",
            flags.has(kCacheDisable) ? "uncached" : "cached", flags.has(kWriteThrough) ? " wt" : "");
}

void print_walk(Sink& out, VirtAddr va) {
  const Walk walk = walk_current(va);
  format_to(out, "page walk of {:08x}, CR3 {:08x}\n", va, read_cr3());
  print_entry(out, "PDPTE", pdpt_index(va), walk.pdpte);
  format_to(out, "{}\n", PteValue{walk.pdpte}.present() ? "" : "  not present");
  if (!PteValue{walk.pdpte}.present()) return;
  print_entry(out, "PDE", pd_index(va), walk.pde.raw());
  if (!walk.pde.present()) return format_to(out, "  not present\n");
  if (!walk.large) {
    format_to(out, "\n");
    print_entry(out, "PTE", pt_index(va), walk.pte.raw());
    if (!walk.mapped) return format_to(out, "  not present\n");
  }
  format_to(out, "  {} ", walk.large ? "2M" : "4K");
  print_flags(out, walk.leaf());
  format_to(out, "\n  physical {:#x}\n", walk.address);
}

}  // namespace paean::arch
