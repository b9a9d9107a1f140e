// Spin locks: short, not sleeping, ranked.
//
//   SpinLock lock{LockRank::Zone};
//   SpinGuard<IrqSave> guard{lock};     // taken from interrupts too: this CPU's interrupts are off while it is held
//   SpinGuard<NoIrq> guard{lock};       // caller has interrupts off already, or no interrupt takes this lock
//
// The mode is part of the guard's type and mandatory. Every lock has a rank; a CPU takes locks in rising rank only,
// which DEBUG=1 builds check at each acquisition. Never hold one while sleeping or while waiting for another CPU.
// Cost without contention: one locked instruction.
#pragma once

#include "arch/irq.hpp"
#include "arch/percpu.hpp"
#include "lib/assert.hpp"
#include "lib/thread_annotations.hpp"

namespace paean {

/// The lock order, outermost first. A new lock gets its place here, with what it protects.
enum class LockRank : u8 {
  Test = 0,        // private locks of tests, outermost
  Kmap = 4,        // recycling of persistent kmap slots
  Zone = 8,        // buddy bitmaps and free counts of one zone
  ThreadTable = 12,  // list of all threads, stack slots
  Timer = 14,      // sleeping threads by time
  WaitQueue = 16,  // one wait queue's list; taken by wakers under any of the above
  RunQueue = 18,   // one CPU's ready threads
  Shootdown = 20,  // one initiator of TLB interrupts at a time
  LogRing = 30,    // the log ring and the console: anybody may log while holding anything
};

struct IrqSave {};
struct NoIrq {};

class CAPABILITY("spinlock") SpinLock {
 public:
  constexpr explicit SpinLock(LockRank rank) : rank_(rank) {}
  SpinLock(const SpinLock&) = delete;
  SpinLock& operator=(const SpinLock&) = delete;

  void lock() ACQUIRE() {
    check_order();
    while (__builtin_expect(__atomic_exchange_n(&held_, 1u, __ATOMIC_ACQUIRE) != 0, 0)) {
      while (__atomic_load_n(&held_, __ATOMIC_RELAXED) != 0) arch::cpu_relax();
    }
    note_held();
  }
  void unlock() RELEASE() {
    note_released();
    __atomic_store_n(&held_, 0u, __ATOMIC_RELEASE);
  }
  bool is_held() const { return __atomic_load_n(&held_, __ATOMIC_RELAXED) != 0; }

 private:
#ifdef PAEAN_DEBUG
  void check_order() const;
  void note_held() const;
  void note_released() const;
#else
  void check_order() const {}
  void note_held() const {}
  void note_released() const {}
#endif
  u32 held_ = 0;
  [[maybe_unused]] LockRank rank_;
};

/// Ranks that this CPU holds, a bit each; only kept in debug builds.
extern arch::PerCpu<u32> held_ranks;

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
  ~SpinGuard() RELEASE() { lock_.unlock(); }
  SpinGuard(const SpinGuard&) = delete;
  SpinGuard& operator=(const SpinGuard&) = delete;

 private:
  SpinLock& lock_;
};

}  // namespace paean
