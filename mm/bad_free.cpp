// What is wrong with a free, or only unusual. In a file of its own, so that the compiler does not know that bad_free()
// never returns: the fast paths then jump here and stay leaf functions without a frame.
#include "mm/bad_free.hpp"

#include "arch/tlb_checker.hpp"
#include "mm/kmap.hpp"
#include "mm/page_alloc.hpp"
#include "mm/vcompound.hpp"

namespace paean {

void bad_free(Page* page, Order order) {
  const char* complaint = free_complaint(page, order);
  if (complaint == nullptr && page->type() == PageType::VCompound) return free_vcompound(page);
  if (complaint == nullptr && page->may_be_mapped()) {
    arch::check_frames(page_to_pfn(page), order.pages());
    return kmap_free_block(page, order);
  }
  panic("bad free of frame {:#x}, order {}: {} (page word {:08x})", page_to_pfn(page), order,
        complaint != nullptr ? complaint : "no reason found", page->word());
}

const char* free_complaint(const Page* page, Order order) {
  if (page_to_pfn(page) >= frame_limit()) return "no such frame";
  switch (page->type()) {
    case PageType::Hole: return "foreign: no memory there";
    case PageType::Reserved: return "foreign: reserved at boot";
    case PageType::VCompound: return vcompound_complaint(page, order);
    case PageType::Slab: return "the page belongs to a slab: its objects are freed one by one";
    case PageType::Cached: return "double free: the page is free";
    case PageType::Free: {
      // Behind a head inside an allocated block, or free.
      for (u32 up = 1; up < kOrderCount; ++up) {
        const Page* head = pfn_to_page(page_to_pfn(page).align_down(Order{up}));
        if (head->order().value() < up) continue;
        if (head->type() == PageType::Block) return "wrong page: inside a larger block";
        if (head->type() == PageType::Parked) return "double free: inside a parked block";
      }
      return "double free: the page is free";
    }
    case PageType::Parked: return "double free: the page is parked until every CPU has flushed";
    case PageType::Block: break;
  }
  if (page->order() != order) return "wrong order";
  if (page->references() != 1) return "still referenced";
  return nullptr;
}

}  // namespace paean
