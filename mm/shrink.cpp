// Who can give objects back when memory is short.
#include "mm/shrink.hpp"
#include "kernel/spinlock.hpp"
#include "kernel/wait.hpp"
#include "mm/vm_events.hpp"

namespace paean {

namespace {

constinit SpinLock list_lock{LockRank::SlabCaches};
constinit Shrinker* shrinkers GUARDED_BY(list_lock) = nullptr;
constinit WaitQueue left;  // somebody is done with a shrinker

/// The shrinker with this number: called without the lock, because it may sleep, but not unregistered meanwhile.
Shrinker* enter(u32 number) {
  const SpinGuard<IrqSave> guard{list_lock};
  Shrinker* shrinker = shrinkers;
  while (shrinker != nullptr && number-- != 0) shrinker = shrinker->next;
  if (shrinker != nullptr) ++shrinker->running;
  return shrinker;
}

void leave(Shrinker& shrinker) {
  {
    const SpinGuard<IrqSave> guard{list_lock};
    --shrinker.running;
  }
  if (left.waiting() != 0) left.wake_all();
}

}  // namespace

void register_shrinker(Shrinker& shrinker) {
  const SpinGuard<IrqSave> guard{list_lock};
  shrinker.next = shrinkers;
  shrinkers = &shrinker;
}

void unregister_shrinker(Shrinker& shrinker) {
  {
    const SpinGuard<IrqSave> guard{list_lock};
    Shrinker** link = &shrinkers;
    while (*link != nullptr && *link != &shrinker) link = &(*link)->next;
    if (*link != nullptr) *link = shrinker.next;
  }
  left.wait([&] {
    const SpinGuard<IrqSave> guard{list_lock};
    return shrinker.running == 0;
  });
}

u32 run_shrinkers(u32 eagerness, Shrinker::Pace pace) {
  u32 freed = 0;
  for (u32 number = 0; Shrinker* shrinker = enter(number); ++number) {
    const u32 share = shrinker->pace == pace ? shrinker->count() >> eagerness : 0;
    count_event(VmEvent::SlabsScanned, share);
    if (share != 0) freed += shrinker->shrink(share);
    leave(*shrinker);
  }
  return freed;
}

u32 run_shrinkers(u32 eagerness) {
  const u32 prompt = run_shrinkers(eagerness, Shrinker::Pace::Prompt);
  return prompt + run_shrinkers(eagerness, Shrinker::Pace::WaitsForDisks);
}

}  // namespace paean
