// PageIndex against a std::map: insertions of 1 to 64 pages anywhere in 2^32, removals, marks, and every search; and
// the number of nodes, which must be what was said and must come back.
#include <map>
#include <memory>
#include <vector>

#include "entry.hpp"
#include "mm/page_index.hpp"

namespace paean::fuzz {

namespace {

struct Entry {
  u32 pages;
  bool marked[kIndexMarks];
  std::unique_ptr<int> object;
};
using Model = std::map<u32, Entry>;  // by first page

class Tree {
 public:
  ~Tree() {
    for (auto& [index, entry] : model_) index_.remove(index, entry.pages, spare_);
    CHECK(index_.empty());
    CHECK(spare_.count() == nodes_.size());
  }

  void insert(u32 index, u32 order) {
    const u32 pages = 1u << order;
    index &= ~(pages - 1);
    if (covers(index, pages)) return;
    const u32 needed = index_.nodes_needed(index);
    CHECK(needed <= PageIndex::kMostNodes);
    while (spare_.count() < needed) {
      nodes_.push_back(std::make_unique<PageIndexNode>());
      spare_.push(nodes_.back().get());
    }
    const u32 before = spare_.count();
    Entry& entry = model_[index];
    entry = {pages, {}, std::make_unique<int>()};
    index_.insert(index, pages, entry.object.get(), spare_);
    CHECK(before - spare_.count() == needed);
  }
  void remove(u32 near) {
    const auto at = model_.lower_bound(near);
    if (at == model_.end()) return;
    index_.remove(at->first, at->second.pages, spare_);
    model_.erase(at);
    if (model_.empty()) CHECK(spare_.count() == nodes_.size());
  }
  /// Neighbours, as eviction takes them out.
  void remove_run(u32 near, u32 count) {
    PageIndex::Finger finger;
    for (auto at = model_.lower_bound(near); at != model_.end() && count != 0; --count) {
      index_.remove(at->first, at->second.pages, spare_, finger);
      at = model_.erase(at);
    }
    if (model_.empty()) CHECK(spare_.count() == nodes_.size());
  }
  void mark(u32 near, u32 mark, bool set) {
    const auto at = model_.lower_bound(near);
    if (at == model_.end()) return;
    at->second.marked[mark] = set;
    set ? index_.set_mark(at->first, static_cast<IndexMark>(mark))
        : index_.clear_mark(at->first, static_cast<IndexMark>(mark));
    CHECK(index_.has_mark(at->first, static_cast<IndexMark>(mark)) == set);
  }
  void look(u32 from) const {
    const auto holder = holding(from);
    CHECK(index_.find(from) == (holder == model_.end() ? nullptr : holder->second.object.get()));
    const PageIndex::Hit hit = index_.next(from);
    const auto next = holder != model_.end() ? holder : model_.lower_bound(from);
    if (next == model_.end()) {
      CHECK(hit.entry == nullptr);
    } else {
      CHECK(hit.entry == next->second.object.get());
      CHECK(hit.index == (holder != model_.end() ? from : next->first));
    }
    for (u32 mark = 0; mark < kIndexMarks; ++mark) {
      auto at = model_.lower_bound(from);
      while (at != model_.end() && !at->second.marked[mark]) ++at;
      const PageIndex::Hit marked = index_.next_marked(from, static_cast<IndexMark>(mark));
      CHECK(marked.entry == (at == model_.end() ? nullptr : at->second.object.get()));
      if (at != model_.end()) CHECK(marked.index == at->first);
    }
  }

 private:
  Model::const_iterator holding(u32 index) const {
    auto at = model_.upper_bound(index);
    if (at == model_.begin()) return model_.end();
    --at;
    return index - at->first < at->second.pages ? at : model_.end();
  }
  bool covers(u32 index, u32 pages) const {
    const auto next = model_.lower_bound(index);
    return holding(index) != model_.end() || (next != model_.end() && next->first - index < pages);
  }

  PageIndex index_;
  Model model_;
  SpareNodes spare_;
  std::vector<std::unique_ptr<PageIndexNode>> nodes_;
};

/// Close to others, or far away: what the tree's height depends on.
u32 place(Input& input) {
  const u32 shift = input.below(6) * 6;
  return (input.byte() << (shift > 24 ? 24 : shift)) + input.below(130);
}

}  // namespace

void fuzz_one(Input& input) {
  Tree tree;
  while (!input.empty()) {
    const u32 what = input.below(7);
    const u32 at = place(input);
    switch (what) {
      case 0:
      case 1: tree.insert(at, input.below(7)); break;
      case 2: tree.remove(at); break;
      case 3: tree.mark(at, input.below(kIndexMarks), true); break;
      case 4: tree.mark(at, input.below(kIndexMarks), false); break;
      case 5: tree.remove_run(at, input.below(9)); break;
      default: break;
    }
    tree.look(at);
    tree.look(at + 1);
    tree.look(0);
  }
}

}  // namespace paean::fuzz
