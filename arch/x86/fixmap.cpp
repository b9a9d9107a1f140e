#include "arch/fixmap.hpp"

#include <cstring>

#include "arch/cpu.hpp"
#include "lib/assert.hpp"

namespace paean::arch {

PER_CPU(Pte*, fix_top){&fixmap_tables[0].entries[kFixKmapFirst]};
PER_CPU(Pte*, fix_limit){&fixmap_tables[0].entries[kFixKmapFirst + kKmapPagesPerCpu]};

namespace {

constinit u32 device_pages_used = 0;

Pte& fix_pte(u32 index) { return fixmap_tables[index / kEntriesPerTable].entries[index % kEntriesPerTable]; }

}  // namespace

void fix_stack_error(const char* what) { panic("fixmap: {} (depth {})", what, fix_depth()); }

u32 fix_depth() { return (kKmapPagesPerCpu - static_cast<u32>(fix_limit.local() - fix_top.local())) / 2; }

void init_fix_slots(u32 cpu) {
  fix_top.local() = &fix_pte(kFixKmapFirst + cpu * kKmapPagesPerCpu);
  fix_limit.local() = fix_top.local() + kKmapPagesPerCpu;
}

void copy_from_physical(void* to, PhysAddr from, u32 bytes) {
  auto* out = static_cast<u8*>(to);
  while (bytes != 0) {
    const u32 here = kPageSize - from.page_offset() < bytes ? kPageSize - from.page_offset() : bytes;
    const FixWindow window{from};
    __builtin_memcpy(out, window.bytes() + from.page_offset(), here);
    out += here;
    from += here;
    bytes -= here;
  }
}

VirtAddr map_device(PhysAddr registers, u32 bytes) {
  const PhysAddr first = registers.align_down(kPageSize);
  const u32 pages = static_cast<u32>(((registers + bytes).align_up(kPageSize) - first) >> kPageShift);
  ASSERT(device_pages_used + pages <= kFixDevicePages);
  const u32 index = kFixDeviceFirst + device_pages_used;
  device_pages_used += pages;
  for (u32 i = 0; i < pages; ++i) {
    fix_pte(index + i).set(make_leaf(first + u64{i} * kPageSize, Protection::ReadWrite, Caching::Uncached));
  }
  return fixmap_address(index) + registers.page_offset();
}

}  // namespace paean::arch
