// Slots of the swap under any sequence of calls, beside a model that is a plain array; and headers out of any bytes.
#include <array>
#include <vector>

#include "entry.hpp"
#include "mm/swap_entry.hpp"
#include "mm/swap_header.hpp"
#include "mm/swap_map.hpp"

namespace paean::fuzz {

namespace {

void fuzz_header(Input& input) {
  std::array<u8, kPageSize> page{};
  __builtin_memcpy(page.data() + kPageSize - 10, "SWAPSPACE2", 10);
  const auto put = [&](u32 at, u32 value) { __builtin_memcpy(page.data() + at, &value, sizeof value); };
  put(1024, input.below(10) == 0 ? input.word() : 1);
  const u64 bytes = input.wide() % (1ull << 41);
  put(1028, input.below(4) == 0 ? input.word() : static_cast<u32>(bytes >> kPageShift) - input.below(3));
  put(1032, input.below(8) == 0 ? input.word() : input.below(SwapHeader::kMostBad + 2));
  for (u32 i = 0; i < 8; ++i) put(1536 + 4 * i, input.word() % 4096);
  SwapHeader header;
  if (!read_swap_header(page, bytes, header)) return;
  CHECK(header.slots >= 2 && header.slots <= SwapEntry::kMostSlots && u64{header.slots} << kPageShift <= bytes);
  CHECK(header.bad <= SwapHeader::kMostBad);
  for (u32 i = 0; i < header.bad; ++i) CHECK(header.bad_slots[i] != 0);
}

}  // namespace

void fuzz_one(Input& input) {
  fuzz_header(input);
  const u32 slots = 2 + input.below(300);
  std::vector<u32> memory(SwapMap::words_needed(slots));
  SwapMap map;
  map.init(memory, slots);
  std::vector<u32> model(slots, 0);  // users
  constexpr u32 kBad = ~0u;
  model[0] = kBad;
  for (u32 i = input.below(5); i != 0; --i) {
    const u32 slot = input.below(slots);
    map.mark_bad(slot);
    model[slot] = kBad;
  }
  for (u32 step = 0; step < 400 && !input.empty(); ++step) {
    const u32 slot = input.below(slots);
    const bool in_use = model[slot] != 0 && model[slot] != kBad;
    switch (input.below(4)) {
      case 0: {
        const SwapMap::Run run = map.allocate(input.below(40));
        CHECK(run.slots <= 40 && run.first + run.slots <= slots);
        for (u32 i = 0; i < run.slots; ++i) {
          CHECK(model[run.first + i] == 0);
          model[run.first + i] = 1;
          CHECK((SwapEntry{SwapEntry{5, run.first + i}.value()}.slot() == run.first + i));
        }
        break;
      }
      case 1:
        if (in_use && map.share(slot)) ++model[slot];
        break;
      default:
        if (in_use) CHECK(map.release(slot) == (--model[slot] == 0));
        break;
    }
  }
  u32 used = 0, usable = 0;
  for (u32 slot = 0; slot < slots; ++slot) {
    if (model[slot] == kBad) continue;
    ++usable;
    used += model[slot] != 0;
    CHECK(map.users(slot) == model[slot]);
  }
  CHECK(map.used() == used && map.usable() == usable);
}

}  // namespace paean::fuzz
