#include "kernel/spinlock.hpp"

namespace paean {

PER_CPU(u32, held_ranks){0u};

#ifdef PAEAN_DEBUG
void SpinLock::check_order() const {
  const u32 mine = static_cast<u32>(rank_);
  const u32 held = held_ranks.local();
  if ((held >> mine) != 0) {
    held_ranks.local() = 0;  // the panic itself takes locks
    panic("lock order: rank {} wanted while ranks {:#x} are held", mine, held);
  }
}
void SpinLock::note_held() const { held_ranks.local() |= 1u << static_cast<u32>(rank_); }
void SpinLock::note_released() const { held_ranks.local() &= ~(1u << static_cast<u32>(rank_)); }
#endif

}  // namespace paean
