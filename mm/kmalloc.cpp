#include "mm/kmalloc.hpp"

#include <algorithm>

#include "mm/slab_paths.hpp"
#include "mm/vcompound.hpp"
#include "mm/vmalloc.hpp"

namespace paean {

constinit std::array<ObjectCache, kKmallocClasses> kmalloc_caches;

namespace {

/// Pages of whole blocks.
constinit u32 large_pages = 0;

void count_large(u32 pages) { __atomic_fetch_add(&large_pages, pages, __ATOMIC_RELAXED); }

Result<void*> allocate_large(u32 size, AllocFlags flags) {
  if (size > kKmallocMaximum) return std::unexpected(Error::TooLarge);
  const Order order{static_cast<u32>(std::bit_width((size - 1) >> kPageShift))};
  ASSERT(is_low(flags.zone()));
  if (flags.zone() == ZoneId::Normal) flags = flags | AllocFlags::VFallback;
  Page* page = TRY(alloc_pages(flags, order, Owner::Slab));
  count_large(order.pages());
  return reinterpret_cast<void*>(page_address(page)->raw());
}

/// The first page of the whole block that kmalloc() gave out as this address; nullptr if it is none.
Page* large_block_at(const void* object) {
  const VirtAddr at{address_of_object(object)};
  Page* page = at.is_aligned(kPageSize) ? page_with_address(at) : nullptr;
  if (page == nullptr || compound_head(page) != page || page->owner() != Owner::Slab) return nullptr;
  return page->type() == PageType::Parked ? nullptr : page;
}

/// What is wrong with the free of an address that is in no slab.
SlabFaultKind kind_of(const void* object) {
  const Result<LowPfn> low = low_frame_at(VirtAddr{address_of_object(object)});
  if (!low) {
    const Page* seen = vmalloc_to_page(object);
    return seen != nullptr && seen->type() == PageType::VCompound ? SlabFaultKind::PageAddress
                                                                  : SlabFaultKind::NotSlabMemory;
  }
  Page* page = pfn_to_page(low->pfn());
  switch (page->type()) {
    case PageType::Slab: return SlabFaultKind::WrongCache;
    case PageType::Hole:
    case PageType::Reserved: return SlabFaultKind::NotSlabMemory;
    case PageType::Block:
    case PageType::VCompound: return SlabFaultKind::PageAddress;
    case PageType::Parked: return SlabFaultKind::FreedSlab;
    case PageType::Cached:
    case PageType::Free: break;
  }
  return block_head(page) != nullptr ? SlabFaultKind::PageAddress : SlabFaultKind::FreedSlab;
}

}  // namespace

[[gnu::noinline]] Result<void*> kmalloc_any(u32 size, AllocFlags flags) {
  if (size == 0) return kZeroSize;
  if (size > kKmallocLimit || flags.zone() != ZoneId::Normal) return allocate_large(size, flags);
  ObjectCache& cache = kmalloc_caches[kmalloc_class(size)];
  Result<void*> object = take_object(cache, flags);
  if (object && cache.is_checked()) { CheckedObject{*object, cache.layout(), Constructed::No}.set_requested(size); }
  if (object && flags.has(AllocFlags::Zero))
    __builtin_memset(*object, 0, cache.is_checked() ? size : cache.layout().size);
  return object;
}

void kfree(void* object) {
  const u32 word = SlabFast::page_word_at(object);
  if (!SlabFast::is_slab(word)) [[unlikely]]
    return kfree_slowly(object);
  const ObjectCache& cache = SlabFast::cache_in(word);
  if (!SlabFast::give(SlabFast::magazines(cache), SlabFast::tag_offset(cache), object)) [[unlikely]]
    kfree_slowly(object);
}

[[gnu::noinline]] void kfree_slowly(void* object) {
  const u32 caller = reinterpret_cast<u32>(__builtin_return_address(0));
  if (object == nullptr || object == kZeroSize) return;
  if (Slab* slab = find_slab(object)) return SlabPaths::give_slowly(slab, object, caller);
  Page* page = large_block_at(object);
  if (page == nullptr) return report_wrong_address(nullptr, object, caller);
  const Order order = compound_order(page);
  count_large(0 - order.pages());
  free_pages(page, order);
}

void report_wrong_address(const char* cache, const void* object, u32 caller) {
  const SlabFaultKind kind = kind_of(object);
  report_slab_fault({kind, cache, object, object, caller});
}

u32 ksize(const void* object) {
  if (object == nullptr || object == kZeroSize) return 0;
  if (Slab* slab = find_slab(object)) {
    const SlabLayout& layout = slab->cache->layout();
    if (!slab->cache->is_checked()) return layout.size;
    return CheckedObject{const_cast<void*>(object), layout, Constructed::No}.track().requested;
  }
  const Page* page = large_block_at(object);
  ASSERT(page != nullptr);
  return kPageSize << compound_order(page).value();
}

Result<void*> krealloc(void* object, u32 size, AllocFlags flags) {
  const u32 have = ksize(object);
  if (object != nullptr && size != 0 && size <= have && size > have / 2) return object;
  void* moved = TRY(kmalloc_any(size, flags));
  if (have != 0) __builtin_memcpy(moved, object, std::min(size, have));
  kfree(object);
  return moved;
}

PageCount large_kmalloc_pages() { return PageCount{__atomic_load_n(&large_pages, __ATOMIC_RELAXED)}; }

}  // namespace paean
