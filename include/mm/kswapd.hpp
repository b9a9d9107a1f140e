// kswapd: one thread that keeps some memory free in every zone, so that who allocates need not wait.
//
//   free pages of a zone
//   high  ---------------------------------+---------------------------  the thread rests again
//   low   --- an allocation wakes the thread ---
//   min   --- an allocation that may wait asks for itself (mm/reclaim.hpp): a stall
//
// It is woken when every zone that a request could use is under its low mark, or lowmem alone is; being of higher
// priority, it runs at once. All zones that are short give cached pages in proportion to their sizes.
//
// Lowmem is short in its own way: what lies in it are objects, most of which describe something else. A round for it
// asks cached pages, shrinkers and slabs alike, gently first. A round that leaves hardly more free lowmem than it found
// is followed by a rest: what is still cached does not help, and would only be missed. A request that is about to fail
// cuts the rest short; allocations below `low` do not. After it nothing is taken if lowmem has recovered by itself.
//
// Nobody but the thread and its helper run shrinkers: whoever allocates may hold a lock that a shrinker wants, so he
// waits a while instead. The helper has those that may wait for a disk, and the thread waits for it only briefly: a
// disk that has stalled stops nobody else's objects from going. Tests may call run_shrinkers() where they hold nothing.
// Source: shrinkers and kswapd of Linux.
#pragma once

#include "mm/page_alloc.hpp"

namespace paean {

/// For the frame allocator, where it has looked into the zones anyway: wakes the thread if the zones up to `highest`
/// are under their low marks, or lowmem is. Any context.
void watch_zones(ZoneId highest);
/// For the frame allocator, before a request fails: true if it has waited, whatever came of it, and a look is worth
/// while. False at once for whom must not wait, and for a block of any zone while lowmem is not short: cached objects
/// in its way are no reason to drop them. Any context.
bool wait_for_shrinkers(AllocFlags flags, Order order);
/// Rounds for lowmem so far.
u32 shrink_rounds();
/// Starts the thread and its helper. Boot, once, threads running.
void init_kswapd();

}  // namespace paean
