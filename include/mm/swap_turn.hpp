// Whose turn it is to look at all spaces for the swap's sake: the clock's, or that of whoever empties an area. A
// sleeping lock without a rank: only threads that hold no lock at all take it.
#pragma once

namespace paean {

class [[nodiscard]] SwapTurn {
 public:
  SwapTurn();
  ~SwapTurn();
  SwapTurn(const SwapTurn&) = delete;
  SwapTurn& operator=(const SwapTurn&) = delete;
};

}  // namespace paean
