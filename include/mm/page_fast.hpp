// The usual way of a block out of and into this CPU's stacks, inlined into users of mm/page_alloc.hpp.
//
// Each step on the stacks is one instruction through FS, so that they need no address in a register. Whatever does not
// fit is left to mm/page_alloc.cpp: an empty or full stack, an interrupt on top of a claim, a wrong free.
// Context: any. From claim to release (percpu_claims) the thread stays on its CPU; interrupts leave the stacks alone.
#pragma once

#include "arch/tlb_checker.hpp"
#include "kernel/fault.hpp"
#include "kernel/preempt.hpp"
#include "lib/hot_path.hpp"
#include "mm/ledger.hpp"
#include "mm/page_stacks.hpp"

namespace paean {

struct PageFast {
  [[gnu::always_inline]] static void account_taken(Page* page, Order order, LedgerRow row) {
    ledger_add(row, order.pages());
    page->set_word(Page::make_block(order, row.value()));
  }

  /// The stack of an order that has one, by its place in the section.
  template <u32 kOrder>
  [[gnu::always_inline]] static auto& stack_of(LedgerRow row) {
    u32 distance = row.zone_index() * sizeof(ZoneStacks);
    if (!__builtin_constant_p(distance)) distance = in_register(distance);
    auto* first = reinterpret_cast<u8*>(page_stacks.in_section().zone);
    ZoneStacks& stacks = *reinterpret_cast<ZoneStacks*>(first + distance);
    if constexpr (kOrder == 0) {
      return stacks.singles;
    } else {
      return stacks.small[small_stack_of(Order{kOrder})];
    }
  }

  /// nullptr if the stack is empty or in use, and while failures are ordered: the slow paths have the site.
  template <u32 kOrder>
  [[gnu::always_inline]] static Page* pop(LedgerRow row) {
    if (any_fault_armed() || !percpu_claims.claim()) [[unlikely]]
      return nullptr;
    auto& stack = stack_of<kOrder>(row);
    u32 left = arch::own_word(stack.count) - 1;
    if (static_cast<i32>(left) < 0) [[unlikely]] {
      percpu_claims.release();
      return nullptr;
    }
    left = in_register(left);
    arch::set_own_word(stack.count, left);
    Page* page = arch::own_word(stack.blocks[left]);
    account_taken(page, Order{kOrder}, row);
    percpu_claims.release();
    if (page == nullptr) __builtin_unreachable();  // so that the callers' test is one of the above
    return page;
  }

  /// So many single pages at once, keep(i, page) for each, which must not allocate; or false, and nothing is done.
  template <typename Keep>
  [[gnu::always_inline]] static bool pop_all(LedgerRow row, u32 pages, Keep keep) {
    if (any_fault_armed() || !percpu_claims.claim()) [[unlikely]]
      return false;
    auto& stack = stack_of<0>(row);
    const u32 left = arch::own_word(stack.count) - pages;
    if (static_cast<i32>(left) < 0) [[unlikely]] {
      percpu_claims.release();
      return false;
    }
    arch::set_own_word(stack.count, left);
    ledger_add(row, pages);
    for (u32 i = 0; i < pages; ++i) {
      Page* page = arch::own_word(stack.blocks[left + i]);
      page->set_word(Page::make_block(Order{0}, row.value()));
      keep(i, page);
    }
    percpu_claims.release();
    return true;
  }

  /// Single pages by sixteens for what needs `pages` of them, as far as they are at hand: keep(i, page) for each, as
  /// above. Returns how many; the rest is for others to get.
  template <typename Keep>
  [[gnu::always_inline]] static u32 pop_most(LedgerRow row, u32 pages, Keep keep) {
    constexpr u32 kAtOnce = 16;
    u32 done = 0;
    while (done + kAtOnce <= pages && pop_all(row, kAtOnce, [&](u32 i, Page* page) { keep(done + i, page); }))
      done += kAtOnce;
    return done;
  }

  /// False, and nothing is done, if the stack is full or in use, or if the free is not a legal one of frames.
  template <u32 kOrder>
  [[gnu::always_inline]] static bool push(Page* page) {
    constexpr Order kThis{kOrder};
    const LedgerRow row{page->word() - Page::make_block(kThis, 0)};  // checks type, order and references
    if (row.value() > Page::kRowMask) [[unlikely]]
      return false;
    arch::check_frames(page_to_pfn(page), kThis.pages());
    if (!percpu_claims.claim()) [[unlikely]]
      return false;
    auto& stack = stack_of<kOrder>(row);
    const u32 count = arch::own_word(stack.count);
    if (count == stack_limit(kThis)) [[unlikely]] {
      percpu_claims.release();
      return false;
    }
    ledger_subtract(row, kThis.pages());
    page->set_word(Page::make_cached(kThis));
    arch::set_own_word(stack.blocks[count], page);
    arch::add_to_own_word(stack.count, 1);
    percpu_claims.release();
    return true;
  }
};

}  // namespace paean
