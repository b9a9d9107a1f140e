#include "mm/buddy.hpp"

namespace paean {

void Buddy::init(std::span<u32> memory, u32 pages) {
  ASSERT(pages != 0 && memory.size() >= words_needed(pages));
  pages_ = pages;
  for (u32 order = 0; order < kOrderCount; ++order) {
    const u32 bits = bits_at(pages, order);
    const usize words = HBitmap::words_needed(bits);
    maps_[order].init(memory.first(words), bits);
    memory = memory.subspan(words);
  }
}

void Buddy::free(u32 index, Order order) {
  u32 at = order.value();
  u32 block = index >> at;
  DASSERT((block << at) == index && index + order.pages() <= pages_ && !is_free(index));
  free_pages_ += order.pages();
  while (at < kMaxOrder && maps_[at].test(block ^ 1)) {
    take(block ^ 1, at);
    block >>= 1;
    ++at;
  }
  put(block, at);
}

void Buddy::free_range(u32 index, u32 count) {
  while (count != 0) {
    const u32 by_address = index == 0 ? kMaxOrder : static_cast<u32>(std::countr_zero(index));
    const u32 by_size = static_cast<u32>(std::bit_width(count)) - 1;
    u32 order = by_address < by_size ? by_address : by_size;
    if (order > kMaxOrder) order = kMaxOrder;
    free(index, Order{order});
    index += 1u << order;
    count -= 1u << order;
  }
}

u32 Buddy::allocate(Order order) {
  const u32 want = order.value();
  const u32 enough = nonempty_ >> want;
  if (enough == 0) return kNone;
  const u32 from = want + static_cast<u32>(std::countr_zero(enough));
  const u32 block = maps_[from].find_first();
  take(block, from);
  free_pages_ -= order.pages();
  return split(block, from, want) << want;
}

Buddy::Run Buddy::allocate_run(u32 most) {
  if (nonempty_ == 0 || most == 0) return Run{0, 0};
  const u32 largest = static_cast<u32>(std::bit_width(most)) - 1;
  const u32 smallest = static_cast<u32>(std::countr_zero(nonempty_));
  const Order order{smallest < largest ? smallest : largest};
  return Run{allocate(order), order.pages()};
}

bool Buddy::allocate_at(u32 index, Order order) {
  const u32 covering = covering_order(index);
  if (covering == kNone || covering < order.value()) return false;
  u32 block = index >> covering;
  take(block, covering);
  for (u32 at = covering; at > order.value();) {
    --at;
    block = index >> at;
    put(block ^ 1, at);
  }
  free_pages_ -= order.pages();
  return true;
}

u32 Buddy::covering_order(u32 index) const {
  if (index >= pages_) return kNone;
  for (u32 order = 0; order < kOrderCount; ++order) {
    if (maps_[order].test(index >> order)) return order;
  }
  return kNone;
}

bool Buddy::check() const {
  u32 free_total = 0;
  for (u32 order = 0; order < kOrderCount; ++order) {
    const u32 counted = maps_[order].count();
    if (counted != blocks_[order] || (counted != 0) != (((nonempty_ >> order) & 1) != 0)) return false;
    free_total += counted << order;
  }
  if (free_total != free_pages_) return false;
  for (u32 index = 0; index < pages_; ++index) {
    u32 covers = 0;
    for (u32 order = 0; order < kOrderCount; ++order) covers += maps_[order].test(index >> order) ? 1 : 0;
    if (covers > 1) return false;
  }
  return true;
}

}  // namespace paean
