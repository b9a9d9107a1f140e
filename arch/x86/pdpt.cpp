#include "arch/pdpt.hpp"

#include "arch/cpu.hpp"
#include "arch/lock.hpp"
#include "arch/smp.hpp"
#include "arch/tlb.hpp"
#include "arch/user_tlb.hpp"
#include "lib/assert.hpp"

namespace paean::arch {

using namespace pte_bits;

extern Pdpt kernel_pdpt;

PER_CPU(u32, pdptes_loaded){0u};
constinit std::atomic<u32> pdptes_due{0};

namespace {

/// Changes that were begun; one at a time.
constinit std::atomic<u32> changes{0};
constinit CallLock change_lock{LockRank::Pdpt};

/// The registers as this CPU loaded them last.
struct Registers {
  u64 entries[kPdptSlots];
};
PER_CPU(Registers, registers);

/// TCG sets accessed bits in the table, which no hardware does.
u64 entry_in_memory(u32 slot) {
  const volatile u64* entry = &kernel_pdpt.slots[slot];
  return *entry & ~kAccessed;
}

bool is_behind(u32 cpu, u32 change) {
  return static_cast<i32>(__atomic_load_n(&pdptes_loaded.on(cpu), __ATOMIC_ACQUIRE) - change) < 0;
}

void reload(IrqsOff) { load_kernel_pdpt(); }

}  // namespace

bool pdpte_is_legal(PteValue value) {
  if (!value.present()) return value == PteValue{};
  const u64 rest = value.without(kPresent | kWriteThrough | kCacheDisable | kAddress).raw();
  return rest == 0 && (value.address().raw() >> cpu_features().physical_bits) == 0;
}

u32 kernel_cr3() { return reinterpret_cast<u32>(&kernel_pdpt) - kImageOffset; }

PhysAddr kernel_directory(u32 slot) {
  const PteValue entry{entry_in_memory(slot)};
  ASSERT(entry.present());
  return entry.address();
}

void init_user_pdpt(Pdpt& table, std::span<const PhysAddr, kPdptSlots> directories) {
  for (u32 slot = 0; slot < kPdptSlots; ++slot) {
    const PteValue entry{directories[slot].raw() | kPresent};
    ASSERT(pdpte_is_legal(entry));
    table.slots[slot] = entry.raw();
  }
}

u32 user_cr3(PhysAddr table) {
  ASSERT(table.is_aligned(sizeof(Pdpt)) && table.raw() < 4 * kGiB);
  return static_cast<u32>(table.raw());
}

void load_user_pdpt(u32 cr3) { write_cr3(cr3); }
void leave_user_pdpt() { write_cr3(kernel_cr3()); }

void leave_start_pdpt() { write_cr3(kernel_cr3()); }

void load_kernel_pdpt() {
  const IrqsOffGuard off;
  // Read first: a change that begins after this line counts as not loaded, though it may be.
  const u32 change = changes.load(std::memory_order_acquire);
  for (u32 slot = 0; slot < kPdptSlots; ++slot) registers.local().entries[slot] = entry_in_memory(slot);
  write_cr3(kernel_cr3());
  __atomic_store_n(&pdptes_loaded.local(), change, __ATOMIC_RELEASE);
  // A user's table goes on with the old entry: changes are not for slots that such tables have too.
  reload_user_tlb(off.token());
}

void write_pdpte(u32 slot, PteValue value) {
  ASSERT(slot < kPdptSlots && pdpte_is_legal(value));
  ASSERT(online_cpus() == 1 || irqs_enabled());
  const CallGuard guard{change_lock};
  const u32 change = changes.fetch_add(1) + 1;
  // Not in one piece: no CPU reads the table but at its next load of CR3, which is below.
  volatile u64* entry = &kernel_pdpt.slots[slot];
  *entry = value.raw();
  load_kernel_pdpt();
  run_on_other_cpus(reload);
  tlb_wait_for_generation(tlb_new_generation());  // global entries outlive a load of CR3
  pdptes_due.store(change, std::memory_order_release);
  for (u32 cpu = 0; cpu < online_cpus(); ++cpu) {
    if (is_behind(cpu, change)) panic("CPU {} owes a reload of CR3", cpu);
  }
}

void drop_identity_map() { write_pdpte(0, PteValue{}); }

void make_start_pdpt(Pdpt& table, PhysAddr low) {
  for (u32 slot = 1; slot < kPdptSlots; ++slot) table.slots[slot] = entry_in_memory(slot);
  table.slots[0] = low.raw() | kPresent;
}

void cr3_reload_is_owed() {
  const u32 due = pdptes_due.load(std::memory_order_acquire);
  if (is_behind(this_cpu(), due)) panic("CPU {} owes a reload of CR3 since change {}", this_cpu(), due);
}

#ifdef PAEAN_DEBUG
void compare_pdptes() {
  const u32 before = changes.load(std::memory_order_acquire);
  if (change_lock.is_held() || is_behind(this_cpu(), before)) return;
  for (u32 slot = 0; slot < kPdptSlots; ++slot) {
    const u64 loaded = registers.local().entries[slot], now = entry_in_memory(slot);
    if (loaded == now || changes.load(std::memory_order_acquire) != before) continue;
    panic("directory pointer {} was changed behind its owner: {:#x}, and CPU {} works with {:#x}", slot, now,
          this_cpu(), loaded);
  }
}
#endif

}  // namespace paean::arch
