// Temporary windows on physical pages: a per-CPU stack of slots at fixed addresses.
//
//        kFixmapStart                                                     one CPU, 16 slots
//   ... | slot 0 | guard | slot 1 | guard | ...  | slot 15 | guard | next CPU ...
//
// A slot's PTE is written by push and cleared by pop, which also drops the TLB entry of this CPU; no other CPU ever
// uses the address, so there is nothing to send. The odd pages are never mapped: one byte past a window faults.
//
// Interrupts may push and pop on top of whatever they interrupted, because a slot is claimed (by one instruction)
// before its PTE is written and given back after it was cleared. Threads may be preempted in between: the scheduler's
// switch hook saves a thread's windows and restores them, at the same addresses, when it comes back to this CPU; and
// while it holds any, the scheduler leaves it there.
// Context: any; unmap in reverse order. Errors: the 17th level, and popping out of order, twice, or what another thread
// mapped, panic.
// Source: kmap_atomic as a stack (Linux 2.6.37), guard slots (5.11).
#pragma once

#include "arch/irq.hpp"
#include "arch/layout.hpp"
#include "arch/percpu.hpp"
#include "arch/pte.hpp"

namespace paean::arch {

extern PageTable fixmap_tables[4];
extern PerCpu<u32> fix_next;   // address of this CPU's next free slot
extern PerCpu<u32> fix_limit;  // one past its last slot
extern u64 leaf_flags_rw;      // present, writable, accessed, dirty, and NX if the CPU has it

inline constexpr u32 kFixSlotBytes = 2 * kPageSize;  // with its guard

/// Panics with the name of its caller, or of `caller`.
[[noreturn, gnu::cold, gnu::noinline]] void fix_stack_error(const char* what, const void* caller = nullptr);

[[gnu::always_inline]] inline void invalidate_page(VirtAddr va) {
  asm volatile("invlpg (%0)" ::"r"(va.raw()) : "memory");
}

/// The entry for a page of the fixmap.
[[gnu::always_inline]] inline Pte& fix_entry(u32 va) {
  const u32 tables = reinterpret_cast<u32>(&fixmap_tables[0]) - (kFixmapStart.raw() >> (kPageShift - 3));
  return *reinterpret_cast<Pte*>((va >> (kPageShift - 3)) + tables);  // 4096 of address are 8 bytes of entry
}
/// The entry that the next fix_push() will use.
inline Pte& fix_next_entry() { return fix_entry(fix_next.get()); }

/// Maps the page whose address has these halves.
[[gnu::always_inline]] inline void* fix_push(u32 low, u32 high) {
  u32 at = kFixSlotBytes;
  // One instruction: an interrupt finds the slot either free or taken, and a thread that has taken it stays on its CPU.
  asm volatile("xaddl %0, %%fs:%1" : "+r"(at), "+m"(fix_next) : : "memory", "cc");
  bool full;
  asm volatile("cmpl %%fs:%1, %2" : "=@ccae"(full) : "m"(fix_limit), "r"(at));
  if (full) [[unlikely]]
    fix_stack_error("more than 16 nested temporary maps");
  fix_entry(at).set(low | static_cast<u32>(leaf_flags_rw), high | static_cast<u32>(leaf_flags_rw >> 32));
  return reinterpret_cast<void*>(at);
}
/// Maps one page read-write at the next slot of this CPU. `page` is page-aligned and within MAXPHYADDR.
[[gnu::always_inline]] inline void* fix_push(PhysAddr page) {
  return fix_push(static_cast<u32>(page.raw()), static_cast<u32>(page.raw() >> 32));
}

/// Unmaps the newest window, which is known to be at `at`.
[[gnu::always_inline]] inline void fix_pop_newest(const void* address) {
  const u32 at = reinterpret_cast<u32>(address);
  fix_entry(at).drop();
  invalidate_page(VirtAddr{at});
  asm volatile("" ::: "memory");
  fix_next.set(at);  // last: an interrupt before this uses the slot above
}
/// Unmaps the newest window, which must be the one at `address`: the address that fix_push() gave.
[[gnu::always_inline]] inline void fix_pop_exactly(const void* address) {
  const u32 at = fix_next.get() - kFixSlotBytes;
  if (reinterpret_cast<u32>(address) != at) [[unlikely]]
    fix_stack_error("temporary maps undone out of order, twice, or by another thread");
  fix_pop_newest(address);
}
/// The same, and false if `address` is not the newest window.
[[gnu::always_inline]] inline bool fix_try_pop(const void* address) {
  if (!fix_next.is(reinterpret_cast<u32>(address) + kFixSlotBytes)) [[unlikely]]
    return false;
  fix_pop_newest(address);
  return true;
}
/// The same with any byte of the page.
[[gnu::always_inline]] inline void fix_pop(const void* address) {
  fix_pop_exactly(reinterpret_cast<const void*>(reinterpret_cast<u32>(address) & ~(kPageSize - 1)));
}

/// Words that fix_save() needs: the depth, then the entries.
inline constexpr u32 kFixSaveWords = 1 + 2 * kKmapDepth;
/// Takes all windows of this CPU away and notes them; fix_restore() puts them back, on the same CPU. Interrupts are
/// off.
void fix_save(u32* words, IrqsOff);
void fix_restore(u32* words, IrqsOff);

/// How many windows this CPU holds.
u32 fix_depth();
/// Sets up this CPU's stack of slots.
void init_fix_slots(u32 cpu);

/// A window for a scope, on any physical page, RAM or not.
class [[nodiscard]] FixWindow {
 public:
  explicit FixWindow(PhysAddr page) : at_(fix_push(page.align_down(kPageSize))) {}
  ~FixWindow() { fix_pop_exactly(at_); }
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
