// Spin locks of this layer. It lies below the kernel's own ones, but has its places in their order (lib/lock_rank.hpp).
//
//   LeafLock   for a few instructions on registers that are reached in two steps: an index, then the data. Interrupts
//              of this CPU are off meanwhile. Nothing may be logged, waited for or locked while one is held, but for
//              another of higher rank. Any context.
//   CallLock   one CPU at a time makes the others do something, and waits until they have. Interrupts stay on, so that
//              the holder, and whoever waits for the lock, answers others meanwhile; preemption is off. No other
//              spinning lock may be held: a CPU that spun for it with interrupts off would never answer. Threads with
//              interrupts on; at boot, alone, also with interrupts off.
//
// DEBUG=1 builds check both at each acquisition, like the locks of kernel/spinlock.hpp.
#pragma once

#include <atomic>

#include "arch/irq.hpp"
#include "arch/smp.hpp"
#include "lib/lock_rank.hpp"

namespace paean::arch {

// The kernel's checker hears of locks that are wanted, before they are waited for, and of locks that are released.
// Implemented by kernel/base/spinlock.cpp. Nothing in release builds.
#ifdef PAEAN_DEBUG
void note_lock_wanted(LockUse& lock);
void note_lock_released(const LockUse& lock);
#else
inline void note_lock_wanted(LockUse&) {}
inline void note_lock_released(const LockUse&) {}
#endif

class RankedLock {
 public:
  constexpr explicit RankedLock(LockRank rank) : use_(rank) {}
  RankedLock(const RankedLock&) = delete;
  RankedLock& operator=(const RankedLock&) = delete;

  bool is_held() const { return held_.load(std::memory_order_acquire) != 0; }

 private:
  template <typename Lock, typename Hold>
  friend class RankedGuard;
  void lock() {
    note_lock_wanted(use_);
    while (held_.exchange(1, std::memory_order_acquire) != 0) cpu_relax();
  }
  void unlock() {
    note_lock_released(use_);
    held_.store(0, std::memory_order_release);
  }

  std::atomic<u32> held_{0};
  LockUse use_;
};

class LeafLock : public RankedLock {
 public:
  using RankedLock::RankedLock;
};

class CallLock : public RankedLock {
 public:
  using RankedLock::RankedLock;
};

/// Holds `lock` for its scope, and as long what the kind of lock asks for.
template <typename Lock, typename Hold>
class [[nodiscard]] RankedGuard {
 public:
  explicit RankedGuard(Lock& lock) : lock_(lock) { lock_.lock(); }
  ~RankedGuard() { lock_.unlock(); }
  RankedGuard(const RankedGuard&) = delete;
  RankedGuard& operator=(const RankedGuard&) = delete;

 private:
  const Hold hold_;  // first made, last undone
  Lock& lock_;
};
using LeafGuard = RankedGuard<LeafLock, IrqsOffGuard>;
/// The caller stays on its CPU meanwhile.
using CallGuard = RankedGuard<CallLock, CpuHold>;

}  // namespace paean::arch
