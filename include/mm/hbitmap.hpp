// A bitmap that finds its first set bit in constant time.
//
//   level 2   1                                a bit says: some word of 32 below is not zero
//   level 1   1000...            0100...
//   level 0   0001... 0000...    0000... 1010...        one bit for each index
//
// Setting and clearing touch level 0 only, unless a word changes between zero and not zero. With 2^26 bits (256 GB of
// frames) there are six levels, so find_first() is at most six find-first-set instructions.
//
// Pure: works in memory that the caller gives and keeps. Not locked. Not copyable, because levels point into that
// memory.
#pragma once

#include <bit>
#include <span>

#include "lib/assert.hpp"
#include "lib/types.hpp"

namespace paean {

class HBitmap {
 public:
  static constexpr u32 kNone = 0xffffffff;
  static constexpr u32 kMaxLevels = 6;
  static constexpr u32 kMaxBits = 1u << 30;

  /// 32-bit words that a map of so many bits needs, all levels together.
  static constexpr usize words_needed(u32 bits) {
    usize total = 0;
    for (u32 n = words_for(bits);; n = words_for(n)) {
      total += n;
      if (n <= 1) return total;
    }
  }

  constexpr HBitmap() = default;
  HBitmap(const HBitmap&) = delete;
  HBitmap& operator=(const HBitmap&) = delete;

  /// Starts with all bits clear in `memory`, which must be zero already and hold words_needed(bits) words.
  void init(std::span<u32> memory, u32 bits) {
    ASSERT(bits != 0 && bits <= kMaxBits && memory.size() >= words_needed(bits));
    bits_ = bits;
    u32* at = memory.data();
    for (u32 n = words_for(bits);; n = words_for(n)) {
      levels_[depth_++] = at;
      at += n;
      if (n <= 1) return;
    }
  }

  u32 size() const { return bits_; }
  bool empty() const { return *levels_[depth_ - 1] == 0; }

  bool test(u32 index) const {
    DASSERT(index < bits_);
    return ((levels_[0][index >> 5] >> (index & 31)) & 1) != 0;
  }

  /// Precondition: the bit is clear.
  void set(u32 index) {
    DASSERT(index < bits_ && !test(index));
    u32& word = levels_[0][index >> 5];
    const u32 old = word;
    word = old | (1u << (index & 31));
    if (old == 0) raise(index >> 5);
  }

  /// Precondition: the bit is set.
  void clear(u32 index) {
    DASSERT(index < bits_ && test(index));
    u32& word = levels_[0][index >> 5];
    word &= ~(1u << (index & 31));
    if (word == 0) lower(index >> 5);
  }

  /// The lowest set bit, kNone if there is none.
  u32 find_first() const {
    if (empty()) return kNone;
    u32 index = 0;
    for (u32 level = depth_; level-- != 0;)
      index = index * 32 + static_cast<u32>(std::countr_zero(levels_[level][index]));
    return index;
  }

  /// Set bits in [0, size), by counting; for checks, not for hot paths.
  u32 count() const {
    u32 total = 0;
    for (u32 i = 0; i < words_for(bits_); ++i) total += static_cast<u32>(std::popcount(levels_[0][i]));
    return total;
  }

 private:
  static constexpr u32 words_for(u32 bits) { return (bits + 31) / 32; }

  void raise(u32 index) {
    for (u32 level = 1; level < depth_; ++level, index >>= 5) {
      u32& word = levels_[level][index >> 5];
      const u32 old = word;
      word = old | (1u << (index & 31));
      if (old != 0) return;
    }
  }
  void lower(u32 index) {
    for (u32 level = 1; level < depth_; ++level, index >>= 5) {
      u32& word = levels_[level][index >> 5];
      word &= ~(1u << (index & 31));
      if (word != 0) return;
    }
  }

  u32* levels_[kMaxLevels]{};
  u32 bits_ = 0;
  u32 depth_ = 0;
};

}  // namespace paean
