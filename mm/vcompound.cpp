#include "mm/vcompound.hpp"

#include <array>

#include "arch/tlb_checker.hpp"
#include "mm/highmem.hpp"
#include "mm/ledger.hpp"
#include "mm/vmalloc_cache.hpp"

namespace paean {

constinit u32 vfallback_forced = 0;

namespace {

const void* pointer_at(VirtAddr at) { return reinterpret_cast<const void*>(at.raw()); }
VirtAddr address_of(const Page* page) { return Page::address_in(page->word()); }

/// A page of the highest zone that will do: what has an address of vmalloc's need not be lowmem.
[[gnu::always_inline]] inline Page* take_one(AllocFlags flags, Owner owner) {
  if (flags.zone() == ZoneId::Normal) {
    if (Page* page = take_page_quietly(flags | AllocFlags::HighUser, owner)) return page;
  }
  return take_page_quietly(flags, owner);
}

/// Gives the first pages of an area back, which nobody has seen yet.
void unwind(const VmArea& area, u32 pages) {
  for (u32 i = 0; i < pages; ++i) {
    arch::Pte& entry = vmalloc_entry(area.start() + i * kPageSize);
    Page* page = pfn_to_page(frame_in(entry));
    entry.clear();
    leave_vcompound(page);
    free_page(page);
  }
}

arch::Pte& entry_of(const VmArea& area, u32 i) {
  return area.entries != nullptr ? area.entries[i] : vmalloc_entry(area.start() + i * kPageSize);
}

/// Makes a page the next of the area, which does not show it yet.
[[gnu::always_inline]] inline void enter(const VmArea& area, u32 i, Page* page, LedgerRow row) {
  page->set_word(Page::make_vcompound(area.start() + i * kPageSize, row.value()));
  write_entry(entry_of(area, i), page, vmalloc_read_write);
}

/// Pages for the whole area, shown when all are there. False without memory; then everything is as it was.
bool fill(const VmArea& area, AllocFlags flags, Owner owner) {
  const LedgerRow row{flags.zone() == ZoneId::Normal ? ZoneId::HighMem : flags.zone(), owner};
  const auto keep = [&](u32 i, Page* page) { enter(area, i, page, row); };
  u32 done = flags.has(AllocFlags::Zero) ? 0 : PageFast::pop_most(row, area.used, keep);
  for (; done < area.used; ++done) {
    Page* page = take_one(flags, owner);
    if (page == nullptr) {
      unwind(area, done);
      return false;
    }
    if (flags.has(AllocFlags::Zero)) clear_highpage(page);
    enter(area, done, page, LedgerRow{page->ledger_row()});
  }
  arch::check_reuse(area.start(), area.used);
  for_each_entry(area, [](arch::Pte& entry) { entry.show(); });
  return true;
}

Result<VmArea*> take_filled_area(AllocFlags flags, u32 pages, Owner owner) {
  VmArea* area = TRY(take_area(pages, kPageSize));
  if (fill(*area, flags, owner)) return area;
  return_area(*area);
  return std::unexpected(Error::OutOfMemory);
}

/// Takes the pages out of sight, and from their owner, so that the ledger says at once that he has them no more.
void hide_pages(const VmArea& area, Owner owner) {
  u32 pages[kZoneCount]{};
  const u32 change = LedgerRow{ZoneId::Dma, Owner::Vmalloc}.value() - LedgerRow{ZoneId::Dma, owner}.value();
  for_each_entry(area, [&](arch::Pte& entry) {
    entry.hide();
    Page* page = pfn_to_page(frame_in(entry));
    const u32 word = page->word();
    ++pages[LedgerRow{word & Page::kRowMask}.zone_index()];
    page->set_word(word + change);  // plain: who frees a block was its last holder, so nobody maps its pages meanwhile
  });
  const arch::IrqsOffGuard off;
  for (const ZoneId id : kAllZones) {
    const u32 count = pages[std::to_underlying(id)];
    ledger_subtract(LedgerRow{id, owner}, count);
    ledger_add(LedgerRow{id, Owner::Vmalloc}, count);
  }
}

/// The live area that begins with a page; nullptr if it is not the first of a live virtual block.
VmArea* area_of_head(const Page* page) {
  VmArea* area = live_area_at(pointer_at(address_of(page)));
  return area != nullptr && area->kind == VmKind::Compound ? area : nullptr;
}

constexpr u32 kMostPages = Order{kMaxOrder}.pages();

/// Walks back to the entry in front of the area.
VmArea* area_of(const Page* page) {
  VirtAddr at = address_of(page);
  for (u32 i = 0; i < kMostPages; ++i) {
    const arch::Pte& before = vmalloc_entry(at - kPageSize);
    if (before.own_low() == 0) return live_area_at(pointer_at(at));
    at = at - kPageSize;
  }
  return nullptr;
}

}  // namespace

Result<Page*> take_vcompound(AllocFlags flags, Order order, Owner owner, const void* caller) {
  const u32 pages = order.pages();
  if (pages >= vmalloc_largest_range) return std::unexpected(Error::OutOfMemory);  // also while there is no vmalloc
  Result<VmArea*> area = take_filled_area(flags, pages, owner);
  if (!area && !flags.has(AllocFlags::Atomic) && make_room()) area = take_filled_area(flags, pages, owner);
  if (!area) return std::unexpected(area.error());
  (*area)->order = static_cast<u8>(order.value());
  (*area)->references.store(1, std::memory_order_relaxed);
  publish(**area, VmKind::Compound, nullptr, caller);
  return pfn_to_page(frame_in(vmalloc_entry((*area)->start())));
}

void free_vcompound(Page* head) {
  VmArea* area = claim_area(pointer_at(address_of(head)), VmKind::Compound, "free", __builtin_return_address(0));
  if (area == nullptr) return;
  hide_pages(*area, head->owner());
  CpuAreas& cpu = this_cpu_areas();
  if (cpu.park(*area)) cpu.purge_some();
}

const char* vcompound_complaint(const Page* page, Order order) {
  const VmArea* area = area_of_head(page);
  if (area == nullptr) {
    return area_of(page) != nullptr ? "wrong page: inside a virtual block"
                                    : "double free: its virtual block is parked until every CPU has flushed";
  }
  if (order != Order{area->order}) return "wrong order";
  if (area->references.load(std::memory_order_relaxed) != 1) return "still referenced";
  return nullptr;
}

void get_vcompound(Page* head) {
  VmArea* area = area_of_head(head);
  ASSERT(area != nullptr);
  u32 old = area->references.load(std::memory_order_relaxed);
  do {
    ASSERT(old != 0);
    if (old == Page::kMaxReferences) return;
  } while (!area->references.compare_exchange_weak(old, old + 1, std::memory_order_relaxed));
}

bool put_vcompound(Page* head) {
  VmArea* area = area_of_head(head);
  ASSERT(area != nullptr);
  u32 old = area->references.load(std::memory_order_relaxed);
  for (;;) {
    ASSERT(old != 0);
    if (old == Page::kMaxReferences) return false;
    if (old == 1) return true;  // the count stays 1 for the free that follows
    if (area->references.compare_exchange_weak(old, old - 1, std::memory_order_acq_rel)) return false;
  }
}

Page* compound_nth_page(Page* head, u32 n) {
  if (head->type() != PageType::VCompound) return head + n;
  return vmalloc_to_page(pointer_at(address_of(head) + n * kPageSize));
}

Page* compound_head(Page* page) {
  if (page->type() != PageType::VCompound) return block_head(page);
  const VmArea* area = area_of(page);
  return area == nullptr ? nullptr : vmalloc_to_page(area->data());
}

Order compound_order(const Page* head) {
  if (head->type() != PageType::VCompound) return head->order();
  const VmArea* area = area_of_head(head);
  ASSERT(area != nullptr);
  return Order{area->order};
}

Page* page_with_address(VirtAddr at) {
  const Result<LowPfn> low = low_frame_at(at);
  Page* page = low ? pfn_to_page(low->pfn()) : vmalloc_to_page(pointer_at(at));
  return page != nullptr && page_address(page) == at ? page : nullptr;
}

VCompoundInfo vcompound_info(const Page* page) {
  const VmArea* area = area_of(page);
  if (area == nullptr) return {};
  return {.head = vmalloc_to_page(area->data()),
          .order = Order{area->order},
          .index = (address_of(page) - area->start()) >> kPageShift,
          .references = area->references.load(std::memory_order_relaxed)};
}

void init_vfallback(const CommandLine& options, Sink& complaints) {
  static constexpr std::array<std::string_view, 1> kWords{"always"};
  if (options.choice("vfallback", kWords, kWords.size(), complaints) == 0)
    __atomic_store_n(&vfallback_forced, 1, __ATOMIC_RELAXED);
}

}  // namespace paean
