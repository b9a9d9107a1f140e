#include "mm/page_alloc.hpp"

#include "lib/log.hpp"
#include "mm/highmem.hpp"
#include "mm/ledger.hpp"
#include "mm/page_stacks.hpp"

namespace paean {

namespace {

using arch::IrqsOff;
using arch::IrqsOffGuard;

struct CpuAllocEvents {
  AllocEvents events;
};
PER_CPU(CpuAllocEvents, cpu_events);

/// How far below its watermark a zone may be taken.
enum class Effort : u8 { AboveLow, AboveMin, HalfOfMin };

bool above_watermark(const Zone& z, u32 free, u32 wanted, ZoneId highest, Effort effort) {
  u32 mark = z.reserve[std::to_underlying(highest)].count();
  mark += effort == Effort::AboveLow ? z.low.count() : effort == Effort::AboveMin ? z.min.count() : z.min.count() / 2;
  return free >= mark + wanted;
}

void account_taken(Page* page, Order order, LedgerRow row) {
  page->set_word(Page::make_block(order, row.value()));
  ledger_counters.local().pages[row.value()] += order.pages();
}

/// Fills an empty stack of this CPU from the zone. False if the zone has nothing to give.
bool refill(Zone& z, PageStack& stack, ZoneId highest, Effort effort, IrqsOff) {
  const SpinGuard<NoIrq> guard{z.lock};
  const u32 free = z.buddy.free_pages();
  if (!above_watermark(z, free, 1, highest, effort)) return false;
  const u32 got = z.buddy.allocate_pages(PageStack::kBatch, stack.frames);
  if (got == 0) return false;
  // Reversed, so that pops come in rising address order.
  for (u32 i = 0; i < got; ++i) stack.frames[i] += z.base.raw();
  for (u32 i = 0, j = got - 1; i < j; ++i, --j) std::swap(stack.frames[i], stack.frames[j]);
  for (u32 i = 0; i < got; ++i) pfn_to_page(Pfn{stack.frames[i]})->set_word(Page::make_simple(PageType::Cached));
  stack.count = got;
  ++cpu_events.local().events.refills;
  return true;
}

/// Gives the oldest batch of a stack back. Runs of neighbours go as one range, which merges once instead of per page.
void drain(Zone& z, PageStack& stack, u32 batch, IrqsOff) {
  const SpinGuard<NoIrq> guard{z.lock};
  u32 i = 0;
  while (i < batch) {
    u32 first = stack.frames[i], last = first;
    pfn_to_page(Pfn{first})->set_word(0);
    for (++i; i < batch; ++i) {
      const u32 next = stack.frames[i];
      if (next == last + 1) last = next;
      else if (next + 1 == first) first = next;
      else break;
      pfn_to_page(Pfn{next})->set_word(0);
    }
    z.buddy.free_range(first - z.base.raw(), last - first + 1);
  }
  stack.count -= batch;
  for (u32 k = 0; k < stack.count; ++k) stack.frames[k] = stack.frames[k + batch];
  ++cpu_events.local().events.drains;
}

Page* take_single(Zone& z, Owner owner, ZoneId highest, Effort effort, IrqsOff off) {
  PageStack& stack = page_stacks.local().zone[std::to_underlying(z.id)];
  if (stack.count == 0 && !refill(z, stack, highest, effort, off)) return nullptr;
  Page* page = pfn_to_page(Pfn{stack.frames[--stack.count]});
  account_taken(page, Order{0}, LedgerRow{z.id, owner});
  return page;
}

Page* take_block(Zone& z, Order order, Owner owner, ZoneId highest, Effort effort, IrqsOff) {
  const SpinGuard<NoIrq> guard{z.lock};
  if (!above_watermark(z, z.buddy.free_pages(), order.pages(), highest, effort)) return nullptr;
  const u32 index = z.buddy.allocate(order);
  if (index == Buddy::kNone) return nullptr;
  Page* page = pfn_to_page(z.frame_at(index));
  account_taken(page, order, LedgerRow{z.id, owner});
  return page;
}

Page* take_from_zones(AllocFlags flags, Order order, Owner owner, Effort effort, IrqsOff off) {
  for (u32 i = std::to_underlying(flags.zone()) + 1; i-- != 0;) {
    Zone& z = zone(static_cast<ZoneId>(i));
    if (z.empty()) continue;
    Page* page = order == Order{0} ? take_single(z, owner, flags.zone(), effort, off)
                                   : take_block(z, order, owner, flags.zone(), effort, off);
    if (page != nullptr) {
      ++cpu_events.local().events.allocated[i];
      return page;
    }
  }
  return nullptr;
}

void clear_block(Page* page, Order order) {
  for (u32 i = 0; i < order.pages(); ++i) clear_highpage(page + i);
}

[[gnu::noinline]] Result<Page*> allocate_slowly(AllocFlags flags, Order order, Owner owner) {
  if (order.value() > kMaxOrder) return std::unexpected(Error::InvalidArgument);
  Page* page = nullptr;
  {
    const IrqsOffGuard off;
    page = take_from_zones(flags, order, owner, Effort::AboveLow, off.token());
    if (page == nullptr) {  // pages in this CPU's stacks may complete a block
      drain_local_pages();
      const Effort last = flags.has(AllocFlags::Atomic) ? Effort::HalfOfMin : Effort::AboveMin;
      page = take_from_zones(flags, order, owner, last, off.token());
    }
    if (page == nullptr) ++cpu_events.local().events.failures;
  }
  if (page == nullptr) {
    if (!flags.has(AllocFlags::NoWarn)) {
      log_warning("page allocation failed: order {}, highest zone {}, for {}", order, name(flags.zone()), name(owner));
    }
    return std::unexpected(Error::OutOfMemory);
  }
  if (flags.has(AllocFlags::Zero)) clear_block(page, order);
  return page;
}

[[noreturn, gnu::cold, gnu::noinline]] void bad_free(const Page* page, Order order) {
  const char* complaint = free_complaint(page, order);
  panic("bad free of frame {:#x}, order {}: {} (page word {:08x})", page_to_pfn(page), order,
        complaint != nullptr ? complaint : "no reason found", page->word());
}

/// What a legal free looks like, but for the ledger row.
constexpr u32 free_pattern(Order order) { return Page::make_block(order, 0); }
constexpr u32 kRowMask = 255u << 16;

}  // namespace

Result<Page*> alloc_pages(AllocFlags flags, Order order, Owner owner) {
  if (order == Order{0}) [[likely]] {
    const IrqsOffGuard off;
    const u32 zone_index = std::to_underlying(flags.zone());
    PageStack& stack = page_stacks.local().zone[zone_index];
    if (stack.count != 0) [[likely]] {
      Page* page = pfn_to_page(Pfn{stack.frames[--stack.count]});
      account_taken(page, Order{0}, LedgerRow{flags.zone(), owner});
      ++cpu_events.local().events.allocated[zone_index];
      if (flags.has(AllocFlags::Zero)) clear_highpage(page);
      return page;
    }
  }
  return allocate_slowly(flags, order, owner);
}

Result<Page*> alloc_page_at(Pfn pfn, Owner owner) {
  if (!pfn_valid(pfn)) return std::unexpected(Error::NotFound);
  const IrqsOffGuard off;
  drain_local_pages();
  Zone& z = zone(zone_of(pfn));
  const SpinGuard<NoIrq> guard{z.lock};
  if (!z.buddy.allocate_at(z.index_of(pfn), Order{0})) return std::unexpected(Error::Busy);
  account_taken(pfn_to_page(pfn), Order{0}, LedgerRow{z.id, owner});
  return pfn_to_page(pfn);
}

void free_pages(Page* page, Order order) {
  const u32 word = page->word();
  if ((word & ~kRowMask) != free_pattern(order)) [[unlikely]] bad_free(page, order);
  const LedgerRow row{(word >> 16) & 255};
  const u32 zone_index = std::to_underlying(row.zone());
  const IrqsOffGuard off;
  ledger_counters.local().pages[row.value()] -= order.pages();
  ++cpu_events.local().events.freed;
  if (order == Order{0}) [[likely]] {
    PageStack& stack = page_stacks.local().zone[zone_index];
    page->set_word(Page::make_simple(PageType::Cached));
    stack.frames[stack.count] = page_to_pfn(page).raw();
    if (++stack.count == PageStack::kCapacity) drain(zone(row.zone()), stack, PageStack::kBatch, off.token());
    return;
  }
  Zone& z = zone(row.zone());
  page->set_word(0);
  const SpinGuard<NoIrq> guard{z.lock};
  z.buddy.free(z.index_of(page_to_pfn(page)), order);
}

void put_page(Page* page) {
  if (page->put()) free_pages(page, page->order());
}

Result<VirtAddr> __get_free_pages(AllocFlags flags, Order order, Owner owner) {
  ASSERT(is_low(flags.zone()));
  Page* page = TRY(alloc_pages(flags, order, owner));
  return *page_address(page);
}

Result<VirtAddr> get_zeroed_page(AllocFlags flags, Owner owner) {
  return __get_free_pages(flags | AllocFlags::Zero, Order{0}, owner);
}

void free_pages_at(VirtAddr address, Order order) {
  const Result<LowPfn> low = low_frame_at(address);
  if (!low || !address.is_aligned(kPageSize)) panic("bad free of address {:08x}: not a lowmem page", address);
  free_pages(pfn_to_page(low->pfn()), order);
}

const char* free_complaint(const Page* page, Order order) {
  if (page_to_pfn(page) >= frame_limit()) return "no such frame";
  switch (page->type()) {
    case PageType::Hole: return "foreign: no memory there";
    case PageType::Reserved: return "foreign: reserved at boot";
    case PageType::Cached: return "double free: the page is free";
    case PageType::Free: {
      // Behind a head inside an allocated block, or free.
      for (u32 up = 1; up < kOrderCount; ++up) {
        const Page* head = pfn_to_page(page_to_pfn(page).align_down(Order{up}));
        if (head->type() == PageType::Block && head->order().value() >= up) return "wrong page: inside a larger block";
      }
      return "double free: the page is free";
    }
    case PageType::Block: break;
  }
  if (page->order() != order) return "wrong order";
  if (page->references() != 1) return "still referenced";
  return nullptr;
}

void drain_local_pages() {
  const IrqsOffGuard off;
  for (const ZoneId id : kAllZones) {
    PageStack& stack = page_stacks.local().zone[std::to_underlying(id)];
    if (stack.count != 0) drain(zone(id), stack, stack.count, off.token());
  }
}

AllocEvents alloc_events() {
  AllocEvents sum{};
  for (u32 cpu = 0; cpu < arch::online_cpus(); ++cpu) {
    const AllocEvents& e = cpu_events.on(cpu).events;
    for (u32 i = 0; i < kZoneCount; ++i) sum.allocated[i] += e.allocated[i];
    sum.freed += e.freed;
    sum.refills += e.refills;
    sum.drains += e.drains;
    sum.failures += e.failures;
  }
  return sum;
}

}  // namespace paean
