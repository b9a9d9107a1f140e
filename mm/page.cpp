#include "mm/page.hpp"

#include "mm/vcompound.hpp"

namespace paean {

constinit Page* frame_words = nullptr;
constinit Pfn frame_words_limit{};

std::string_view name(Owner owner) {
  switch (owner) {
    case Owner::Kernel: return "kernel";
    case Owner::User: return "user";
    case Owner::PageTables: return "page tables";
    case Owner::PageCache: return "page cache";
    case Owner::Slab: return "slab";
    case Owner::Vmalloc: return "vmalloc";
    case Owner::Stack: return "stacks";
    case Owner::Bounce: return "bounce";
    case Owner::Console: return "console";
    case Owner::Test: return "tests";
    case Owner::PerCpu: return "per-CPU";
    case Owner::Parked: return "parked";
  }
  return "?";
}

void Page::get_slowly() {
  u32 old = word();
  if (type_in(old) == PageType::VCompound) return get_vcompound(this);
  do {
    ASSERT(type_in(old) == PageType::Block && (old & kReferenceMask) != 0);
    if ((old & kReferenceMask) == kReferenceMask) return;
  } while (!__atomic_compare_exchange_n(&word_, &old, old + kOneReference, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
}

bool Page::put_slowly() {
  u32 old = word();
  if (type_in(old) == PageType::VCompound) return put_vcompound(this);
  for (;;) {
    ASSERT(type_in(old) == PageType::Block && (old & kReferenceMask) != 0);
    if ((old & kReferenceMask) == kReferenceMask) return false;
    if ((old & kReferenceMask) == kOneReference) return true;  // the count stays 1 for the free that follows
    const u32 less = old - kOneReference;
    if (__atomic_compare_exchange_n(&word_, &old, less, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) return false;
  }
}

void Page::get_many(u32 count) {
  u32 old = word(), more;
  do {
    ASSERT(is_block(old) && (old & kReferenceMask) != 0);
    const u32 room = (kReferenceMask - (old & kReferenceMask)) / kOneReference;
    more = count < room ? old + count * kOneReference : old | kReferenceMask;
  } while (!__atomic_compare_exchange_n(&word_, &old, more, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
}

void Page::put_many(u32 count) {
  u32 old = word();
  do {
    ASSERT(is_block(old) && (old & kReferenceMask) / kOneReference > count);
    if ((old & kReferenceMask) == kReferenceMask) return;
  } while (!__atomic_compare_exchange_n(&word_, &old, old - count * kOneReference, false, __ATOMIC_ACQ_REL,
                                        __ATOMIC_RELAXED));
}

Page* block_head(Page* page) {
  if (page->type() == PageType::VCompound) return page;
  const Pfn pfn = page_to_pfn(page);
  for (u32 order = 0; order < kOrderCount; ++order) {
    Page* head = pfn_to_page(pfn.align_down(Order{order}));
    const PageType type = head->type();
    if ((type == PageType::Block || type == PageType::Parked) && head->order().value() >= order) return head;
  }
  return nullptr;
}

}  // namespace paean
