// The clock that chooses pages, and its thread.
//
//   hand --> | space | space | space |     one space from its start to its end, then it goes to the back of the list
//
// A page gets its second chance between two visits of its space. A visit that begins again where it began, twice over
// all spaces, has seen every page with its accessed bit off once, or in use again.
#include "arch/irq.hpp"
#include "kernel/wait.hpp"
#include "lib/log.hpp"
#include "mm/swap_turn.hpp"
#include "mm/user_swap.hpp"

namespace paean {

namespace {

constexpr u32 kRoundPages = 128;   // that a round tries to write: some ms of a disk's time
constexpr u32 kPatienceMs = 5000;  // a disk that answers no faster is as good as none

constinit std::atomic<Thread*> swap_thread{nullptr};
constinit std::atomic<u32> asked{0}, highest_asked{0};  // so often; for zones up to this one
constinit std::atomic<u32> served{0}, gone{0};          // what was asked so far; pages that have left since boot
constinit WaitQueue work, round_over;

bool has_room() { return swap_totals().free != 0; }

}  // namespace

constinit Mutex swap_turn{LockRank::SwapTurn};

class SwapClock {
 public:
  /// Pages that have left. It is the caller's turn.
  static u32 go(u32 wanted, ZoneId highest) {
    u32 gone = 0;
    for (u32 ends = 2 * UserSpaceList::count() + 1; ends != 0 && gone < wanted && has_room();) {
      UserSpace* space = UserSpaceList::pin_first();
      if (space == nullptr) break;
      OldPages old;
      const bool more = space->choose_old(highest, old);
      gone += space->swap_out(old);
      if (!more) {
        --ends;
        UserSpaceList::move_to_back(*space);
      }
      UserSpaceList::unpin(*space);
    }
    return gone;
  }
};

namespace {

void swap_main(void* /*unused*/) {
  while (true) {
    work.wait([] { return asked.load() != served.load(); });
    const u32 until = asked.load();
    const auto highest = static_cast<ZoneId>(highest_asked.exchange(0));
    {
      const MutexGuard turn{swap_turn};
      gone.fetch_add(SwapClock::go(kRoundPages, highest));
    }
    drain_local_pages();  // where others find them
    served.store(until);
    (void)round_over.wake_all();
  }
}

/// What `served` will have reached when a round that began later is over.
u32 ask(ZoneId highest) {
  const u32 zone = std::to_underlying(highest);
  for (u32 seen = highest_asked.load(); seen < zone && !highest_asked.compare_exchange_weak(seen, zone);) {}
  const u32 mine = asked.fetch_add(1) + 1;
  (void)work.wake_all();
  return mine;
}

}  // namespace

bool wait_for_swap(const ReclaimRequest& request) {
  constexpr u32 kMostOrder = 3;  // a larger block does not come together page by page
  if (!request.may_start_io() || request.order.value() > kMostOrder || request.flags.zone() == ZoneId::Dma)
    return false;
  if (current_thread() == swap_thread.load() || !has_room()) return false;
  // Whatever has left since: who wakes late finds another round over, which may have found nothing because his own took
  // it all, and what that has freed may be somebody else's. None of that is a reason to end a program.
  const u32 before = gone.load(), mine = ask(request.flags.zone());
  (void)round_over.wait_for_ms(kPatienceMs, [mine] { return static_cast<i32>(served.load() - mine) >= 0; });
  return gone.load() != before;
}

void init_swap() {
  const Result<Thread*> thread = thread_create("kswap", swap_main, nullptr, {.detach = Detach::Yes});
  if (!thread) panic("no memory for the thread that writes to the swap");
  swap_thread.store(*thread);
}

}  // namespace paean
