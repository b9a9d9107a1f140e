#include "mm/kmap_checker.hpp"

#include "arch/irq.hpp"
#include "arch/tlb.hpp"
#include "lib/assert.hpp"

namespace paean {

#ifdef PAEAN_DEBUG

namespace {

struct Cleared {
  u32 generation = 0;
  bool ever = false;
};
constinit Cleared cleared[arch::kPkmapSlots]{};

/// A CPU that leaves its idle state is not idle any more and flushes next: it is given the time for that.
constexpr u32 kPatience = 1u << 24;

bool has_acknowledged(u32 cpu, u32 generation) {
  return __atomic_load_n(&arch::cpu_is_idle.on(cpu), __ATOMIC_ACQUIRE) != 0 ||
         static_cast<i32>(arch::tlb_cpu_generation(cpu) - generation) >= 0;
}

}  // namespace

void note_slot_cleared(u32 slot) { cleared[slot] = {arch::tlb_new_generation(), true}; }

void check_slot_reuse(u32 slot) {
  if (cleared[slot].ever) check_acknowledged(cleared[slot].generation, "slot", slot);
}

void check_acknowledged(u32 generation, const char* what, u32 number) {
  const u32 cpus = arch::online_cpus();
  if (cpus == 1) return;
  for (u32 cpu = 0; cpu < cpus; ++cpu) {
    u32 patience = kPatience;
    while (!has_acknowledged(cpu, generation)) {
      if (--patience == 0) {
        panic("kmap: {} {:#x} is reused, and CPU {} has not flushed since generation {} (it has {})", what, number, cpu,
              generation, arch::tlb_cpu_generation(cpu));
      }
      arch::cpu_relax();
    }
  }
}

#endif

}  // namespace paean
