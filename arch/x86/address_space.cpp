#include "arch/address_space.hpp"

#include "arch/cpu.hpp"
#include "arch/fixmap.hpp"
#include "arch/irq.hpp"
#include "arch/tlb_checker.hpp"
#include "lib/assert.hpp"

namespace paean::arch {

using namespace pte_bits;

namespace {

constexpr u32 kCr3PdptMask = ~31u;

/// Directory entries from here on are sealed, by their number among 2048.
constexpr u32 kUnsealed = kPdptSlots * kEntriesPerTable;
constinit u32 sealed_from = kUnsealed;
constinit u32 sealed_sum = 0;

u32 directory_entry_number(VirtAddr va) { return pdpt_index(va) * kEntriesPerTable + pd_index(va); }
bool is_sealed(VirtAddr va) { return directory_entry_number(va) >= sealed_from; }

PhysAddr current_pdpt() { return PhysAddr{read_cr3() & kCr3PdptMask}; }

u64 read_pdpte(u32 slot) {
  const PhysAddr pdpt = current_pdpt();
  const FixWindow window{pdpt};
  return reinterpret_cast<const u64*>(window.bytes() + pdpt.page_offset())[slot];
}

Pte* table_entries(const FixWindow& window) { return window.as<PageTable>()->entries; }

/// The directory that covers `va`. Kernel directories exist from the first page table on.
Result<PhysAddr> directory_of(VirtAddr va) {
  const PteValue pdpte{read_pdpte(pdpt_index(va))};
  if (!pdpte.present()) return std::unexpected(Error::NotFound);
  return pdpte.address();
}

PteValue load_entry(PhysAddr table, u32 index) {
  const FixWindow window{table};
  return table_entries(window)[index].load();
}

void set_entry(PhysAddr table, u32 index, PteValue value) {
  const FixWindow window{table};
  table_entries(window)[index].set(value);
}

/// The PTE page for `va`, made if there is none.
Result<PhysAddr> table_for(VirtAddr va, TableAllocator allocate) {
  const PhysAddr directory = TRY(directory_of(va));
  const PteValue pde = load_entry(directory, pd_index(va));
  if (pde.has(kLarge) && pde.present()) return std::unexpected(Error::Busy);
  if (pde.present()) return pde.address();
  if (allocate == nullptr) return std::unexpected(Error::NotFound);
  ASSERT(!is_sealed(va));
  const PhysAddr table = TRY(allocate());
  set_entry(directory, pd_index(va), make_table(table));
  return table;
}

/// A checksum over the sealed entries.
u32 sum_directories() {
  u32 sum = 0;
  for (u32 number = sealed_from; number < kUnsealed; ++number) {
    const VirtAddr va = VirtAddr{0} + number * kLargePageSize;
    // What each user space has of its own, and what belongs to kmap.
    if (va >= kUkvaOtherStart && va < kPkmapStart) continue;
    const Result<PhysAddr> directory = directory_of(va);
    const u64 entry = directory ? load_entry(*directory, pd_index(va)).without(kAccessed | kDirty).raw() : 0;
    sum = (sum << 5 | sum >> 27) ^ static_cast<u32>(entry) ^ static_cast<u32>(entry >> 32);
  }
  return sum;
}

/// Applies `change` to each existing 4 KiB entry of a range, which it also drops from this CPU's TLB.
template <typename Change>
Result<> change_range(VirtAddr va, u32 bytes, Change change) {
  for (u32 done = 0; done < bytes; done += kPageSize) {
    const PhysAddr table = TRY(table_for(va + done, nullptr));
    const FixWindow window{table};
    change(table_entries(window)[pt_index(va + done)], va + done);
  }
  return {};
}

}  // namespace

Walk walk_current(VirtAddr va) {
  Walk walk;
  walk.pdpte = read_pdpte(pdpt_index(va));
  const PteValue pdpte{walk.pdpte};
  if (!pdpte.present()) return walk;
  walk.pd_page = pdpte.address();
  walk.pde = load_entry(walk.pd_page, pd_index(va));
  if (!walk.pde.present()) return walk;
  if (walk.pde.has(kLarge)) {
    walk.large = walk.mapped = true;
    walk.address = walk.pde.large_address() + (va.raw() & (kLargePageSize - 1));
    return walk;
  }
  walk.pt_page = walk.pde.address();
  walk.pte = load_entry(walk.pt_page, pt_index(va));
  walk.mapped = walk.pte.present();
  if (walk.mapped) walk.address = walk.pte.address() + va.page_offset();
  return walk;
}

Result<> map_range(VirtAddr va, PhysAddr pa, u32 bytes, Protection protection, TableAllocator allocate) {
  ASSERT(va.is_aligned(kPageSize) && pa.is_aligned(kPageSize) && bytes % kPageSize == 0);
  while (bytes != 0) {
    if (va.is_aligned(kLargePageSize) && pa.is_aligned(kLargePageSize) && bytes >= kLargePageSize) {
      const PhysAddr directory = TRY(directory_of(va));
      const FixWindow window{directory};
      // One window serves every large page of this directory.
      do {
        Pte& entry = table_entries(window)[pd_index(va)];
        ASSERT(!entry.load().present() && !is_sealed(va));
        entry.set(make_leaf(pa, protection).with(kLarge));
        va += kLargePageSize;
        pa += kLargePageSize;
        bytes -= kLargePageSize;
      } while (bytes >= kLargePageSize && pd_index(va) != 0);
      continue;
    }
    const PhysAddr table = TRY(table_for(va, allocate));
    const FixWindow window{table};
    do {
      Pte& entry = table_entries(window)[pt_index(va)];
      ASSERT(!entry.load().present());
      check_reuse(va, 1);
      entry.set(make_leaf(pa, protection));
      va += kPageSize;
      pa += kPageSize;
      bytes -= kPageSize;
    } while (bytes != 0 && pt_index(va) != 0);
  }
  return {};
}

Result<> populate_tables(VirtAddr va, u32 bytes, TableAllocator allocate) {
  const VirtAddr end = va + bytes;
  for (VirtAddr at = va.align_down(kLargePageSize); at < end; at += kLargePageSize) {
    (void)TRY(table_for(at, allocate));
  }
  return {};
}

Result<> with_pte(VirtAddr va, void (*use)(Pte&, u64), u64 argument) {
  const PhysAddr table = TRY(table_for(va, nullptr));
  const FixWindow window{table};
  use(table_entries(window)[pt_index(va)], argument);
  return {};
}

void seal_kernel_directories(VirtAddr from) {
  sealed_from = directory_entry_number(from);
  sealed_sum = sum_directories();
}

bool kernel_directories_are_as_sealed() { return sum_directories() == sealed_sum; }

Result<> protect_range(VirtAddr va, u32 bytes, Protection protection) {
  return change_range(va, bytes, [protection](Pte& pte, VirtAddr at) {
    (void)pte.exchange(make_leaf(pte.load().address(), protection));
    invalidate_page(at);
  });
}

Result<> unmap_range(VirtAddr va, u32 bytes) {
  return change_range(va, bytes, [](Pte& pte, VirtAddr at) {
    pte.clear();
    invalidate_page(at);
    note_unmapped_here(at, 1);
  });
}

}  // namespace paean::arch
