// Wait queues: sleeping until somebody says that a condition may have changed.
//
//   WaitQueue queue;
//   queue.wait([&] { return slots_free.load() != 0; });            // re-checks after every wake
//   queue.wake_one();                                              // after making the condition true
//
// wait() registers before it looks, so a wake between looking and sleeping is not lost. Waiters are woken in order;
// exclusive by nature: wake_one() wakes exactly one. Who was woken in vain waits again at the front of the queue. A
// wake that its thread did not need, because the condition came true otherwise, goes on to the next one.
// May sleep: not in atomic context. wake_*() may be called anywhere.
//
// The queue must outlive every call. Waking is done when wake_*() returns, not when the condition becomes true: whoever
// frees an object with a queue in it right after waiting uses a Completion (kernel/sync.hpp).
#pragma once

#include "kernel/preempt.hpp"
#include "kernel/spinlock.hpp"
#include "kernel/thread.hpp"

namespace paean {

/// Unparks the thread that made it when the time is over. On the stack of that thread, which may wait meanwhile.
class WakeTimer {
 public:
  explicit WakeTimer(u32 milliseconds);
  ~WakeTimer();
  WakeTimer(const WakeTimer&) = delete;
  WakeTimer& operator=(const WakeTimer&) = delete;
  bool expired() const { return __atomic_load_n(&expired_, __ATOMIC_ACQUIRE); }

 private:
  friend void expire_timers();
  void unlink();

  Thread* thread_;
  u32 due_ = 0;
  bool expired_ = false;
  WakeTimer* previous_ = nullptr;
  WakeTimer* next_ = nullptr;
};

class WaitQueue {
 public:
  constexpr WaitQueue() = default;
  WaitQueue(const WaitQueue&) = delete;
  WaitQueue& operator=(const WaitQueue&) = delete;

  template <typename Condition>
  void wait(Condition condition) {
    might_sleep("WaitQueue::wait");
    Waiter waiter;
    while (true) {
      enqueue(waiter);
      if (condition()) break;
      block(waiter);
    }
    dequeue(waiter);
  }
  /// As wait(), and ends without the condition when `give_up()` says so: false. Who makes that true unparks the thread.
  template <typename GiveUp, typename Condition>
  [[nodiscard]] bool wait_unless(GiveUp give_up, Condition condition) {
    might_sleep("WaitQueue::wait_unless");
    Waiter waiter;
    bool met;
    while (true) {
      enqueue(waiter);
      met = condition();
      if (met || give_up()) break;
      while (__atomic_load_n(&waiter.queued, __ATOMIC_ACQUIRE) && !give_up()) park();
    }
    dequeue(waiter);
    return met;
  }
  /// False if the condition was still false after so long.
  template <typename Condition>
  [[nodiscard]] bool wait_for_ms(u32 milliseconds, Condition condition) {
    might_sleep("WaitQueue::wait_for_ms");
    const WakeTimer timer{milliseconds};
    Waiter waiter;
    bool met;
    while (true) {
      enqueue(waiter);
      met = condition();
      if (met || timer.expired()) break;
      block_until(waiter, timer);
    }
    dequeue(waiter);
    return met;
  }

  /// Wakes the one that waits longest. False if nobody waited.
  bool wake_one();
  /// How many were woken.
  u32 wake_all();
  /// Waiters right now: for statistics, and to skip a wake that nobody needs. Who queues up after this looks at his
  /// condition once more and finds what the caller has stored before: without the fence the load could pass that store,
  /// which a processor does with plain ones.
  u32 waiting() const {
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return __atomic_load_n(&count_, __ATOMIC_SEQ_CST);
  }

 private:
  struct Waiter {
    Thread* thread = nullptr;
    Waiter* previous = nullptr;
    Waiter* next = nullptr;
    bool queued = false;
    bool woken = false;  // a wake took it out since it last looked
  };
  void enqueue(Waiter& waiter);  // no-op if it is queued already
  void dequeue(Waiter& waiter);  // passes a wake that came too late on to the next waiter
  void block(Waiter& waiter);    // sleeps until woken; returns at once if no longer queued
  void block_until(Waiter& waiter, const WakeTimer& timer);
  Thread* take_first() REQUIRES(lock_);
  void unlink(Waiter& waiter) REQUIRES(lock_);

  mutable SpinLock lock_{LockRank::WaitQueue};
  Waiter* first_ GUARDED_BY(lock_) = nullptr;
  Waiter* last_ GUARDED_BY(lock_) = nullptr;
  u32 count_ = 0;  // written under the lock
};

}  // namespace paean
