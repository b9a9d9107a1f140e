// What libstdc++'s headers call when a precondition of theirs is broken. There are no exceptions here: such a call is a
// bug of ours, and ends like one.
//
// The same for assert(), which is what Boost.Intrusive checks its own preconditions with.
#include <bits/functexcept.h>  // declares them, as the headers see them
#include <cassert>

#include "lib/assert.hpp"

namespace std {

void __throw_out_of_range_fmt(const char* format, ...) { panic("out of range: {}", format); }

}  // namespace std

extern "C" void __assert_fail(const char* condition, const char* file, unsigned line, const char*) noexcept {
  paean::assert_failed({file, line}, condition);
}
