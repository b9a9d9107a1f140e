// How a wrong kunmap ends. In a file of its own, so that the compiler does not know that these never return: the fast
// path then jumps here and stays without a frame.
#include "lib/symbols.hpp"
#include "mm/kmap_debug.hpp"
#include "mm/lowmem.hpp"

namespace paean {

namespace {

[[noreturn]] void die(const void* at, const char* what, const void* from) {
  const Symbol caller = find_symbol(VirtAddr{reinterpret_cast<u32>(from)});
  panic("kunmap of {:08x}: {} (called from {}+{:#x})", reinterpret_cast<u32>(at), what, caller.name, caller.offset);
}

}  // namespace

void map_error(Page* page) {
  const Page* head = block_head(page);
  const bool parked = head != nullptr && head->type() == PageType::Parked;
  panic("kmap of frame {:#x}, which is {} (page word {:08x})", page_to_pfn(page),
        parked                           ? "freed and parked"
        : page->type() == PageType::Hole ? "no memory"
                                         : "free",
        page->word());
}

void unmap_error(const void* at, const char* what) { die(at, what, __builtin_return_address(0)); }

void unmap_direct(const void* at) {
  if (!direct_map.shows_at(VirtAddr{reinterpret_cast<u32>(at)})) {
    die(at, "not a mapped page", __builtin_return_address(0));
  }
}

}  // namespace paean
