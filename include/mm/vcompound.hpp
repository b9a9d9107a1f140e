// Virtual blocks: 2^order pages from anywhere, contiguous in addresses alone.
//
//   Page* head = TRY(alloc_pages(AllocFlags::Kernel | AllocFlags::VFallback, Order{5}, Owner::User));
//   u8* at = pointer(*page_address(head));           // 128 KiB
//   free_pages(head, Order{5});
//
//   block of frames    frame    800   801  802  803
//                      word    |Block|Free|Free|Free|     one word says it all
//
//   virtual block      frame     31a2f     05104     1b007     7c001
//                      word    |VComp.01|VComp.02|VComp.03|VComp.04|     each says where it is seen
//                      address  f0345000 f0346000 f0347000 f0348000 guard
//
// alloc_pages() with VFallback looks for a block of frames first, without asking anybody to give something back, and
// takes a virtual one only if there is none; so it fails only when single pages or addresses of vmalloc are used up.
// Which kind it became need not be known: alloc_pages, page_address, the calls below, Page::get, put_page, free_pages,
// free_pages_at, kmap and local maps of any of its pages do the same for both. What still differs: the pages of a
// virtual block have no neighbouring frames, so `head + n` is not its page n, and devices cannot take it as one piece.
//
// The pages of a request for lowmem may be highmem, since they have an address; Dma and Dma32 stay what they are. Each
// page's word holds the page's place in the address space, so page_address() is one load. The order and the references
// hang on the area (mm/vmalloc_area.hpp), which is found by the entry in front of it; a free parks it like vfree does,
// and needs neither memory nor anybody else.
//
// Owner: whoever asked, until the free; then the frames are vmalloc's until every CPU has flushed. Context: any, as
// the flags say: locks are held for a few instructions with interrupts off, nothing sleeps but a second attempt of a
// thread that may wait, after a purge. Errors: OutOfMemory. Wrong frees panic with the frame's story, as for other
// blocks.
// Source: Christoph Lameter, "Virtual Compound Pages", 2007.
#pragma once

#include "kernel/cmdline.hpp"
#include "mm/page_alloc.hpp"

namespace paean {

/// Page n of a block. Precondition: `head` is the first page of one, and n is below its size.
Page* compound_nth_page(Page* head, u32 n);
/// The first page of the allocated block, of either kind, that holds a page; nullptr if none does. At most as many
/// entries are looked at as the block has pages.
Page* compound_head(Page* page);
/// Of the first page of an allocated block.
Order compound_order(const Page* head);
/// The page that has this address, by page_address(); nullptr if none has. `at` is the start of a page.
Page* page_with_address(VirtAddr at);

/// For people. `head` is nullptr if the block is freed already.
struct VCompoundInfo {
  const Page* head = nullptr;
  Order order{0};
  u32 index = 0, references = 0;
};
VCompoundInfo vcompound_info(const Page* page);

// `vfallback=always`: from the end of boot on, VFallback takes a block of frames only if there is no virtual one.

void init_vfallback(const CommandLine& options, Sink& complaints);
extern u32 vfallback_forced;  // by how many
inline bool vfallback_is_forced() { return __atomic_load_n(&vfallback_forced, __ATOMIC_RELAXED) != 0; }
/// The same while it lives, on all CPUs; for tests and benchmarks.
class [[nodiscard]] ForceVFallback {
 public:
  ForceVFallback() { __atomic_fetch_add(&vfallback_forced, 1, __ATOMIC_RELAXED); }
  ~ForceVFallback() { __atomic_fetch_sub(&vfallback_forced, 1, __ATOMIC_RELAXED); }
  ForceVFallback(const ForceVFallback&) = delete;
  ForceVFallback& operator=(const ForceVFallback&) = delete;
};

// For the frame allocator.

/// A virtual block, whatever else there is. `caller` is who vmallocinfo names.
[[nodiscard]] Result<Page*> take_vcompound(AllocFlags flags, Order order, Owner owner, const void* caller);
/// Of the first page of a virtual block with one reference.
void free_vcompound(Page* head);
/// Why free_vcompound() must not be called; nullptr if it may. `page` has the type VCompound.
const char* vcompound_complaint(const Page* page, Order order);
void get_vcompound(Page* head);
[[nodiscard]] bool put_vcompound(Page* head);
/// Makes a VCompound page an ordinary single one with the same owner.
inline void leave_vcompound(Page* page) {
  const u32 word = page->word();
  page->set_word((word & Page::kMapped) | Page::make_block(Order{0}, word & Page::kRowMask));
}

}  // namespace paean
