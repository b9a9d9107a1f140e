// How a wrong kunmap ends. In a file of its own, so that the compiler does not know that these never return: the fast
// path then jumps here and stays without a frame.
#include "lib/symbols.hpp"
#include "mm/kmap_debug.hpp"
#include "mm/lowmem.hpp"

namespace paean {

void unmap_error(const void* at, const char* what) {
  const Symbol caller = find_symbol(VirtAddr{reinterpret_cast<u32>(__builtin_return_address(0))});
  panic("kunmap of {:08x}: {} (called from {}+{:#x})", reinterpret_cast<u32>(at), what, caller.name, caller.offset);
}

void unmap_direct(const void* at) {
  const u32 offset = reinterpret_cast<u32>(at) - direct_map.page_offset.raw();
  if (Pfn{offset >> kPageShift} >= direct_map.end) unmap_error(at, "not a mapped page");
}

}  // namespace paean
