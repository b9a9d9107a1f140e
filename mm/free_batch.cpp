#include "mm/free_batch.hpp"

#include "arch/tlb_checker.hpp"
#include "kernel/preempt.hpp"
#include "lib/hot_path.hpp"
#include "mm/page_stacks.hpp"

namespace paean {

namespace {

/// Single pages at the front of `pages` that have one holder and are all of one ledger row go to this CPU's stack as
/// far as it has room; how many.
u32 fill_stack(std::span<Page* const> pages) {
  if (!percpu_claims.claim()) [[unlikely]]
    return 0;
  const u32 word = pages[0]->word(), row = word - Page::make_block(Order{0}, 0);
  u32 done = 0;
  if (row <= Page::kRowMask) [[likely]] {
    ZoneStacks::Singles& stack = page_stacks.local().zone[LedgerRow{row}.zone_index()].singles;
    const u32 most = std::min(static_cast<u32>(pages.size()), ZoneStacks::Singles::kCapacity - stack.count);
    Page** const place = stack.blocks + stack.count;
    for (; done < most; ++done) {
      Page* const page = pages[done];
      if (!word_is(*page, word)) [[unlikely]]
        break;
      arch::check_frames(page_to_pfn(page), 1);
      page->set_word(Page::make_cached(Order{0}));
      place[done] = page;
    }
    ledger_subtract(LedgerRow{row}, done);
    stack.count += done;
  }
  percpu_claims.release();
  return done;
}

}  // namespace

void free_each_page(std::span<Page* const> pages) {
  for (usize at = 0; at < pages.size();) {
    at += fill_stack(pages.subspan(at));
    if (at < pages.size()) free_page(pages[at++]);
  }
}

void put_pages(std::span<Page* const> pages) {
  for (usize at = 0; at < pages.size();) {
    at += fill_stack(pages.subspan(at));
    if (at < pages.size()) put_page(pages[at++]);
  }
}

}  // namespace paean
