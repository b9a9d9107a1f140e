// Small tools for text that a person typed: what may be shown, and what they may have meant.
// Pure; any context.
#pragma once

#include <string_view>

#include "lib/format.hpp"

namespace paean {

/// ASCII that a terminal shows as it is.
constexpr bool is_printable(u8 byte) { return byte >= 0x20 && byte < 0x7f; }

/// Text from outside, safe to show: other bytes appear as \x1b, and no more than `limit` bytes of input are shown.
void write_escaped(Sink& sink, std::string_view text, usize limit = 64);

/// How many insertions, deletions, replacements and swaps of neighbours turn one word into the other.
/// Words longer than 32 characters count as far away: the answer is then 32.
u32 edit_distance(std::string_view a, std::string_view b);

}  // namespace paean
