// Small tools for text that a person typed: what may be shown, and what they may have meant.
// Pure; any context.
#pragma once

#include <string_view>

#include "lib/types.hpp"

namespace paean {

/// ASCII that a terminal shows as it is.
constexpr bool is_printable(u8 byte) { return byte >= 0x20 && byte < 0x7f; }

/// The first `count` bytes, and what is behind them. Precondition: count <= text.size(). substr() would do, were it not
/// for the exception that it links in.
constexpr std::string_view head(std::string_view text, usize count) { return {text.data(), count}; }
constexpr std::string_view tail(std::string_view text, usize count) {
  return {text.data() + count, text.size() - count};
}

/// Where the first such byte is; the size of the text if there is none.
constexpr usize find_byte(std::string_view text, char byte) {
  usize at = 0;
  while (at < text.size() && text[at] != byte) ++at;
  return at;
}

/// How many insertions, deletions, replacements and swaps of neighbours turn one word into the other.
/// Words longer than 32 characters count as far away: the answer is then 32.
u32 edit_distance(std::string_view a, std::string_view b);

}  // namespace paean
