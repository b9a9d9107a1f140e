// Buddy against one bit a page.
//
// Merging is complete at every moment, so the set of free pages determines which blocks are free: at each order the
// aligned blocks that are all free and whose parent is not. The model derives them anew for every comparison.
#include <array>
#include <memory>
#include <vector>

#include "../unit/take_pages.hpp"
#include "entry.hpp"
#include "mm/buddy.hpp"

namespace paean::fuzz {

namespace {

constexpr u32 kMaxPages = 2600;
constexpr u32 kWorld = 3072;  // whole largest blocks

class Model {
 public:
  explicit Model(u32 pages) : pages_(pages) {
    for (u32 order = 0; order < kOrderCount; ++order) full_[order].resize(kWorld >> order);
  }

  u32 pages() const { return pages_; }
  bool page_free(u32 page) const { return full_[0][page]; }
  void set(u32 index, u32 count, bool free) {
    for (u32 i = index; i < index + count; ++i) {
      CHECK(i < pages_);
      CHECK(page_free(i) != free);
      full_[0][i] = free;
    }
    for (u32 order = 1; order < kOrderCount; ++order) {
      for (u32 block = index >> order; block <= (index + count - 1) >> order; ++block) {
        full_[order][block] = full_[order - 1][2 * block] && full_[order - 1][2 * block + 1];
      }
    }
  }
  bool all_free(u32 index, u32 order) const { return full_[order][index >> order]; }
  /// Is this a free block of exactly this order?
  bool is_block(u32 index, u32 order) const {
    return all_free(index, order) && (order == kMaxOrder || !all_free(index, order + 1));
  }
  /// Where an allocation must come from: the smallest order that has a block, its lowest block.
  u32 pick(u32 order) const {
    for (u32 at = order; at <= kMaxOrder; ++at) {
      for (u32 index = 0; index < pages_; index += 1u << at) {
        if (is_block(index, at)) return index;
      }
    }
    return Buddy::kNone;
  }

 private:
  u32 pages_;
  std::array<std::vector<char>, kOrderCount> full_;  // a byte for each aligned block: all its pages are free
};

struct Block {
  u32 index;
  u32 order;
};

void compare(const Buddy& buddy, const Model& model) {
  u32 total = 0;
  std::array<u32, kOrderCount> blocks{};
  std::vector<u32> covering(model.pages(), Buddy::kNone);
  for (u32 order = 0; order < kOrderCount; ++order) {
    for (u32 index = 0; index < model.pages(); index += 1u << order) {
      if (!model.is_block(index, order)) continue;
      ++blocks[order];
      total += 1u << order;
      for (u32 i = 0; i < (1u << order); ++i) covering[index + i] = order;
    }
  }
  CHECK(buddy.free_pages() == total);
  for (u32 order = 0; order < kOrderCount; ++order) {
    CHECK(buddy.free_blocks(Order{order}) == blocks[order]);
    CHECK(((buddy.nonempty_orders() >> order) & 1) == (blocks[order] != 0 ? 1u : 0u));
  }
  for (u32 page = 0; page < model.pages(); ++page) {
    CHECK(buddy.covering_order(page) == covering[page]);
    CHECK(buddy.is_free(page) == model.page_free(page));
  }
}

class Run {
 public:
  Run(u32 pages) : memory_(Buddy::words_needed(pages)), model_(pages) { buddy_.init(memory_, pages); }

  void give(u32 index, u32 count) {
    buddy_.free_range(index, count);
    model_.set(index, count, true);
  }

  void allocate(u32 order) {
    const u32 expected = model_.pick(order);
    CHECK(buddy_.allocate(Order{order}) == expected);
    if (expected == Buddy::kNone) return;
    model_.set(expected, 1u << order, false);
    held_.push_back({expected, order});
  }

  void allocate_pages(u32 want) {
    std::vector<u32> out(want + 1, 0xa5a5a5a5);
    const u32 before = buddy_.free_pages();
    const u32 got = take_pages(buddy_, want, out.data());
    CHECK(got == (want < before ? want : before));
    CHECK(out[got] == 0xa5a5a5a5);
    for (u32 i = 0; i < got; ++i) {
      model_.set(out[i], 1, false);
      held_.push_back({out[i], 0});
    }
  }

  void allocate_at(u32 page, u32 order) {
    const u32 index = page & ~((1u << order) - 1);
    const bool possible = model_.all_free(index, order);
    CHECK(buddy_.allocate_at(index, Order{order}) == possible);
    if (!possible) return;
    model_.set(index, 1u << order, false);
    held_.push_back({index, order});
  }

  void free(u32 which) {
    if (held_.empty()) return;
    const Block block = held_[which % held_.size()];
    held_[which % held_.size()] = held_.back();
    held_.pop_back();
    buddy_.free(block.index, Order{block.order});
    model_.set(block.index, 1u << block.order, true);
  }

  void check() const { compare(buddy_, model_); }
  void check_inside() const { CHECK(buddy_.check()); }
  bool holds_any() const { return !held_.empty(); }
  const Model& model() const { return model_; }

 private:
  std::vector<u32> memory_;
  Buddy buddy_;
  Model model_;
  std::vector<Block> held_;
};

}  // namespace

void fuzz_one(Input& input) {
  const u32 pages = 1 + input.below(input.below(4) == 0 ? kMaxPages : 250);
  const auto run = std::make_unique<Run>(pages);
  // Usable ranges with holes between them, as a memory map gives.
  for (u32 at = 0; at < pages;) {
    const u32 count = 1 + input.below(pages - at);
    run->give(at, count);
    at += count + input.below(20);
  }
  run->check();
  for (u32 i = 0; i < 120 && !input.empty(); ++i) {
    switch (input.below(6)) {
      case 0:
      case 1: run->allocate(input.below(kOrderCount)); break;
      case 2: run->allocate_pages(input.below(70)); break;
      case 3: run->allocate_at(input.below(pages), input.below(kOrderCount)); break;
      default: run->free(input.word()); break;
    }
    run->check();
  }
  while (run->holds_any()) run->free(0);
  run->check();
  run->check_inside();
}

}  // namespace paean::fuzz
