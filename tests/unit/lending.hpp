// What the tests of lent lowmem share: highmem that is taken away for a while, so that programs must borrow.
#pragma once

#include <algorithm>

#include "access.hpp"
#include "mm/lending.hpp"
#include "user_space.hpp"

namespace paean {

/// Memory that a test holds. What is asked for it is not asked of others.
class TakenMemory {
 public:
  bool valid() const { return held_.valid(); }
  /// All of highmem, but for what the zones keep.
  void take_highmem() {
    for (u32 order = kOrderCount; order-- != 0;) {
      while (Page* page = take(AllocFlags::HighUser, Order{order})) {
        const bool low = is_lent(page);
        if (low) {
          free_pages(page, Order{order});
          break;
        }
        held_.add(page, Order{order});
      }
    }
  }
  /// Lowmem until about so many pages are left above what Movable requests must leave alone.
  void take_lowmem_but(u32 pages) {
    const Zone& normal = zone(ZoneId::Normal);
    const u32 keep = normal.lend_reserve.count() + normal.low.count() + pages;
    for (u32 order = kOrderCount; order-- != 0;) {
      while (free_pages_in(ZoneId::Normal).count() > keep + (1u << order)) {
        Page* page = take(AllocFlags::Kernel, Order{order});
        if (page == nullptr) break;
        held_.add(page, Order{order});
      }
    }
  }
  /// Every block of lowmem of this order or a larger one.
  void take_blocks_of_lowmem(Order smallest) {
    for (u32 order = kOrderCount; order-- != smallest.value();) {
      while (Page* page = take(AllocFlags::Kernel, Order{order})) held_.add(page, Order{order});
    }
  }
  void hold(Page* page, Order order) { held_.add(page, order); }
  /// The newest blocks, until so many pages are free again.
  void give_pages(u32 pages) {
    for (u32 given = 0; given < pages && held_.count() != 0;) {
      given += held_[held_.count() - 1].order.pages();
      held_.free_at(held_.count() - 1);
    }
  }
  void give_all() { held_.free_all(); }

 private:
  Page* take(AllocFlags flags, Order order) {
    return held_.full() ? nullptr
                        : take_block_quietly(flags | AllocFlags::NoIo | AllocFlags::NoWarn, order, Owner::Test);
  }
  HeldBlocks held_;
};

/// Another rule for a scope.
class UnderRule {
 public:
  explicit UnderRule(LendingRule rule) : before_(lending_rule) { lending_rule = rule; }
  ~UnderRule() { lending_rule = before_; }
  UnderRule(const UnderRule&) = delete;
  UnderRule& operator=(const UnderRule&) = delete;

 private:
  LendingRule before_;
};

inline constexpr VirtAddr kLentHere{0x10000000};
constexpr VirtAddr lent_at(u32 n) { return kLentHere + n * kPageSize; }
/// What word `n` of the tests' pages holds.
constexpr u32 lent_word(u32 n) { return 0x5eed0000 ^ (n * 2654435761u); }

/// Anonymous pages, each with a word of its own at its beginning and at its end.
inline bool write_lent(u32 first, u32 end) {
  for (u32 i = first; i < end; ++i) {
    if (!set_user_word(lent_at(i), lent_word(i)) || !set_user_word(lent_at(i) + 4092, ~lent_word(i))) return false;
  }
  return true;
}
inline bool fill_lent(UserSpace& space, u32 pages) {
  return map_anonymous(space, pages, kLentHere).has_value() && write_lent(0, pages);
}
/// Lends so many pages to the space, in every second frame of lowmem; those between them are free. Nothing else of what
/// a program needs lies among them: page tables come into being before highmem is taken away.
inline bool lend_every_second(UserSpace& space, TakenMemory& high, TakenMemory& low, u32 pages) {
  const Result<UserSpace*> other = UserSpace::create();
  if (!other) return false;
  constexpr u8 kByte[]{1};
  bool good = map_anonymous(space, pages, kLentHere) && map_anonymous(**other, pages, kLentHere);
  for (u32 i = 0; i < pages; i += kPagesPerLargePage)
    good = good && set_user_word(lent_at(i), 0) && (*other)->write(lent_at(i), kByte);
  high.take_highmem();
  low.take_lowmem_but(2 * pages);
  for (u32 i = 0; i < pages; ++i) good = good && write_lent(i, i + 1) && (*other)->write(lent_at(i), kByte);
  (*other)->put();
  drain_local_pages();
  return good;
}
/// Pages whose words are not those.
inline u32 damaged_pages(u32 pages) {
  u32 damaged = 0;
  for (u32 i = 0; i < pages; ++i)
    damaged += user_word(lent_at(i)) != lent_word(i) || user_word(lent_at(i) + 4092) != ~lent_word(i) ? 1 : 0;
  return damaged;
}

/// Has the machine enough of both for a test that lends so many pages?
inline bool can_lend(u32 pages) {
  const Zone& normal = zone(ZoneId::Normal);
  return lent_words != 0 && high_totals().free.count() > 2 * pages &&
         free_pages_in(ZoneId::Normal).count() > normal.lend_reserve.count() + normal.high.count() + 2 * pages;
}

}  // namespace paean
