#include "mm/user_area.hpp"

#include "lib/assert.hpp"

namespace paean {

Area* AreaMap::at_or_above(VirtAddr va) {
  auto above = tree_.upper_bound(va);
  if (above != tree_.begin()) {
    auto below = above;
    --below;
    if (below->end > va) return &*below;
  }
  return above == tree_.end() ? nullptr : &*above;
}

Area* AreaMap::at(VirtAddr va) {
  Area* area = at_or_above(va);
  return area != nullptr && area->start <= va ? area : nullptr;
}

Area* AreaMap::first() { return tree_.empty() ? nullptr : &*tree_.begin(); }
Area* AreaMap::last() { return tree_.empty() ? nullptr : &*tree_.rbegin(); }

Area* AreaMap::next(Area& area) {
  auto it = tree_.iterator_to(area);
  ++it;
  return it == tree_.end() ? nullptr : &*it;
}

Area* AreaMap::previous(Area& area) {
  auto it = tree_.iterator_to(area);
  if (it == tree_.begin()) return nullptr;
  --it;
  return &*it;
}

void AreaMap::cut_at(VirtAddr va, AreaSpares& spares) {
  Area* area = at(va);
  if (area == nullptr || area->start == va) return;
  ASSERT(spares.count() != 0);
  Area& upper = spares.pop();
  upper.start = va;
  upper.end = area->end;
  upper.access = area->access;
  upper.kind = area->kind;
  upper.file = area->file;
  upper.first_page = area->file != nullptr ? area->page_at(va) : 0;
  if (upper.file != nullptr) count_file_(*upper.file, +1);
  area->end = va;
  tree_.insert(upper);
  ++count_;
}

void AreaMap::cut(VirtAddr start, VirtAddr end, AreaSpares& spares) {
  cut_at(start, spares);
  cut_at(end, spares);
}

u32 AreaMap::needed_to_cut(VirtAddr start, VirtAddr end) {
  const Area* low = at(start);
  const Area* high = at(end);
  return (low != nullptr && low->start != start ? 1u : 0u) + (high != nullptr && high->start != end ? 1u : 0u);
}

void AreaMap::insert(Area& area) {
  ASSERT(area.start < area.end);
  const Area* above = at_or_above(area.start);
  ASSERT(above == nullptr || above->start >= area.end);
  tree_.insert(area);
  ++count_;
  pages_ += area.pages();
}

void AreaMap::remove(Area& area) {
  tree_.erase(tree_.iterator_to(area));
  --count_;
  pages_ -= area.pages();
}

bool AreaMap::agree(const Area& low, const Area& high) {
  if (low.end != high.start || low.access != high.access || low.kind != high.kind || low.file != high.file)
    return false;
  // A stack grows at its own lower end; two of them stay two.
  if (low.grows()) return false;
  return low.file == nullptr || low.page_at(low.end) == high.first_page;
}

Area& AreaMap::join(Area& area, AreaSpares& spares) {
  Area* kept = &area;
  if (Area* below = previous(*kept); below != nullptr && agree(*below, *kept)) kept = below;
  for (Area* above = next(*kept); above != nullptr && agree(*kept, *above); above = next(*kept)) {
    tree_.erase(tree_.iterator_to(*above));
    --count_;
    kept->end = above->end;
    if (above->file != nullptr) count_file_(*above->file, -1);
    above->file = nullptr;
    spares.push(*above);
  }
  return *kept;
}

void AreaMap::extend_down(Area& area, VirtAddr start) {
  const Area* below = previous(area);
  ASSERT(start < area.start && (below == nullptr || below->end <= start));
  pages_ += (area.start - start) >> kPageShift;
  area.start = start;  // still between the same neighbours
}

void AreaMap::extend_up(Area& area, VirtAddr end) {
  const Area* above = next(area);
  ASSERT(area.end < end && (above == nullptr || end <= above->start));
  pages_ += (end - area.end) >> kPageShift;
  area.end = end;
}

std::optional<VirtAddr> AreaMap::find_gap(u32 bytes, VirtAddr low, VirtAddr high) {
  VirtAddr top = high;
  for (auto it = tree_.rbegin(); it != tree_.rend(); ++it) {
    if (it->end <= low) break;
    if (it->end <= top && top - it->end >= bytes) return top - bytes;
    if (it->reserved_from() < top) top = it->reserved_from();
  }
  if (top > low && top - low >= bytes) return top - bytes;
  return std::nullopt;
}

bool AreaMap::is_free(VirtAddr start, VirtAddr end) {
  const Area* above = at_or_above(start);
  return above == nullptr || above->reserved_from() >= end;
}

}  // namespace paean
