// What is wrong with a free, or only unusual. In a file of its own, so that the compiler does not know that bad_free()
// never returns: the fast paths then jump here and stay leaf functions without a frame.
#include "mm/bad_free.hpp"

#include "mm/kmap.hpp"
#include "mm/page_alloc.hpp"

namespace paean {

void bad_free(Page* page, Order order) {
  const char* complaint = free_complaint(page, order);
  if (complaint == nullptr && page->may_be_mapped()) {
    kmap_drop_block(page, order);
    return free_pages(page, order);
  }
  panic("bad free of frame {:#x}, order {}: {} (page word {:08x})", page_to_pfn(page), order,
        complaint != nullptr ? complaint : "no reason found", page->word());
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

}  // namespace paean
