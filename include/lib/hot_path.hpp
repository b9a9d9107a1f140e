// What the hottest paths tell the compiler. Neither changes what the code means, and neither orders anything for other
// CPUs.
#pragma once

#include "lib/types.hpp"

namespace paean {

/// A look at a word in memory in one instruction: of a volatile or atomic word the compiler makes a load, which takes a
/// register, and then a comparison. As volatile as such a load.
template <typename Word>
  requires(sizeof(Word) == 4)
[[gnu::always_inline]] inline bool word_is(const Word& word, u32 value) {
  bool equal;
  asm volatile("cmpl %2, %1" : "=@cce"(equal) : "m"(word), "ri"(value));
  return equal;
}

/// The value, in one register from now on: the compiler would derive it anew, in more instructions, at every use.
template <typename Value>
  requires(sizeof(Value) == 4)
[[gnu::always_inline]] inline Value in_register(Value value) {
  asm("" : "+r"(value));
  return value;
}

}  // namespace paean
