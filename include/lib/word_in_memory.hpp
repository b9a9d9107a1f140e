// A look at a word in memory in one instruction, for the hottest paths: of a volatile or atomic word the compiler makes
// a load, which takes a register, and then a comparison. As volatile as such a load; orders nothing for other CPUs.
#pragma once

#include "lib/types.hpp"

namespace paean {

template <typename Word>
  requires(sizeof(Word) == 4)
[[gnu::always_inline]] inline bool word_is(const Word& word, u32 value) {
  bool equal;
  asm volatile("cmpl %2, %1" : "=@cce"(equal) : "m"(word), "ri"(value));
  return equal;
}

}  // namespace paean
