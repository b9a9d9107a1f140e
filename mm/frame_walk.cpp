#include "mm/frame_walk.hpp"

namespace paean {

namespace {

/// Pages from `pfn` to the end of the aligned block of this order around it.
PageCount rest_of_block(Pfn pfn, u32 order) { return (pfn.align_down(Order{order}) + PageCount{Order{order}}) - pfn; }

u32 free_order(Zone& zone, Pfn pfn) {
  const SpinGuard<IrqSave> guard{zone.lock};
  return zone.buddy.covering_order(zone.index_of(pfn));
}

}  // namespace

FrameRun frame_run_at(Zone& zone, Pfn pfn) {
  FrameRun run{pfn, PageCount{1}, FrameUse::Free, Owner{}};
  Page* page = pfn_to_page(pfn);
  switch (page->type()) {
    case PageType::Hole: run.use = FrameUse::Hole; break;
    case PageType::Reserved: run.use = FrameUse::Reserved; break;
    case PageType::Slab: run.use = FrameUse::Allocated, run.owner = Owner::Slab; break;
    case PageType::VCompound: run.use = FrameUse::Allocated, run.owner = page->owner(); break;
    case PageType::Cached: run.count = rest_of_block(pfn, page->order().value()); break;
    case PageType::Free:
      if (const u32 order = free_order(zone, pfn); order != Buddy::kNone) {
        run.count = rest_of_block(pfn, order);
        break;
      }
      [[fallthrough]];
    case PageType::Block:
    case PageType::Parked:
      if (const Page* head = block_head(page); head != nullptr) {
        run.use = FrameUse::Allocated;
        run.owner = head->owner();
        run.count = rest_of_block(pfn, head->order().value());
      }
      break;
  }
  if (run.first + run.count > zone.end) run.count = zone.end - run.first;
  return run;
}

}  // namespace paean
