#include "mm/highmem.hpp"

namespace paean {

constinit DirectMap direct_map{};

void clear_highpage(Page* page) {
  const KmapAtomic map{page};
  void* at = map.data();
  u32 words = kPageSize / 4;
  asm volatile("rep stosl" : "+D"(at), "+c"(words) : "a"(0) : "memory");
}

}  // namespace paean
