// Who gives lowmem back when it becomes short, whatever highmem has: those who cache objects register, one thread asks
// them.
// The thread is mm/kswapd.hpp's.
#pragma once

#include "lib/types.hpp"

namespace paean {

/// Somebody who can give objects back when memory is short. `shrink` frees up to so many and says how many it freed; it
/// may sleep, and several threads may be in it.
struct Shrinker {
  enum class Pace : u8 { Prompt, WaitsForDisks };
  const char* name;
  u32 (*count)();
  u32 (*shrink)(u32 objects);
  Pace pace = Pace::Prompt;
  // The list's.
  Shrinker* next = nullptr;
  u32 running = 0;
};
void register_shrinker(Shrinker& shrinker);
/// Nobody runs it when this returns. May sleep.
void unregister_shrinker(Shrinker& shrinker);
/// Asks every shrinker for a share of 1/2^`eagerness` of what it counts, or those of one pace. Objects freed. May
/// sleep; no locks held.
u32 run_shrinkers(u32 eagerness);
u32 run_shrinkers(u32 eagerness, Shrinker::Pace pace);

}  // namespace paean
