// What libstdc++'s headers call when a precondition of theirs is broken. There are no exceptions here: such a call is a
// bug of ours, and ends like one.
#include <bits/functexcept.h>  // declares them, as the headers see them

#include "lib/assert.hpp"

namespace std {

void __throw_out_of_range_fmt(const char* format, ...) { panic("out of range: {}", format); }

}  // namespace std
