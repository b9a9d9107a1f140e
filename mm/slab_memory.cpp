#include "mm/slab_paths.hpp"
#include "mm/vmalloc.hpp"

namespace paean {

namespace {

/// What is seen at an address, be it lowmem or vmalloc's; nullptr if nothing is.
Page* page_at(const void* at) {
  const Result<LowPfn> low = low_frame_at(VirtAddr{reinterpret_cast<u32>(at)});
  return low ? pfn_to_page(low->pfn()) : vmalloc_to_page(at);
}

Page* page_of(const Slab* slab, u32 index) { return page_at(slab->memory + index * kPageSize); }

void unmark_virtual_block(const Slab* slab) {
  for (u32 i = 0; i < slab->order.pages(); ++i) {
    Page* page = page_of(slab, i);
    const LedgerRow row{zone_of(page_to_pfn(page)), Owner::Slab};
    const VirtAddr at{reinterpret_cast<u32>(slab->memory + i * kPageSize)};
    page->set_word(Page::make_vcompound(at, row.value()) | (page->word() & Page::kMapped));
  }
}

}  // namespace

Result<VirtAddr> take_slab_memory(AllocFlags flags, Order order) {
  return __get_free_pages(flags.without(AllocFlags::Zero), order, Owner::Slab);
}

void give_slab_memory(VirtAddr memory, Order order) { free_pages_at(memory, order); }

void mark_slab_pages(Slab* slab) {
  slab->block_word = page_of(slab, 0)->word();
  for (u32 i = 0; i < slab->order.pages(); ++i)
    page_of(slab, i)->set_word(Page::make_slab(reinterpret_cast<u32>(slab)));
}

void unmark_slab_pages(const Slab* slab) {
  if (is_vmalloc_addr(slab->memory)) return unmark_virtual_block(slab);
  Page* page = page_of(slab, 0);
  u32 mapped = page->word() & Page::kMapped;
  for (u32 i = 1; i < slab->order.pages(); ++i) {
    mapped |= (page + i)->word() & Page::kMapped;
    (page + i)->set_word(Page::make_simple(PageType::Free));
  }
  page->set_word(slab->block_word | mapped);
}

Slab* find_slab(const void* object) {
  const Page* page = page_at(object);
  if (page == nullptr) return nullptr;
  const u32 word = page->word();
  if (Page::type_in(word) != PageType::Slab) return nullptr;
  return reinterpret_cast<Slab*>(Page::slab_descriptor_in(word));
}

}  // namespace paean
