#include "mm/direct_stacks.hpp"

#include <algorithm>

#include "mm/zone.hpp"

namespace paean {

namespace {

constexpr Order kStackOrder{1};
static_assert(kPageSize << 1 == kThreadStackBytes);

/// Who asks is told that there is no memory; nobody else ends for it.
constexpr AllocFlags kStackBlock = AllocFlags::Kernel | AllocFlags::NoWarn;

}  // namespace

void DirectStacks::init(u32 others) {
  u32 low = 0, all = 0;
  for (const ZoneId id : kAllZones) {
    const u32 pages = zone(id).managed.count();
    all += pages;
    if (id <= ZoneId::Normal) low += pages;
  }
  const u32 pages_each = kThreadStackBytes / kPageSize;
  const u32 together = all / 4 / pages_each;
  set_limit(std::min(low / 2 / pages_each, together > others ? together - others : 0));
  ASSERT(cells_.init({.name = "thread", .size = sizeof(ThreadCell)}).has_value());
}

Result<> DirectStacks::reserve() {
  if (used_.fetch_add(1, std::memory_order_relaxed) < limit()) return {};
  used_.fetch_sub(1, std::memory_order_relaxed);
  return std::unexpected(Error::TooLarge);
}

Result<ThreadPlace> DirectStacks::take() {
  TRY(reserve());
  const Result<void*> cell = take_object(cells_, kStackBlock);
  const Result<VirtAddr> block =
      cell ? __get_free_pages(kStackBlock, kStackOrder, Owner::Stack) : Result<VirtAddr>{std::unexpected(cell.error())};
  if (!block) {
    if (cell) give_object(cells_, *cell);
    used_.fetch_sub(1, std::memory_order_relaxed);
    return std::unexpected(block.error());
  }
  auto& made = *static_cast<ThreadCell*>(*cell);
  made.stack = *block;
  return ThreadPlace{made.object, *block + kThreadStackBytes};
}

void DirectStacks::give_back(ThreadCell& cell) {
  free_pages_at(cell.stack, kStackOrder);
  give_object(cells_, &cell);
  used_.fetch_sub(1, std::memory_order_relaxed);
}

}  // namespace paean
