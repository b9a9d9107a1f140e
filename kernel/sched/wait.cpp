#include "kernel/wait.hpp"

namespace paean {

void WaitQueue::unlink(Waiter& waiter) {
  (waiter.previous != nullptr ? waiter.previous->next : first_) = waiter.next;
  (waiter.next != nullptr ? waiter.next->previous : last_) = waiter.previous;
  waiter.previous = waiter.next = nullptr;
  __atomic_store_n(&count_, count_ - 1, __ATOMIC_SEQ_CST);
  __atomic_store_n(&waiter.queued, false, __ATOMIC_RELEASE);
}

void WaitQueue::enqueue(Waiter& waiter) {
  const SpinGuard<IrqSave> guard{lock_};
  if (waiter.queued) return;
  waiter.thread = current_thread();
  waiter.queued = true;
  if (waiter.woken) {  // in vain: somebody was faster, which must not cost it its place
    waiter.woken = false;
    waiter.next = first_;
    (first_ != nullptr ? first_->previous : last_) = &waiter;
    first_ = &waiter;
  } else {
    waiter.previous = last_;
    (last_ != nullptr ? last_->next : first_) = &waiter;
    last_ = &waiter;
  }
  // A full barrier: who makes the condition true and then reads the count sees this, or we see the condition.
  __atomic_store_n(&count_, count_ + 1, __ATOMIC_SEQ_CST);
}

/// Always takes the lock: a waker may still be using the waiter, which is about to vanish.
void WaitQueue::dequeue(Waiter& waiter) {
  const SpinGuard<IrqSave> guard{lock_};
  if (waiter.queued) return unlink(waiter);
  if (Thread* next = take_first()) unpark(next);
}

void WaitQueue::block(Waiter& waiter) {
  while (__atomic_load_n(&waiter.queued, __ATOMIC_ACQUIRE)) park();
}

void WaitQueue::block_until(Waiter& waiter, const WakeTimer& timer) {
  while (__atomic_load_n(&waiter.queued, __ATOMIC_ACQUIRE) && !timer.expired()) park();
}

Thread* WaitQueue::take_first() {
  Waiter* waiter = first_;
  if (waiter == nullptr) return nullptr;
  Thread* thread = waiter->thread;
  waiter->woken = true;
  unlink(*waiter);
  return thread;
}

bool WaitQueue::wake_one() {
  const SpinGuard<IrqSave> guard{lock_};
  Thread* thread = take_first();
  if (thread != nullptr) unpark(thread);  // with the lock held: the thread cannot leave wait() before
  return thread != nullptr;
}

u32 WaitQueue::wake_all() {
  const SpinGuard<IrqSave> guard{lock_};
  u32 woken = 0;
  while (Thread* thread = take_first()) {
    unpark(thread);
    ++woken;
  }
  return woken;
}

}  // namespace paean
