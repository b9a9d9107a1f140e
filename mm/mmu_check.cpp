// Step 4: does this machine's MMU do what the rest of the kernel relies on?
//
// Emulators have had page walkers that cut a table's address to 32 bits: a table at 5 GiB is then read from 1 GiB, and
// the kernel dies of something that looks like its own bug. Here a table and a page are placed as high as memory goes
// and read, written and executed through; whoever fails is named.
#include "arch/address_space.hpp"
#include "arch/cpu.hpp"
#include "arch/fixmap.hpp"
#include "arch/traps.hpp"
#include "lib/log.hpp"
#include "mm/boot_memory.hpp"

namespace paean {

namespace {

using namespace arch::pte_bits;

constexpr VirtAddr kProbe = arch::kUkvaStart;  // a directory entry that nothing uses yet
constexpr u32 kPattern = 0x50414541;
constexpr u8 kReturn = 0xc3;

/// Two free pages, the highest there are. Borrowed: nothing else runs.
struct Borrowed {
  PhysAddr table, data;
};
std::optional<Borrowed> highest_pages() {
  std::optional<PhysRange> best;
  boot_regions().for_each_free([&](PhysAddr begin, PhysAddr end) {
    if (end - begin >= u64{2} * kPageSize) best = PhysRange{begin, end};
  });
  if (!best) return std::nullopt;
  return Borrowed{best->end - kPageSize, best->end - u64{2} * kPageSize};
}

void hook_table(arch::PteValue value) {
  const arch::Walk walk = arch::walk_current(kProbe);
  const arch::FixWindow directory{walk.pd_page};
  directory.as<arch::PageDirectory>()->entries[arch::pd_index(kProbe)].set(value);
  arch::flush_tlb_all();
}

void set_leaf(const Borrowed& pages, u64 flags) {
  const arch::FixWindow table{pages.table};
  arch::Pte& entry = table.as<arch::PageTable>()->entries[arch::pt_index(kProbe)];
  entry.clear();
  entry.set(arch::PteValue{pages.data.raw() | flags});
  arch::invalidate_page(kProbe);
}

arch::PteValue leaf(const Borrowed& pages) {
  const arch::FixWindow table{pages.table};
  return table.as<arch::PageTable>()->entries[arch::pt_index(kProbe)].load();
}

const char* check_translation(const Borrowed& pages) {
  set_leaf(pages, kPresent | kWritable);
  const Result<u32> read = arch::probe_read(kProbe);
  if (!read || *read != kPattern) {
    return "this emulator reads page tables above 4 GB from a wrong address; use qemu-system-x86_64.";
  }
  if (!leaf(pages).has(kAccessed)) return "the MMU does not set accessed bits.";
  if (leaf(pages).has(kDirty)) return "the MMU sets dirty bits on reads.";
  if (!arch::probe_write(kProbe, kPattern) || !leaf(pages).has(kDirty)) return "the MMU does not set dirty bits.";
  return nullptr;
}

const char* check_no_execute(const Borrowed& pages) {
  {
    const arch::FixWindow data{pages.data};
    *data.bytes() = kReturn;
  }
  set_leaf(pages, kPresent | kWritable);
  if (!arch::probe_execute(kProbe)) return "the MMU refuses to execute a page that allows it.";
  if (!arch::cpu_features().nx) return nullptr;
  set_leaf(pages, kPresent | kWritable | kNoExecute);
  if (arch::probe_execute(kProbe)) return "the MMU executes pages marked NX.";
  return nullptr;
}

}  // namespace

void check_mmu() {
  const auto pages = highest_pages();
  if (!pages) return;
  {
    const arch::FixWindow table{pages->table};
    __builtin_memset(table.bytes(), 0, kPageSize);
  }
  {
    const arch::FixWindow data{pages->data};
    *data.as<u32>() = kPattern;
  }
  hook_table(arch::make_table(pages->table));
  const char* fault = check_translation(*pages);
  if (fault == nullptr) fault = check_no_execute(*pages);
  hook_table(arch::PteValue{});
  if (fault != nullptr) refuse_boot(fault);
  log_info("MMU self-check passed: page table at {:#x}, accessed and dirty bits{}", pages->table,
           arch::cpu_features().nx ? ", NX" : " (no NX)");
}

}  // namespace paean
