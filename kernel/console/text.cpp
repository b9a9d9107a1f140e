#include "kernel/console/text.hpp"

#include <algorithm>
#include <array>

namespace paean {

namespace {

constexpr usize kMaxWord = 32;  // longer than every name that we compare with

using Row = std::array<u8, kMaxWord + 1>;

}  // namespace

// The usual table of distances between all beginnings of the two words, of which three rows are enough: a swap looks
// back two rows.
u32 edit_distance(std::string_view a, std::string_view b) {
  if (a.size() > kMaxWord || b.size() > kMaxWord) return kMaxWord;
  Row before_last{};
  Row last{};
  Row row{};
  for (usize j = 0; j <= b.size(); ++j) last[j] = static_cast<u8>(j);
  for (usize i = 1; i <= a.size(); ++i) {
    row[0] = static_cast<u8>(i);
    for (usize j = 1; j <= b.size(); ++j) {
      const u32 replaced = last[j - 1] + (a[i - 1] == b[j - 1] ? 0u : 1u);
      u32 best = std::min({replaced, last[j] + 1u, row[j - 1] + 1u});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) best = std::min(best, before_last[j - 2] + 1u);
      row[j] = static_cast<u8>(best);
    }
    before_last = last;
    last = row;
  }
  return last[b.size()];
}

}  // namespace paean
