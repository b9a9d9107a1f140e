#include "mm/reclaim.hpp"

#include <array>

#include "arch/irq.hpp"
#include "kernel/preempt.hpp"
#include "mm/kmap.hpp"
#include "mm/kswapd.hpp"
#include "mm/lending.hpp"
#include "mm/page_cache.hpp"
#include "mm/page_stacks.hpp"
#include "mm/swap.hpp"
#include "mm/vm_events.hpp"
#include "mm/vmalloc_cache.hpp"

namespace paean {

namespace {

enum class Asked : u8 { Once, WhileItHelps };

/// Somebody who can give pages back. `give`: something may have become free for this request.
struct Giver {
  bool (*give)(const ReclaimRequest& request);
  Asked asked;
};

constexpr std::array kGivers{
    Giver{[](const ReclaimRequest&) { return kmap_give_back(); }, Asked::Once},
    Giver{[](const ReclaimRequest& request) { return recall_lowmem(request.flags, request.order); },
          Asked::WhileItHelps},
    Giver{reclaim_page_cache, Asked::WhileItHelps},
    Giver{[](const ReclaimRequest&) { return give_back_parked(); }, Asked::Once},
    Giver{[](const ReclaimRequest& request) { return request.may_wait() && drain_all_pages(); }, Asked::Once},
    Giver{[](const ReclaimRequest& request) { return wait_for_shrinkers(request.flags, request.order); }, Asked::Once},
    Giver{wait_for_swap, Asked::WhileItHelps},
};

constexpr VmEvent stall_of(ZoneId highest) {
  return static_cast<VmEvent>(std::to_underlying(VmEvent::AllocStallDma) + std::to_underlying(highest));
}
static_assert(stall_of(ZoneId::HighMem) == VmEvent::AllocStallHigh);

}  // namespace

bool ReclaimRequest::may_wait() const {
  return !flags.has(AllocFlags::Atomic) && preempt_count.get() == 0 && arch::irqs_enabled();
}

bool Reclaim::ask_next() {
  if (!std::exchange(stalled_, true) && request_.may_wait()) count_event(stall_of(request_.flags.zone()));
  while (giver_ < kGivers.size()) {
    const Giver& giver = kGivers[giver_];
    const bool helped = giver.give(request_);
    if (!helped || giver.asked == Asked::Once) ++giver_;
    if (helped) return true;
  }
  return false;
}

}  // namespace paean
