#include "mm/swap_map.hpp"

#include <new>

namespace paean {

void SwapMap::init(std::span<u32> memory, u32 slots) {
  ASSERT(slots >= 2 && memory.size() >= words_needed(slots));
  const usize bitmap_words = HBitmap::words_needed(slots);
  free_.init(memory.first(bitmap_words), slots);
  counts_ = new (memory.data() + bitmap_words) u16{};
  slots_ = slots;
  for (u32 slot = 1; slot < slots; ++slot) {
    free_.set(slot);
    counts_[slot] = 0;
  }
  counts_[0] = kBad;
  usable_ = slots - 1;
}

u16& SwapMap::count(u32 slot) {
  ASSERT(slot < slots_ && counts_[slot] != 0 && counts_[slot] != kBad);
  return counts_[slot];
}

void SwapMap::mark_bad(u32 slot) {
  ASSERT(slot < slots_);
  if (counts_[slot] == kBad) return;
  ASSERT(counts_[slot] == 0);
  counts_[slot] = kBad;
  free_.clear(slot);
  --usable_;
}

SwapMap::Run SwapMap::allocate(u32 most) {
  Run run;
  if (most == 0 || free_.empty()) return run;
  run.first = free_.find_first();
  for (u32 slot = run.first; slot < slots_ && run.slots < most && free_.test(slot); ++slot, ++run.slots) {
    free_.clear(slot);
    counts_[slot] = 1;
  }
  used_ += run.slots;
  return run;
}

bool SwapMap::share(u32 slot) {
  if (count(slot) >= kMostSharers) return false;
  ++counts_[slot];
  return true;
}

void SwapMap::hold(u32 slot) {
  ++count(slot);
  ASSERT(counts_[slot] != kBad);
}

bool SwapMap::release(u32 slot) {
  if (--count(slot) != 0) return false;
  free_.set(slot);
  --used_;
  return true;
}

u32 SwapMap::users(u32 slot) const {
  ASSERT(slot < slots_);
  return counts_[slot] == kBad ? 0 : counts_[slot];
}

}  // namespace paean
