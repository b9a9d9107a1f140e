// Reading numbers and words out of text that a person typed. Pure; never reads past the view, never overflows.
#pragma once

#include <optional>
#include <string_view>

#include "lib/types.hpp"

namespace paean {

/// Takes a number from the front of `text`: decimal, 0x hexadecimal or 0 octal, as C writes them. On success the
/// digits are removed from `text`. nullopt, and `text` unchanged, if there is no digit or the value passes 2^64 - 1.
std::optional<u64> take_number(std::string_view& text);

/// The same, then an optional K, M, G, T (either case; powers of 1024), as Linux's memparse. nullopt on overflow.
std::optional<u64> take_size(std::string_view& text);

/// The whole of `text` must be one number (or size).
std::optional<u64> parse_number(std::string_view text);
std::optional<u64> parse_size(std::string_view text);

/// Takes the next word, up to a blank (space, tab, CR, LF). Double quotes, anywhere in it, hold blanks together and
/// stay in the word, for unquote(); one that is never closed reaches to the end. An empty view means that there was
/// none. Leading blanks are skipped.
std::string_view take_word(std::string_view& text);

/// Without one pair of double quotes around it.
std::string_view unquote(std::string_view text);

/// Without blanks (space, tab, CR, LF) at both ends.
std::string_view trim(std::string_view text);

/// Shell-style match of the whole text: * any run, ? any one character. No recursion; O(pattern x text) at worst.
bool glob_match(std::string_view pattern, std::string_view text);

/// One of the comma-separated globs matches; the word `all` matches everything.
bool glob_list_match(std::string_view globs, std::string_view text);

}  // namespace paean
