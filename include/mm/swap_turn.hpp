// Whose turn it is to look at all spaces for the swap's sake: the clock's, or that of whoever empties an area.
#pragma once

#include "kernel/sync.hpp"

namespace paean {

/// LockRank::SwapTurn, the outermost.
extern Mutex swap_turn;

}  // namespace paean
