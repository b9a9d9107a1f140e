// A table of tagged physical ranges: sorted, never overlapping, neighbours of one tag merged, fixed capacity.
//
// Two owners share it, so that it is proved once: MemoryMap tags ranges with what memory is, RegionAllocator with why
// it was reserved.
//
//   [ Usable      )[ AcpiNvs )      [ Reserved )
//   0              |         |      |          |          begin <= addr < end
//
// Everything is a linear pass over at most kCapacity entries: boot maps have tens of them, and a plain loop can be
// checked by eye. A change that does not fit is refused before anything is touched.
//
// Context: any, no locks; the owner serialises. Memory: the table itself, no allocation.
#pragma once

#include <array>
#include <optional>
#include <span>

#include "lib/addr.hpp"
#include "lib/assert.hpp"
#include "lib/result.hpp"

namespace paean {

/// Bytes begin <= addr < end.
struct PhysRange {
  PhysAddr begin;
  PhysAddr end;

  constexpr bool empty() const { return begin >= end; }
  constexpr u64 bytes() const { return empty() ? 0 : end - begin; }
  constexpr bool contains(PhysAddr addr) const { return begin <= addr && addr < end; }
  constexpr PhysRange intersect(PhysRange other) const {
    return {begin > other.begin ? begin : other.begin, end < other.end ? end : other.end};
  }
  constexpr bool operator==(const PhysRange&) const = default;
};

/// The end of the world: its last page is given up so that every end is a number.
inline constexpr PhysAddr kPhysTop{~u64{kPageSize - 1}};

/// [base, base + length), cut off at kPhysTop if it passes that or wraps.
constexpr PhysRange phys_range(u64 base, u64 length) {
  const PhysAddr begin = PhysAddr{base} < kPhysTop ? PhysAddr{base} : kPhysTop;
  return {begin, length < kPhysTop - begin ? begin + length : kPhysTop};
}

template <typename Tag, usize kCapacity>
class RangeTable {
 public:
  struct Entry {
    PhysAddr begin;
    PhysAddr end;
    Tag tag{};

    constexpr PhysRange range() const { return {begin, end}; }
    constexpr bool operator==(const Entry&) const = default;
  };

  constexpr std::span<const Entry> entries() const { return {entries_.data(), count_}; }
  constexpr void clear() { count_ = 0; }

  /// The first entry that ends above addr: it holds addr, or is the next one. entries().size() if there is none.
  constexpr usize index_at(PhysAddr addr) const {
    usize low = 0;
    usize high = count_;
    while (low < high) {
      const usize middle = low + (high - low) / 2;
      if (entries_[middle].end > addr)
        high = middle;
      else
        low = middle + 1;
    }
    return low;
  }

  constexpr std::optional<Tag> at(PhysAddr addr) const {
    const usize index = index_at(addr);
    if (index == count_ || entries_[index].begin > addr) return std::nullopt;
    return entries_[index].tag;
  }

  /// Gives `tag` to every byte of the range that has none, and to those with an old tag that replaces(old) gives up.
  /// Error::TooLarge, with nothing changed, if the result might not fit: a range over k entries adds at most k + 1.
  template <typename Replaces>
  [[nodiscard]] constexpr Result<> paint(PhysRange range, Tag tag, Replaces replaces) {
    if (range.empty()) return {};
    if (!has_room(range)) return std::unexpected(Error::TooLarge);
    PhysAddr pos = range.begin;
    while (pos < range.end) {
      const usize index = index_at(pos);
      const bool gap = index == count_ || entries_[index].begin > pos;
      PhysAddr stop = range.end;
      if (index < count_) {
        const PhysAddr change = gap ? entries_[index].begin : entries_[index].end;
        if (change < stop) stop = change;
      }
      if (gap || replaces(entries_[index].tag)) overwrite({pos, stop}, tag);
      pos = stop;
    }
    return {};
  }

  /// Takes the tag away from every byte of the range. Error::TooLarge if a split would not fit; nothing changed then.
  [[nodiscard]] constexpr Result<> erase(PhysRange range) {
    if (range.empty()) return {};
    if (!has_room(range)) return std::unexpected(Error::TooLarge);
    overwrite(range, std::nullopt);
    return {};
  }

  /// Calls edit(entry, previous) on each entry in order; previous is nullptr for the first. Both may be changed. What
  /// is empty afterwards is dropped and neighbours are merged again. The edit must keep the order.
  template <typename Edit>
  constexpr void rewrite(Edit edit) {
    const usize old_count = count_;
    count_ = 0;
    for (usize i = 0; i < old_count; ++i) {
      Entry entry = entries_[i];
      edit(entry, count_ > 0 ? &entries_[count_ - 1] : nullptr);
      if (count_ > 0 && entries_[count_ - 1].range().empty()) --count_;
      if (entry.range().empty()) continue;
      if (count_ > 0 && joins(entries_[count_ - 1], entry))
        entries_[count_ - 1].end = entry.end;
      else
        entries_[count_++] = entry;
    }
  }

 private:
  static constexpr bool joins(const Entry& left, const Entry& right) {
    return left.end == right.begin && left.tag == right.tag;
  }

  constexpr bool has_room(PhysRange range) const {
    usize overlapped = 0;
    for (usize i = index_at(range.begin); i < count_ && entries_[i].begin < range.end; ++i) ++overlapped;
    return count_ + overlapped + 1 <= kCapacity;
  }

  /// Makes [range) one entry with this tag, or a hole. The entries that it touches or cuts become up to three new ones.
  constexpr void overwrite(PhysRange range, std::optional<Tag> tag) {
    usize first = index_at(range.begin);
    usize last = first;
    while (last < count_ && entries_[last].begin < range.end) ++last;
    if (first > 0 && entries_[first - 1].end == range.begin) --first;
    if (last < count_ && entries_[last].begin == range.end) ++last;

    std::array<Entry, 3> pieces{};
    usize piece_count = 0;
    const auto add = [&](Entry piece) {
      if (piece.range().empty()) return;
      if (piece_count > 0 && joins(pieces[piece_count - 1], piece))
        pieces[piece_count - 1].end = piece.end;
      else
        pieces[piece_count++] = piece;
    };
    if (first < last) add({entries_[first].begin, range.begin, entries_[first].tag});
    if (tag) add({range.begin, range.end, *tag});
    if (first < last) add({range.end, entries_[last - 1].end, entries_[last - 1].tag});
    splice(first, last, {pieces.data(), piece_count});
  }

  /// Replaces the entries first..last-1 by others.
  constexpr void splice(usize first, usize last, std::span<const Entry> pieces) {
    const usize new_count = count_ - (last - first) + pieces.size();
    ASSERT(new_count <= kCapacity);
    const usize new_last = first + pieces.size();
    if (new_last > last) {
      for (usize i = count_; i > last; --i) entries_[i - 1 + (new_last - last)] = entries_[i - 1];
    } else {
      for (usize i = last; i < count_; ++i) entries_[i - (last - new_last)] = entries_[i];
    }
    for (usize i = 0; i < pieces.size(); ++i) entries_[first + i] = pieces[i];
    count_ = new_count;
  }

  std::array<Entry, kCapacity> entries_{};
  usize count_ = 0;
};

}  // namespace paean
