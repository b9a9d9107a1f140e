// Wait queues: sleeping until somebody says that a condition may have changed.
//
//   WaitQueue queue{LockRank::WaitQueue};
//   queue.wait([&] { return slots_free.load() != 0; });            // re-checks after every wake
//   queue.wake_one();                                              // after making the condition true
//
// wait() registers before it looks, so a wake between looking and sleeping is not lost. Waiters are woken in order;
// exclusive by nature: wake_one() wakes exactly one. May sleep: not in atomic context. wake_*() may be called anywhere.
#pragma once

#include "kernel/spinlock.hpp"

namespace paean {

class Thread;

class WaitQueue {
 public:
  constexpr WaitQueue() = default;
  WaitQueue(const WaitQueue&) = delete;
  WaitQueue& operator=(const WaitQueue&) = delete;

  template <typename Condition>
  void wait(Condition condition) {
    Waiter waiter;
    while (true) {
      enqueue(waiter);
      if (condition()) break;
      block(waiter);
    }
    dequeue(waiter);
  }
  /// False if the condition was still false after so long.
  template <typename Condition>
  [[nodiscard]] bool wait_for_ms(u32 milliseconds, Condition condition);

  /// Wakes the one that waits longest. False if nobody waited.
  bool wake_one();
  /// How many were woken.
  u32 wake_all();
  /// Waiters right now: for statistics, and to skip a wake that nobody needs.
  u32 waiting() const;

 private:
  struct Waiter {
    Thread* thread = nullptr;
    Waiter* previous = nullptr;
    Waiter* next = nullptr;
    bool queued = false;
  };
  void enqueue(Waiter& waiter);   // no-op if it is queued already
  void dequeue(Waiter& waiter);   // no-op if a wake took it out; passes an unused wake on to the next waiter
  void block(Waiter& waiter);     // sleeps until woken; returns at once if no longer queued

  mutable SpinLock lock_{LockRank::WaitQueue};
  Waiter* first_ GUARDED_BY(lock_) = nullptr;
  Waiter* last_ GUARDED_BY(lock_) = nullptr;
  u32 count_ = 0;
};

}  // namespace paean
