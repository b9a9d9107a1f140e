// Temporary windows on physical pages: a per-CPU stack of slots at fixed addresses.
//
//        kFixmapStart                                                     one CPU, 16 slots
//   ... | slot 0 | guard | slot 1 | guard | ...  | slot 15 | guard | next CPU ...
//
// A slot's PTE is written by push and cleared by pop, which also drops the TLB entry of this CPU; no other CPU ever
// uses the address, so there is nothing to send. The odd pages are never mapped: one byte past a window faults.
//
// Interrupts may push and pop on top of whatever they interrupted, because a slot is claimed before its PTE is written
// and given back after it was cleared. Context: any, but the caller stays on this CPU and unmaps in reverse order.
// Errors: the 17th level, and popping out of order, panic.
// Source: kmap_atomic as a stack (Linux 2.6.37), guard slots (5.11).
#pragma once

#include "arch/layout.hpp"
#include "arch/percpu.hpp"
#include "arch/pte.hpp"

namespace paean::arch {

extern PageTable fixmap_tables[4];
extern PerCpu<Pte*> fix_top;    // next free slot of this CPU
extern PerCpu<Pte*> fix_limit;  // one past its last slot
extern u64 leaf_flags_rw;       // present, writable, accessed, dirty, and NX if the CPU has it

[[noreturn]] void fix_stack_error(const char* what);

[[gnu::always_inline]] inline void invalidate_page(VirtAddr va) {
  asm volatile("invlpg (%0)" ::"r"(va.raw()) : "memory");
}

[[gnu::always_inline]] inline u32 fix_slot_address(const Pte* slot) {
  const u32 offset = reinterpret_cast<u32>(slot) - reinterpret_cast<u32>(&fixmap_tables[0]);
  return kFixmapStart.raw() + (offset << (kPageShift - 3));  // 8 bytes of PTE are 4096 of address
}

/// Maps one page read-write at the next slot of this CPU. `page` is page-aligned and within MAXPHYADDR.
[[gnu::always_inline]] inline void* fix_push(PhysAddr page) {
  Pte* slot = fix_top.local();
  if (slot == fix_limit.local()) [[unlikely]]
    fix_stack_error("more than 16 nested temporary maps");
  fix_top.local() = slot + 2;
  asm volatile("" ::: "memory");
  slot->set(PteValue{page.raw() | leaf_flags_rw});
  return reinterpret_cast<void*>(fix_slot_address(slot));
}

/// Unmaps the newest window, which must be the one at `address` (any byte of its page).
[[gnu::always_inline]] inline void fix_pop(const void* address) {
  Pte* slot = fix_top.local() - 2;
  const u32 va = fix_slot_address(slot);
  if ((reinterpret_cast<u32>(address) & ~(kPageSize - 1)) != va) [[unlikely]] {
    fix_stack_error("temporary maps undone out of order");
  }
  slot->clear();
  invalidate_page(VirtAddr{va});
  asm volatile("" ::: "memory");
  fix_top.local() = slot;
}

/// How many windows this CPU holds.
u32 fix_depth();
/// Sets up this CPU's stack of slots.
void init_fix_slots(u32 cpu);

/// A window for a scope, on any physical page, RAM or not.
class [[nodiscard]] FixWindow {
 public:
  explicit FixWindow(PhysAddr page) : at_(fix_push(page.align_down(kPageSize))) {}
  ~FixWindow() { fix_pop(at_); }
  FixWindow(const FixWindow&) = delete;
  FixWindow& operator=(const FixWindow&) = delete;
  template <typename T>
  T* as() const {
    return static_cast<T*>(at_);
  }
  u8* bytes() const { return static_cast<u8*>(at_); }

 private:
  void* at_;
};

/// Copies out of physical memory through a window, page by page.
void copy_from_physical(void* to, PhysAddr from, u32 bytes);

/// Maps device registers for ever, uncached. Boot only; panics when the fixmap's device pages are used up.
VirtAddr map_device(PhysAddr registers, u32 bytes);

}  // namespace paean::arch
