#include "kernel/fs/ext2_retired.hpp"

#include <algorithm>

namespace paean {

void RetiredTables::remove(u32 at) {
  std::copy(range_ + at + 1, range_ + ranges_, range_ + at);
  --ranges_;
}

void RetiredTables::join_nearest() {
  u32 best = 0;
  for (u32 i = 1; i + 1 < ranges_; ++i) {
    if (range_[i + 1].first - range_[i].end < range_[best + 1].first - range_[best].end) best = i;
  }
  range_[best].end = range_[best + 1].end;
  range_[best].after = std::max(range_[best].after, range_[best + 1].after);
  remove(best + 1);
}

void RetiredTables::add(u32 first, u32 blocks) {
  Range added{.first = first, .end = first + blocks, .after = syncs_};
  u32 at = 0;
  while (at < ranges_ && range_[at].end < added.first) ++at;
  while (at < ranges_ && range_[at].first <= added.end) {
    added.first = std::min(added.first, range_[at].first);
    added.end = std::max(added.end, range_[at].end);
    remove(at);
  }
  std::copy_backward(range_ + at, range_ + ranges_, range_ + ranges_ + 1);
  range_[at] = added;
  if (++ranges_ > kRanges) join_nearest();
}

u32 RetiredTables::end_of_range_with(u32 block) const {
  const Range* behind = std::upper_bound(range_, range_ + ranges_, block,
                                         [](u32 value, const Range& range) { return value < range.end; });
  return behind != range_ + ranges_ && behind->first <= block ? behind->end : 0;
}

void RetiredTables::sync_ended(u32 number) {
  const auto is_written = [number](const Range& range) { return range.after < number; };
  ranges_ = static_cast<u32>(std::remove_if(range_, range_ + ranges_, is_written) - range_);
}

}  // namespace paean
