// The rules of locking as a machine that can say when one is broken.
//
// Fed with what happens (a lock is wanted, released, somebody is about to sleep ...) and the context that it happens
// in, it answers with the fault, or None. DEBUG=1 kernels feed it with everything and panic at the first fault; the
// tests feed it with wrong patterns and count.
//
//   HeldLocks    what one CPU (spinning locks) or one thread (sleeping locks) holds, oldest first
//   LockUse      one lock: its rank, and how it has been used so far (lib/lock_rank.hpp)
//
// Rules:
//   Order            a lock's rank is above the ranks of all locks held: spinning ones by this CPU, whatever it has
//                    interrupted included; sleeping ones by this thread
//   Recursion        no lock is taken by its holder again; a reader may not become a writer
//   NotHeld          only what is held is released, by its holder
//   IrqUnsafe        a lock that interrupt handlers take is always taken with interrupts off
//   SleepInAtomic    nothing that may sleep in a handler, with interrupts or preemption off, with a spinning lock held
//   HeldAtExit       a thread that ends holds nothing; neither does a handler that returns hold what it took
//   InterruptsOn     interrupts stay off while a lock is held that was taken with them off
//   TooDeep          more locks at once than anybody needs: some were never released
//
// Pure: no state of its own. A CPU's HeldLocks is used with interrupts off, a thread's by itself.
#pragma once

#include "lib/lock_rank.hpp"
#include "lib/types.hpp"

namespace paean {

enum class LockFault : u8 {
  None,
  Order,
  Recursion,
  NotHeld,
  IrqUnsafe,
  SleepInAtomic,
  HeldAtExit,
  InterruptsOn,
  TooDeep,
};
inline constexpr u32 kLockFaults = 9;
const char* lock_fault_name(LockFault fault);

/// Where an event happens.
struct LockContext {
  bool interrupts_on = true;
  u32 interrupt_depth = 0;
  u32 preempt_depth = 0;  // scopes with preemption off; spinning locks count too
};

class HeldLocks {
 public:
  static constexpr u32 kDepth = 12;  // ranks are strict, so a correct kernel holds a few at most

  /// Before a spinning lock is waited for. On None it counts as held.
  LockFault want_spinning(LockUse& lock, const LockContext& context);
  /// Before a sleeping lock is waited for; `spinning` is what this CPU holds. On None it counts as held.
  LockFault want_sleeping(LockUse& lock, const HeldLocks& spinning, const LockContext& context);
  LockFault release(const LockUse& lock, const LockContext& context);
  /// At the end of a thread.
  LockFault at_exit() const { return count_ == 0 ? LockFault::None : LockFault::HeldAtExit; }
  /// At the end of an interrupt handler, with what mark() said at its beginning.
  u32 mark() const { return count_; }
  LockFault at_interrupt_exit(u32 mark) const { return count_ <= mark ? LockFault::None : LockFault::HeldAtExit; }

  bool holds(const LockUse& lock) const;
  u32 count() const { return count_; }
  LockRanks ranks() const;
  void clear() { count_ = 0; }

 private:
  struct Held {
    const LockUse* lock;
    bool interrupts_on;
  };
  /// Order or Recursion.
  LockFault fault_of_order(const LockUse& lock) const;
  LockFault add(const LockUse& lock, const LockContext& context);

  Held held_[kDepth]{};  // by rising rank, because none but that is ever added
  u32 count_ = 0;
};

/// Before anything that may sleep.
LockFault want_sleep(const HeldLocks& spinning, const LockContext& context);

}  // namespace paean
