#include "kernel/lock_checker.hpp"

namespace paean {

const char* lock_fault_name(LockFault fault) {
  static constexpr const char* kNames[kLockFaults] = {
      "no fault",
      "lock order",
      "lock taken again by its holder",
      "lock released that is not held here",
      "lock of an interrupt handler taken with interrupts on",
      "sleeping in atomic context",
      "lock held at the end",
      "interrupts turned on with a lock held",
      "too many locks held at once",
  };
  return kNames[static_cast<u32>(fault)];
}

LockFault HeldLocks::fault_of_order(const LockUse& lock) const {
  if (count_ == 0 || held_[count_ - 1].lock->rank < lock.rank) return LockFault::None;
  return holds(lock) ? LockFault::Recursion : LockFault::Order;
}

LockFault HeldLocks::add(const LockUse& lock, const LockContext& context) {
  if (count_ == kDepth) return LockFault::TooDeep;
  held_[count_++] = Held{&lock, context.interrupts_on};
  return LockFault::None;
}

LockFault HeldLocks::want_spinning(LockUse& lock, const LockContext& context) {
  if (const LockFault fault = fault_of_order(lock); fault != LockFault::None) return fault;
  // Written only when it changes: the line is shared by all who use the lock.
  if (context.interrupt_depth != 0 && !lock.taken_in_interrupt) lock.taken_in_interrupt = true;
  if (context.interrupts_on && !lock.taken_with_interrupts_on) lock.taken_with_interrupts_on = true;
  if (lock.taken_in_interrupt && lock.taken_with_interrupts_on) return LockFault::IrqUnsafe;
  return add(lock, context);
}

LockFault HeldLocks::want_sleeping(LockUse& lock, const HeldLocks& spinning, const LockContext& context) {
  if (const LockFault fault = want_sleep(spinning, context); fault != LockFault::None) return fault;
  if (const LockFault fault = fault_of_order(lock); fault != LockFault::None) return fault;
  return add(lock, context);
}

LockFault HeldLocks::release(const LockUse& lock, const LockContext& context) {
  for (u32 i = count_; i-- != 0;) {
    if (held_[i].lock != &lock) continue;
    const bool turned_on = context.interrupts_on && !held_[i].interrupts_on;
    for (--count_; i < count_; ++i) held_[i] = held_[i + 1];
    return turned_on ? LockFault::InterruptsOn : LockFault::None;
  }
  return LockFault::NotHeld;
}

bool HeldLocks::holds(const LockUse& lock) const {
  for (u32 i = 0; i < count_; ++i) {
    if (held_[i].lock == &lock) return true;
  }
  return false;
}

LockRanks HeldLocks::ranks() const {
  LockRanks mask = 0;
  for (u32 i = 0; i < count_; ++i) mask |= mask_of(held_[i].lock->rank);
  return mask;
}

LockFault want_sleep(const HeldLocks& spinning, const LockContext& context) {
  const bool atomic = context.interrupt_depth != 0 || !context.interrupts_on || context.preempt_depth != 0;
  return atomic || spinning.count() != 0 ? LockFault::SleepInAtomic : LockFault::None;
}

}  // namespace paean
