#include "mm/folio.hpp"

#include <algorithm>
#include <array>
#include <new>

#include "kernel/fault.hpp"
#include "mm/free_batch.hpp"
#include "mm/kmalloc.hpp"
#include "mm/lending.hpp"
#include "mm/page_cache_internal.hpp"
#include "mm/slab.hpp"
#include "mm/zone.hpp"

namespace paean {

namespace {

FAULT_SITE(folio, "a descriptor of cached pages");
FAULT_SITE(page_index_node, "a node of a file's page index");

constinit ObjectCache folio_cache;
constinit ObjectCache nodes;

// Some more than threads that wait at once, so that one wake seldom meets others.
constexpr u32 kQueues = 256;
using WaitTable = std::array<WaitQueue, kQueues>;
constinit WaitTable* queues = nullptr;

constexpr u32 bits(FolioFlag flag) { return static_cast<u32>(flag); }

/// Pages below 4 GiB are a favour to the device: not by reclaim, and never at the price of lowmem.
AllocFlags while_there_are_plenty(AllocFlags flags, Order order) {
  if (flags.zone() != ZoneId::Dma32) return flags;
  const Zone& z = zone(ZoneId::Dma32);
  const u32 keep = z.high.count() + z.reserve[std::to_underlying(ZoneId::HighMem)].count();
  return free_pages_in(ZoneId::Dma32).count() > keep + order.pages() ? flags : AllocFlags::HighUser;
}

Result<Page*> take_pages(AllocFlags wanted, Order order, AllocFlags effort) {
  const AllocFlags flags = while_there_are_plenty(wanted, order) | effort | AllocFlags::Movable;
  if (order == Order{0}) return alloc_page(flags, Owner::PageCache);
  // Smaller ones will do as well, so nobody is asked to give memory back for a large one.
  Page* page = take_block_quietly(flags, order, Owner::PageCache);
  if (page == nullptr) return std::unexpected(Error::OutOfMemory);
  return page;
}

}  // namespace

constinit CacheCounters cache_counters;

void init_folios() {
  queues = &make_boot_table<WaitTable>();
  ASSERT(folio_cache.init({.name = "folio", .size = sizeof(Folio), .align = alignof(Folio)}).has_value());
  ASSERT(
      nodes.init({.name = "page_index", .size = sizeof(PageIndexNode), .align = alignof(PageIndexNode)}).has_value());
}

WaitQueue& folio_queue(const Folio* folio) {
  // Descriptors are 32 bytes, and neighbours are often used together.
  return (*queues)[(reinterpret_cast<u32>(folio) >> 5) % kQueues];
}

void wake_folio(WaitQueue& queue) {
  if (queue.waiting() != 0) queue.wake_all();
}

Result<> take_nodes(SpareNodes& spare, u32 count, AllocFlags effort) {
  while (spare.count() < count) {
    if (must_fail(fault_page_index_node)) return std::unexpected(Error::OutOfMemory);
    spare.push(static_cast<PageIndexNode*>(TRY(take_object(nodes, effort))));
    cache_counters.nodes.fetch_add(1, std::memory_order_relaxed);
  }
  return {};
}

void give_nodes(SpareNodes& spare) {
  while (!spare.empty()) {
    cache_counters.nodes.fetch_sub(1, std::memory_order_relaxed);
    give_object(nodes, spare.pop());
  }
}

Result<Folio*> FolioOps::create(AddressSpace& space, u32 index, Order order, AllocFlags effort) {
  if (must_fail(fault_folio)) return std::unexpected(Error::OutOfMemory);
  Page* page = TRY(take_pages(space.store().page_flags(), order, effort));
  const Result<void*> memory = take_object(folio_cache, effort);
  if (!memory) {
    free_pages(page, order);
    return std::unexpected(memory.error());
  }
  auto* folio = new (*memory) Folio;
  folio->space_ = &space;
  folio->index_ = index;
  folio->first_ = page_to_pfn(page);
  folio->state_.store(bits(FolioFlag::Locked) | order.value() << Folio::kOrderShift, std::memory_order_relaxed);
  folio->references_.store(1, std::memory_order_relaxed);
  cache_counters.folios.fetch_add(1, std::memory_order_relaxed);
  if (is_lent(page)) note_cached(page, *folio);
  return folio;
}

void FolioOps::set_error(Folio& folio, Error error) {
  folio.state_.fetch_and(~(255u << Folio::kErrorShift));
  folio.state_.fetch_or(static_cast<u32>(error) << Folio::kErrorShift | bits(FolioFlag::Failed));
}

void FolioRef::end(Folio* folio) {
  if (is_lent(folio->page())) note_uncached(folio->page());
  put_page(folio->page());  // programs that map it may hold more references
  cache_counters.folios.fetch_sub(1, std::memory_order_relaxed);
  give_object(folio_cache, folio);
}

void FolioOps::end_all(std::span<Folio* const> folios) {
  constexpr usize kAtOnce = 32;
  Page* pages[kAtOnce];
  for (usize at = 0; at < folios.size(); at += kAtOnce) {
    const auto part = folios.subspan(at, std::min(kAtOnce, folios.size() - at));
    Page** place = pages;
    for (Folio* folio : part) {
      if (is_lent(folio->page())) note_uncached(folio->page());
      *place++ = folio->page();
    }
    put_pages({pages, part.size()});
    give_objects(folio_cache, part);
  }
  cache_counters.folios.fetch_sub(static_cast<u32>(folios.size()), std::memory_order_relaxed);
}

bool Folio::try_lock() { return (state_.fetch_or(bits(FolioFlag::Locked)) & bits(FolioFlag::Locked)) == 0; }

void Folio::lock() {
  if (!try_lock()) folio_queue(this).wait([this] { return try_lock(); });
}

void Folio::unlock() {
  WaitQueue& queue = folio_queue(this);
  const u32 before = state_.fetch_and(~bits(FolioFlag::Locked));
  ASSERT((before & bits(FolioFlag::Locked)) != 0);
  wake_folio(queue);
}

void Folio::wait_until_read() {
  if (has(FolioFlag::Locked)) folio_queue(this).wait([this] { return !has(FolioFlag::Locked); });
}

void Folio::wait_until_written() {
  if (has(FolioFlag::WriteBack)) folio_queue(this).wait([this] { return !has(FolioFlag::WriteBack); });
}

void Folio::end_read(Result<> result) {
  if (result) {
    FolioOps::clear(*this, FolioFlag::Failed);
    FolioOps::set(*this, FolioFlag::UpToDate);
  } else {
    FolioOps::set_error(*this, result.error());
  }
  unlock();
}

void Folio::end_write(Result<> result) {
  WaitQueue& queue = folio_queue(this);
  const bool over = space_->written(*this, result);
  wake_folio(queue);
  if (over) note_written();
}

}  // namespace paean
