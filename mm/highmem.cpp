#include "mm/highmem.hpp"

namespace paean {

constinit DirectMap direct_map{};
constinit u32 direct_words = 0;

namespace {

void assert_within_page(u32 offset, usize length) { ASSERT(offset <= kPageSize && length <= kPageSize - offset); }

}  // namespace

void kunmap_local(const void* at) {
  if (at >= reinterpret_cast<void*>(arch::kFixmapStart.raw())) return arch::fix_pop(at);
  const u32 offset = reinterpret_cast<u32>(at) - direct_map.page_offset.raw();
  if (Pfn{offset >> kPageShift} >= direct_map.end) {
    arch::fix_stack_error("not a local map", __builtin_return_address(0));
  }
}

void kunmap_atomic(const void* at) {
  kunmap_local(at);
  preempt_enable();
}

void clear_highpage(Page* page) {
  const KmapLocal map{page};
  void* at = map.data();
  u32 words = kPageSize / 4;
  asm volatile("rep stosl" : "+D"(at), "+c"(words) : "a"(0) : "memory");
}

void copy_highpage(Page* to, const Page* from) {
  const KmapLocal source{from};
  const KmapLocal target{to};
  void* out = target.data();
  const void* in = source.data();
  u32 words = kPageSize / 4;
  asm volatile("rep movsl" : "+D"(out), "+S"(in), "+c"(words) : : "memory");
}

void zero_user(Page* page, u32 offset, u32 length) {
  assert_within_page(offset, length);
  const KmapLocal map{page};
  __builtin_memset(map.as<u8>() + offset, 0, length);
}

void copy_to_page(Page* page, u32 offset, std::span<const u8> from) {
  assert_within_page(offset, from.size());
  const KmapLocal map{page};
  __builtin_memcpy(map.as<u8>() + offset, from.data(), from.size());
}

void copy_from_page(std::span<u8> to, const Page* page, u32 offset) {
  assert_within_page(offset, to.size());
  const KmapLocal map{page};
  __builtin_memcpy(to.data(), map.as<u8>() + offset, to.size());
}

}  // namespace paean
