#include "kernel/spinlock.hpp"

#include "arch/lock.hpp"

namespace paean {

PER_CPU(LockRanks, held_ranks){LockRanks{0}};

namespace {

PER_CPU(HeldLocks, spinning_locks);

}  // namespace

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

void report(LockFault fault, const LockUse* lock, LockRanks ranks) {
  if (fault == LockFault::None || !checking) return;
  checking = false;  // the panic itself takes locks
  if (lock == nullptr) panic("{}, ranks {:#x} held", lock_fault_name(fault), ranks);
  panic("{}: rank {}, ranks {:#x} held", lock_fault_name(fault), static_cast<u32>(lock->rank), ranks);
}

}  // namespace

void arch::note_lock_wanted(LockUse& lock) {
  const u32 flags = save_and_disable_irqs();
  HeldLocks& held = spinning_locks.local();
  const LockFault fault = checking ? held.want_spinning(lock, present_context(flags)) : LockFault::None;
  report(fault, &lock, held.ranks());
  held_ranks.local() = held.ranks();
  restore_irqs(flags);
}

void arch::note_lock_released(const LockUse& lock) {
  const u32 flags = save_and_disable_irqs();
  HeldLocks& held = spinning_locks.local();
  const LockFault fault = checking ? held.release(lock, present_context(flags)) : LockFault::None;
  report(fault, &lock, held.ranks());
  held_ranks.local() = held.ranks();
  restore_irqs(flags);
}

void SpinLock::note_wanted() { arch::note_lock_wanted(use_); }
void SpinLock::note_released() { arch::note_lock_released(use_); }

void check_locks_at_exit(const HeldLocks& sleeping) { report(sleeping.at_exit(), nullptr, sleeping.ranks()); }

void note_sleeping_wanted(LockUse& lock) {
  HeldLocks& held = held_sleeping_locks();
  const u32 flags = arch::read_eflags();
  if (checking) report(held.want_sleeping(lock, spinning_locks.local(), present_context(flags)), &lock, held.ranks());
}

void note_sleeping_released(const LockUse& lock) {
  HeldLocks& held = held_sleeping_locks();
  if (checking) report(held.release(lock, present_context(arch::read_eflags())), &lock, held.ranks());
}

#endif

}  // namespace paean
