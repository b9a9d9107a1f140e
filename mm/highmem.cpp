#include "mm/highmem.hpp"

namespace paean {

constinit DirectMap direct_map{};
constinit u32 direct_words = 0;

namespace {

void assert_within_page(u32 offset, usize length) { ASSERT(offset <= kPageSize && length <= kPageSize - offset); }

void clear_page_at(void* at) {
  u32 words = kPageSize / 4;
  asm volatile("rep stosl" : "+D"(at), "+c"(words) : "a"(0) : "memory");
}

void copy_page_at(void* out, const void* in) {
  u32 words = kPageSize / 4;
  asm volatile("rep movsl" : "+D"(out), "+S"(in), "+c"(words) : : "memory");
}

[[gnu::noinline]] void copy_with_guards(Page* to, const Page* from) {
  const KmapLocal source{from};
  const KmapLocal target{to};
  copy_page_at(target.data(), source.data());
}

}  // namespace

void kunmap_local(const void* at) {
  if (at >= reinterpret_cast<void*>(arch::kFixmapStart.raw())) return arch::fix_pop(at);
  if (!direct_map.shows_at(VirtAddr{reinterpret_cast<u32>(at)})) {
    arch::fix_stack_error("not a local map", __builtin_return_address(0));
  }
}

void kunmap_atomic(const void* at) {
  kunmap_local(at);
  preempt_enable();
}

// The two that are called most map by themselves: here one sees that the newest map is the one that ends, which a guard
// has to find out.
void clear_highpage(Page* page) {
  const bool is_low = has_address(page);
  void* at = is_low ? direct_address(page) : push_local_map(word_distance(page));
  clear_page_at(at);
  if (!is_low) arch::fix_pop_newest(at);
}

void copy_highpage(Page* to, const Page* from) {
  const u32 from_distance = word_distance(from), to_distance = word_distance(to);
  if (from_distance < direct_words) [[unlikely]]
    return copy_with_guards(to, from);
  if (to_distance < direct_words) [[unlikely]]
    return copy_with_guards(to, from);
  u8* in = static_cast<u8*>(push_local_map(from_distance));
  (void)push_local_map(to_distance);
  u8* out = in + arch::kFixSlotBytes;  // the next slot, for nobody gets in between on a stack
  copy_page_at(out, in);
  arch::fix_pop_newest(out);
  arch::fix_pop_newest(in);
}

void zero_user(Page* page, u32 offset, u32 length) {
  assert_within_page(offset, length);
  const KmapLocal map{page};
  __builtin_memset(map.as<u8>() + offset, 0, length);
}

void copy_to_page(Page* page, u32 offset, std::span<const u8> from) {
  assert_within_page(offset, from.size());
  const KmapLocal map{page};
  copy_bytes(map.as<u8>() + offset, from.data(), from.size());
}

void copy_from_page(std::span<u8> to, const Page* page, u32 offset) {
  assert_within_page(offset, to.size());
  const KmapLocal map{page};
  copy_bytes(to.data(), map.as<u8>() + offset, to.size());
}

}  // namespace paean
