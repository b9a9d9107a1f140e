#include "mm/direct_map_holes.hpp"

#include <algorithm>

namespace paean {

DirectMapHoles::DirectMapHoles(const MemoryMap& map, u32 limit) {
  const PhysRange direct{PhysAddr{0}, PhysAddr{limit}};
  for (const MemoryMap::Entry& entry : map.ranges()) {
    if (entry.tag != MemoryKind::Usable) continue;
    const PhysRange ram = entry.range().intersect(direct);
    if (ram.empty()) break;
    const u32 begin = border();
    const u32 end = static_cast<u32>(ram.begin.align_down(kLargePageSize) - PhysAddr{0});
    if (begin < end) add({begin, end});
    ram_end_ = ram.end;
  }
}

/// Called in address order. Of equal ones the lower stays.
void DirectMapHoles::add(DirectMapHole hole) {
  bytes_ += hole.bytes();
  if (count_ < kMost) {
    holes_[count_++] = hole;
    return;
  }
  const auto smaller = [](const DirectMapHole& a, const DirectMapHole& b) {
    return a.bytes() != b.bytes() ? a.bytes() < b.bytes() : a.begin > b.begin;
  };
  const auto smallest = std::min_element(holes_.begin(), holes_.end(), smaller);
  DirectMapHole loser = hole;
  if (smaller(*smallest, hole)) {
    loser = *smallest;
    std::move(smallest + 1, holes_.end(), smallest);
    holes_.back() = hole;
  }
  bytes_ -= loser.bytes();
  ++left_out_;
  left_out_bytes_ += loser.bytes();
}

}  // namespace paean
