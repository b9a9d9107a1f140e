// Debug builds watch over what the pool of kmap decides: no slot is handed out, and no parked frame freed, before every
// online CPU has flushed after the entry was cleared, or is idle and will. Each slot has a generation of its own here,
// taken when its entry is cleared, so that the pool's batches, their merging and its ring are all checked against
// something that knows none of them.
// Context: kmap's lock held. In release builds everything is empty.
#pragma once

#include "lib/types.hpp"

namespace paean {

#ifdef PAEAN_DEBUG
void note_slot_cleared(u32 slot);
void check_slot_reuse(u32 slot);
/// Panics with `what` and `number` unless all CPUs have acknowledged the generation.
void check_acknowledged(u32 generation, const char* what, u32 number);
#else
inline void note_slot_cleared(u32) {}
inline void check_slot_reuse(u32) {}
inline void check_acknowledged(u32, const char*, u32) {}
#endif

}  // namespace paean
