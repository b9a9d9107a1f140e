// VaSpace against a byte for each page: four ranges, two of which touch.
#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <vector>

#include "entry.hpp"
#include "mm/va_space.hpp"

namespace paean::fuzz {

namespace {

constexpr u32 kPages = 300;
constexpr VirtAddr kBase{0xf0000000 + 5 * kPageSize};
constexpr VirtAddr address(u32 page) { return kBase + page * kPageSize; }

struct Range {
  u32 first, pages;
};
constexpr Range kRanges[] = {{0, 64}, {64, 100}, {170, 1}, {180, 120}};

struct Model {
  std::array<bool, kPages> taken{};

  struct Run {
    u32 pages, first;
    bool operator<(const Run& other) const { return pages != other.pages ? pages < other.pages : first < other.first; }
  };
  /// Free runs by size.
  std::vector<Run> runs() const {
    std::vector<Run> all;
    for (const Range& range : kRanges) {
      for (u32 at = range.first; at < range.first + range.pages;) {
        u32 end = at;
        while (end < range.first + range.pages && !taken[end]) ++end;
        if (end != at) all.push_back({end - at, at});
        at = end == at ? at + 1 : end;
      }
    }
    std::sort(all.begin(), all.end());
    return all;
  }
  /// kPages if there is no place.
  u32 place(u32 pages, u32 align) const {
    std::vector<Run> all = runs();
    std::erase_if(all, [&](const Run& run) { return run.pages < pages; });
    const auto aligned = [&](const Run& run) { return (address(run.first).align_up(align) - kBase) / kPageSize; };
    const auto fits = [&](const Run& run) { return aligned(run) + pages <= run.first + run.pages; };
    const auto looks = all.begin() + std::min<std::ptrdiff_t>(std::ssize(all), VaSpace::kLooks);
    auto found = std::find_if(all.begin(), looks, fits);
    if (found == looks) {
      found =
          std::find_if(looks, all.end(), [&](const Run& run) { return run.pages >= pages + align / kPageSize - 1; });
    }
    if (found == all.end()) found = std::find_if(looks, all.end(), fits);
    return found == all.end() ? kPages : aligned(*found);
  }
  void set(u32 first, u32 pages, bool value) { std::fill_n(taken.begin() + first, pages, value); }
};

class Pair {
 public:
  Pair() {
    space.init();
    for (const u32 i : {2u, 0u, 3u, 1u}) space.add_range(address(kRanges[i].first), kRanges[i].pages, fresh());
  }

  void allocate(u32 pages, u32 align) {
    supply();
    const u32 expected = model.place(pages, align);
    VaBlock* got = space.allocate(pages, align, spares);
    CHECK((got != nullptr) == (expected != kPages));
    if (got != nullptr) note(got, expected, pages);
  }
  void allocate_at(u32 first, u32 pages) {
    supply();
    bool possible = false;
    for (const Model::Run& run : model.runs()) {
      possible = possible || (first >= run.first && first + pages <= run.first + run.pages);
    }
    VaBlock* got = space.allocate_at(address(first), pages, spares);
    CHECK((got != nullptr) == possible);
    if (got != nullptr) note(got, first, pages);
  }
  void free(u32 which) {
    if (live.empty()) return;
    VaBlock* block = live[which % live.size()];
    std::erase(live, block);
    model.set((block->start() - kBase) / kPageSize, block->pages(), false);
    space.free(*block, spares);
  }
  void replace(u32 which) {
    if (live.empty()) return;
    VaBlock*& block = live[which % live.size()];
    VaBlock& other = fresh();
    space.replace(*block, other);
    spares.push(*block);
    block = &other;
  }
  void compare() {
    u32 free_pages = 0, largest = 0;
    std::map<u32, u32> runs;
    for (const Model::Run& run : model.runs()) {
      free_pages += run.pages;
      largest = std::max(largest, run.pages);
      runs[run.first] = run.pages;
    }
    CHECK(space.free_pages() == free_pages);
    CHECK(space.largest_free() == largest);
    u32 blocks = 0, pages = 0;
    for (VaBlock* block = space.first(); block != nullptr; block = space.next(*block)) {
      const u32 first = (block->start() - kBase) / kPageSize;
      ++blocks;
      pages += block->pages();
      CHECK(block->is_free() == runs.contains(first));
      if (block->is_free()) CHECK(runs[first] == block->pages());
      CHECK(space.find(block->start()) == block && space.find(block->end() - 1) == block);
    }
    CHECK(blocks == runs.size() + live.size());
    CHECK(pages == space.total_pages() && pages == 64 + 100 + 1 + 120);
    CHECK(blocks + spares.count() == blocks_.size());
  }

 private:
  VaBlock& fresh() {
    blocks_.push_back(std::make_unique<VaBlock>());
    return *blocks_.back();
  }
  void supply() {
    while (spares.count() < VaSpace::kSparesNeeded) spares.push(fresh());
  }
  void note(VaBlock* got, u32 first, u32 pages) {
    CHECK(got->start() == address(first) && got->pages() == pages && !got->is_free());
    model.set(first, pages, true);
    live.push_back(got);
  }

  VaSpace space;
  VaSpares spares;
  Model model;
  std::vector<VaBlock*> live;
  std::vector<std::unique_ptr<VaBlock>> blocks_;
};

}  // namespace

void fuzz_one(Input& input) {
  const auto pair = std::make_unique<Pair>();
  for (u32 i = 0; i < 300 && !input.empty(); ++i) {
    switch (input.below(8)) {
      case 0:
      case 1:
      case 2: pair->allocate(1 + input.below(6), kPageSize); break;
      case 3: pair->allocate(1 + input.below(130), kPageSize << input.below(7)); break;
      case 4: pair->allocate_at(input.below(kPages), 1 + input.below(10)); break;
      case 5: pair->replace(input.below(256)); break;
      default: pair->free(input.below(256)); break;
    }
    pair->compare();
  }
}

}  // namespace paean::fuzz
