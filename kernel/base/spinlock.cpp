#include "kernel/spinlock.hpp"

#include "arch/lock.hpp"

namespace paean {

namespace {

PER_CPU(HeldLocks, spinning_locks);

}  // namespace

LockRanks held_ranks() { return spinning_locks.local().ranks(); }
const HeldLocks& spinning_locks_of(u32 cpu) { return spinning_locks.on(cpu); }

#ifdef PAEAN_DEBUG

namespace {

constinit bool checking = true;

LockContext present_context(u32 eflags) {
  const u32 count = preempt_count.get();
  return LockContext{.interrupts_on = (eflags & arch::kEflagsIf) != 0,
                     .interrupt_depth = count / kInterruptCount,
                     .preempt_depth = count % kInterruptCount};
}

[[noreturn]] void report(LockFault fault, const LockUse* lock, const HeldLocks& held) {
  checking = false;  // the panic itself takes locks
  if (lock == nullptr) panic("{}, ranks {:#x} held", lock_fault_name(fault), held.ranks());
  panic("{}: rank {}, ranks {:#x} held", lock_fault_name(fault), static_cast<u32>(lock->rank), held.ranks());
}

/// What each event of each lock passes through.
void expect_none(LockFault fault, const LockUse* lock, const HeldLocks& held) {
  if (fault != LockFault::None) [[unlikely]]
    report(fault, lock, held);
}

}  // namespace

void arch::note_lock_wanted(LockUse& lock) {
  const u32 flags = save_and_disable_irqs();
  HeldLocks& held = spinning_locks.local();
  if (checking) expect_none(held.want_spinning(lock, present_context(flags)), &lock, held);
  restore_irqs(flags);
}

void arch::note_lock_released(const LockUse& lock) {
  const u32 flags = save_and_disable_irqs();
  HeldLocks& held = spinning_locks.local();
  if (checking) expect_none(held.release(lock, present_context(flags)), &lock, held);
  restore_irqs(flags);
}

void SpinLock::note_wanted() { arch::note_lock_wanted(use_); }
void SpinLock::note_released() { arch::note_lock_released(use_); }

void check_locks_at_exit(const HeldLocks& sleeping) {
  if (checking) expect_none(sleeping.at_exit(), nullptr, sleeping);
}

void note_sleeping_wanted(LockUse& lock) {
  HeldLocks& held = held_sleeping_locks();
  const u32 flags = arch::read_eflags();
  if (checking) expect_none(held.want_sleeping(lock, spinning_locks.local(), present_context(flags)), &lock, held);
}

void note_sleeping_released(const LockUse& lock) {
  HeldLocks& held = held_sleeping_locks();
  if (checking) expect_none(held.release(lock, present_context(arch::read_eflags())), &lock, held);
}

#endif

}  // namespace paean
