#include "arch/fixmap.hpp"

#include <cstring>

#include "arch/cpu.hpp"
#include "lib/assert.hpp"
#include "lib/symbols.hpp"

namespace paean::arch {

PER_CPU(u32, fix_next){fixmap_address(kFixKmapFirst).raw()};
PER_CPU(u32, fix_limit){fixmap_address(kFixKmapFirst + 2 * kKmapDepth).raw()};

namespace {

constexpr u32 kStackBytes = kKmapDepth * kFixSlotBytes;

constinit u32 device_pages_used = 0;

Pte& fix_pte(u32 index) { return fixmap_tables[index / kEntriesPerTable].entries[index % kEntriesPerTable]; }

u32 first_slot() { return fix_limit.get() - kStackBytes; }

}  // namespace

void fix_stack_error(const char* what, const void* caller) {
  if (caller == nullptr) caller = __builtin_return_address(0);
  const u32 depth = fix_depth();
  fix_next.set(first_slot());  // the report needs windows itself
  const Symbol at = find_symbol(VirtAddr{reinterpret_cast<u32>(caller)});
  panic("fixmap: {} (depth {}, called from {}+{:#x})", what, depth, at.name, at.offset);
}

u32 fix_depth() { return (fix_next.get() - first_slot()) / kFixSlotBytes; }

void init_fix_slots(u32 cpu) {
  fix_next.local() = fixmap_address(kFixKmapFirst + cpu * kKmapPagesPerCpu).raw();
  fix_limit.local() = fix_next.local() + kStackBytes;
}

void fix_save(u32* words, IrqsOff) {
  const u32 first = first_slot(), end = fix_next.get();
  words[0] = (end - first) / kFixSlotBytes;
  for (u32 at = first; at != end; at += kFixSlotBytes) {
    const u64 value = fix_entry(at).load().raw();  // 0 if the thread was just about to write or had just cleared it
    *++words = static_cast<u32>(value);
    *++words = static_cast<u32>(value >> 32);
    fix_entry(at).clear();
    invalidate_page(VirtAddr{at});
  }
  fix_next.set(first);
}

void fix_restore(u32* words, IrqsOff) {
  const u32 first = first_slot(), depth = words[0];
  words[0] = 0;
  for (u32 i = 0; i < depth; ++i) {
    const u64 value = words[1 + 2 * i] | (u64{words[2 + 2 * i]} << 32);
    if (value != 0) fix_entry(first + i * kFixSlotBytes).set(PteValue{value});
  }
  fix_next.set(first + depth * kFixSlotBytes);
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
