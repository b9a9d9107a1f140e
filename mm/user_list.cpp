#include "kernel/wait.hpp"
#include "mm/user_swap.hpp"

namespace paean {

namespace {

/// A leaf, taken under the lock of processes: nothing else is taken with it held. Also guards which space a thread
/// uses, so that none ends while somebody looks at it by way of a thread.
constinit SpinLock spaces_lock{LockRank::UserSpaces};
constinit UserSpaceList::List all_spaces GUARDED_BY(spaces_lock);
constinit WaitQueue unpinned;

}  // namespace

void UserSpaceList::add(UserSpace& space) {
  const SpinGuard<IrqSave> guard{spaces_lock};
  all_spaces.push_back(space);
}

void UserSpaceList::remove(UserSpace& space) {
  unpinned.wait([&space] {
    const SpinGuard<IrqSave> guard{spaces_lock};
    if (space.visitors_ != 0) return false;
    all_spaces.erase(space);
    return true;
  });
}

UserSpace* UserSpaceList::pin_first() { return pin_next(nullptr); }

UserSpace* UserSpaceList::pin_next(UserSpace* previous) {
  UserSpace* next;
  {
    const SpinGuard<IrqSave> guard{spaces_lock};
    next = previous != nullptr ? List::behind(*previous) : all_spaces.first();
    if (next != nullptr) ++next->visitors_;
  }
  if (previous != nullptr) unpin(*previous);
  return next;
}

void UserSpaceList::unpin(UserSpace& space) {
  {
    const SpinGuard<IrqSave> guard{spaces_lock};
    if (--space.visitors_ != 0) return;
  }
  (void)unpinned.wake_all();
}

void UserSpaceList::move_to_back(UserSpace& space) {
  const SpinGuard<IrqSave> guard{spaces_lock};
  all_spaces.move_to_back(space);
}

u32 UserSpaceList::count() {
  const SpinGuard<IrqSave> guard{spaces_lock};
  return all_spaces.count();
}

void UserSpaceList::note_use(UserSpace* space, arch::IrqsOff) {
  const SpinGuard<NoIrq> guard{spaces_lock};
  thread_user_space(current_thread()) = space;
}

std::optional<UserSize> UserSpace::size_for(Thread* thread) {
  const SpinGuard<IrqSave> guard{spaces_lock};
  const UserSpace* space = thread_user_space(thread);
  if (space == nullptr) return std::nullopt;
  return space->rough_size();
}

}  // namespace paean
