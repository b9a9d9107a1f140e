// Spin locks: short, not sleeping, ranked.
//
//   SpinLock lock{LockRank::Zone};
//   SpinGuard<IrqSave> guard{lock};     // taken from interrupts too: this CPU's interrupts are off while it is held
//   SpinGuard<NoIrq> guard{lock};       // caller has interrupts off already, or no interrupt takes this lock
//
// The mode is part of the guard's type and mandatory. Every lock has a rank (lib/lock_rank.hpp); a CPU takes locks
// in rising rank only, which DEBUG=1 builds check, with the other rules of kernel/lock_checker.hpp, at each
// acquisition. Never hold one while sleeping or while waiting for another CPU. Preemption is off while one is held,
// whatever the mode. A wake-up that became due meanwhile is acted upon when the guard ends. Cost without contention:
// one locked instruction and four others.
#pragma once

#include "arch/irq.hpp"
#include "arch/percpu.hpp"
#include "kernel/lock_checker.hpp"
#include "kernel/preempt.hpp"
#include "lib/assert.hpp"
#include "lib/lock_rank.hpp"
#include "lib/thread_annotations.hpp"

namespace paean {

struct IrqSave {};
struct NoIrq {};

class CAPABILITY("spinlock") SpinLock {
 public:
  constexpr explicit SpinLock(LockRank rank) : use_(rank) {}
  SpinLock(const SpinLock&) = delete;
  SpinLock& operator=(const SpinLock&) = delete;

  void lock() ACQUIRE() {
    preempt_disable();
    note_wanted();
    while (!take()) [[unlikely]] {
      while (__atomic_load_n(&held_, __ATOMIC_RELAXED) != 0) arch::cpu_relax();
    }
  }
  /// False if somebody has it.
  [[nodiscard]] bool try_lock() TRY_ACQUIRE(true) {
    preempt_disable();
    if (take()) {
      note_wanted();
      return true;
    }
    preempt_enable_no_check();
    return false;
  }
  /// Guards look afterwards whether somebody waits for this CPU.
  void unlock() RELEASE() {
    note_released();
    __atomic_store_n(&held_, 0u, __ATOMIC_RELEASE);
    preempt_enable_no_check();
  }
  bool is_held() const { return __atomic_load_n(&held_, __ATOMIC_RELAXED) != 0; }

 private:
#ifdef PAEAN_DEBUG
  void note_wanted();
  void note_released();
#else
  void note_wanted() {}
  void note_released() {}
#endif
  /// False if it is taken. A bit, because that needs no register and its answer is a flag.
  [[gnu::always_inline]] bool take() {
    bool was_held;
    asm volatile("lock btsl $0, %1" : "=@ccc"(was_held), "+m"(held_) : : "memory");
    return !was_held;
  }

  u32 held_ = 0;
  [[maybe_unused]] LockUse use_;
};

/// Ranks that this CPU holds; none in release builds. Exact with interrupts off, or where nothing is held.
LockRanks held_ranks();

// For sleeping locks: what they report to the checker. Nothing in release builds.
#ifdef PAEAN_DEBUG
void note_sleeping_wanted(LockUse& lock);
void note_sleeping_released(const LockUse& lock);
void check_locks_at_exit(const HeldLocks& sleeping);
#else
inline void note_sleeping_wanted(LockUse&) {}
inline void note_sleeping_released(const LockUse&) {}
inline void check_locks_at_exit(const HeldLocks&) {}
#endif
/// The running thread's, in kernel/sched/.
HeldLocks& held_sleeping_locks();
/// What a CPU holds, for `locks`: empty in release builds.
const HeldLocks& spinning_locks_of(u32 cpu);

/// Acts upon a wake-up that came while preemption was off. Two instructions if there was none.
inline void check_after_unlock() {
  if (!need_resched.is_zero()) [[unlikely]]
    preempt_check();
}

template <typename Mode>
class SpinGuard;

template <>
class [[nodiscard]] SCOPED_CAPABILITY SpinGuard<IrqSave> {
 public:
  explicit SpinGuard(SpinLock& lock) ACQUIRE(lock) : flags_(arch::save_and_disable_irqs()), lock_(lock) {
    lock_.lock();
  }
  ~SpinGuard() RELEASE() {
    lock_.unlock();
    arch::restore_irqs(flags_);
    check_after_unlock();
  }
  SpinGuard(const SpinGuard&) = delete;
  SpinGuard& operator=(const SpinGuard&) = delete;

 private:
  u32 flags_;
  SpinLock& lock_;
};

template <>
class [[nodiscard]] SCOPED_CAPABILITY SpinGuard<NoIrq> {
 public:
  explicit SpinGuard(SpinLock& lock) ACQUIRE(lock) : lock_(lock) { lock_.lock(); }
  ~SpinGuard() RELEASE() {
    lock_.unlock();
    check_after_unlock();
  }
  SpinGuard(const SpinGuard&) = delete;
  SpinGuard& operator=(const SpinGuard&) = delete;

 private:
  SpinLock& lock_;
};

}  // namespace paean
