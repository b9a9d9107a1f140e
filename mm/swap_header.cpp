#include "mm/swap_header.hpp"

#include <algorithm>
#include <string_view>

#include "mm/swap_entry.hpp"

namespace paean {

namespace {

constexpr std::string_view kMagic = "SWAPSPACE2";
constexpr u32 kVersionAt = 1024, kLastPageAt = 1028, kBadAt = 1032, kBadListAt = 1536;
constexpr u32 kMagicAt = kPageSize - kMagic.size();
static_assert(kBadListAt + SwapHeader::kMostBad * sizeof(u32) <= kMagicAt);

u32 word_at(std::span<const u8, kPageSize> page, u32 at) {
  u32 word;
  __builtin_memcpy(&word, page.data() + at, sizeof word);
  return word;
}

}  // namespace

Result<> read_swap_header(std::span<const u8, kPageSize> page, u64 bytes, SwapHeader& header) {
  const auto wrong = [] { return std::unexpected(Error::InvalidArgument); };
  if (!std::equal(kMagic.begin(), kMagic.end(), page.begin() + kMagicAt)) return wrong();
  const u32 last = word_at(page, kLastPageAt);
  if (word_at(page, kVersionAt) != 1 || last == 0 || last >= bytes >> kPageShift) return wrong();
  header.slots = std::min(last, SwapEntry::kMostSlots - 1) + 1;
  header.bad = word_at(page, kBadAt);
  if (header.bad > SwapHeader::kMostBad) return wrong();
  for (u32 i = 0; i < header.bad; ++i) {
    header.bad_slots[i] = word_at(page, kBadListAt + i * u32{sizeof(u32)});
    if (header.bad_slots[i] == 0 || header.bad_slots[i] > last) return wrong();
  }
  return {};
}

}  // namespace paean
