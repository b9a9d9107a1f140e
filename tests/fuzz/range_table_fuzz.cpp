// RangeTable with room for 12 entries against an array of 64 tags: all three ways to paint, erasing, rewriting, and
// above all that a change that is refused changes nothing.
#include <array>
#include <optional>

#include "entry.hpp"
#include "mm/range_table.hpp"

namespace paean::fuzz {

namespace {

constexpr u32 kCells = 64;
constexpr u32 kRoom = 12;
using Table = RangeTable<u32, kRoom>;
using Model = std::array<std::optional<u32>, kCells>;

/// How many entries the model needs.
usize runs(const Model& model) {
  usize count = 0;
  for (u32 i = 0; i < kCells; ++i) {
    if (model[i] && (i == 0 || model[i] != model[i - 1])) ++count;
  }
  return count;
}

void compare(const Table& table, const Model& model) {
  CHECK(table.entries().size() == runs(model));
  PhysAddr last{0};
  for (const Table::Entry& entry : table.entries()) {
    CHECK(entry.begin < entry.end);
    CHECK(entry.begin >= last);
    last = entry.end;
  }
  for (u32 i = 0; i < kCells; ++i) {
    CHECK(table.at(PhysAddr{i}) == model[i]);
    const usize index = table.index_at(PhysAddr{i});
    CHECK(index == table.entries().size() || table.entries()[index].end > PhysAddr{i});
    CHECK(index == 0 || table.entries()[index - 1].end <= PhysAddr{i});
  }
}

}  // namespace

void fuzz_one(Input& input) {
  Table table;
  Model model{};
  while (!input.empty()) {
    const u32 begin = input.below(kCells);
    const u32 end = begin + input.below(kCells - begin + 1);
    const u32 tag = input.below(4);
    const u32 way = input.below(5);
    const PhysRange range{PhysAddr{begin}, PhysAddr{end}};
    Model wanted = model;
    for (u32 i = begin; i < end; ++i) {
      if (way == 3)
        wanted[i].reset();
      else if (!wanted[i] || way == 0 || (way == 1 && *wanted[i] < tag))
        wanted[i] = tag;
    }
    if (way == 4) {
      // Drops every entry of one tag; what is left must not merge wrongly.
      table.rewrite([tag](Table::Entry& entry, Table::Entry*) {
        if (entry.tag == tag) entry.end = entry.begin;
      });
      for (std::optional<u32>& cell : model) {
        if (cell == tag) cell.reset();
      }
    } else {
      const auto replaces = [way, tag](u32 old) { return way == 0 || (way == 1 && old < tag); };
      const Result<> done = way == 3 ? table.erase(range) : table.paint(range, tag, replaces);
      if (done) {
        model = wanted;
      } else {
        CHECK(done.error() == Error::TooLarge);
        // Refusing is allowed only near the limit: a range over k entries adds at most k + 1.
        CHECK(2 * table.entries().size() + 1 > kRoom);
      }
    }
    compare(table, model);
  }
}

}  // namespace paean::fuzz
