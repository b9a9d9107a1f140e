#include "kernel/sync.hpp"

namespace paean {

void Mutex::lock() NO_THREAD_SAFETY_ANALYSIS {
  might_sleep("Mutex::lock");
  Thread* me = current_thread();
  if (holder() == me) [[unlikely]]
    panic("thread {} takes a mutex that it holds", thread_name(me));
  note_sleeping_wanted(use_);
  if (take(me)) [[likely]]
    return;
  queue_.wait([&] { return take(me); });
}

bool Mutex::try_lock() NO_THREAD_SAFETY_ANALYSIS {
  might_sleep("Mutex::try_lock");
  if (!take(current_thread())) return false;
  note_sleeping_wanted(use_);
  return true;
}

void Mutex::unlock() NO_THREAD_SAFETY_ANALYSIS {
  Thread* me = current_thread();
  if (holder() != me) [[unlikely]]
    panic("thread {} releases a mutex of {}", thread_name(me), holder() != nullptr ? thread_name(holder()) : "nobody");
  note_sleeping_released(use_);
  __atomic_store_n(&owner_, nullptr, __ATOMIC_SEQ_CST);  // before the look at the queue, see WaitQueue::enqueue()
  if (queue_.waiting() != 0) (void)queue_.wake_one();
}

bool Semaphore::try_down() {
  u32 count = __atomic_load_n(&count_, __ATOMIC_RELAXED);
  while (count != 0) {
    if (__atomic_compare_exchange_n(&count_, &count, count - 1, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) return true;
  }
  return false;
}

void Semaphore::down() {
  might_sleep("Semaphore::down");
  if (!try_down()) queue_.wait([&] { return try_down(); });
}

bool Semaphore::down_for_ms(u32 milliseconds) {
  might_sleep("Semaphore::down_for_ms");
  return try_down() || queue_.wait_for_ms(milliseconds, [&] { return try_down(); });
}

void Semaphore::up() {
  if (__atomic_fetch_add(&count_, 1u, __ATOMIC_SEQ_CST) == ~0u) panic("semaphore raised beyond 2^32");
  if (queue_.waiting() != 0) (void)queue_.wake_one();
}

void Completion::wait() {
  queue_.wait([&] { return done(); });
  const SpinGuard<IrqSave> guard{lock_};  // complete() may still be in here
}

bool Completion::wait_for_ms(u32 milliseconds) {
  const bool in_time = queue_.wait_for_ms(milliseconds, [&] { return done(); });
  const SpinGuard<IrqSave> guard{lock_};
  return in_time;
}

void Completion::complete() {
  const SpinGuard<IrqSave> guard{lock_};
  __atomic_store_n(&done_, true, __ATOMIC_RELEASE);
  (void)queue_.wake_all();
}

bool RwLock::try_read() {
  const SpinGuard<IrqSave> guard{lock_};
  if (writer_ != nullptr || writers_waiting_ != 0) return false;
  ++readers_;
  return true;
}

bool RwLock::try_write(Thread* me) {
  const SpinGuard<IrqSave> guard{lock_};
  if (writer_ != nullptr || readers_ != 0) return false;
  writer_ = me;
  return true;
}

void RwLock::lock_read() NO_THREAD_SAFETY_ANALYSIS {
  might_sleep("RwLock::lock_read");
  note_sleeping_wanted(use_);
  if (!try_read()) read_queue_.wait([&] { return try_read(); });
}

void RwLock::unlock_read() NO_THREAD_SAFETY_ANALYSIS {
  bool wake;
  {
    const SpinGuard<IrqSave> guard{lock_};
    if (readers_ == 0) panic("thread {} ends reading, but nobody reads", thread_name(current_thread()));
    note_sleeping_released(use_);
    wake = --readers_ == 0 && writers_waiting_ != 0;
  }
  if (wake) (void)write_queue_.wake_one();
}

void RwLock::lock_write() NO_THREAD_SAFETY_ANALYSIS {
  might_sleep("RwLock::lock_write");
  Thread* me = current_thread();
  note_sleeping_wanted(use_);
  if (try_write(me)) return;
  {
    const SpinGuard<IrqSave> guard{lock_};
    if (writer_ == me) panic("thread {} takes a write lock that it holds", thread_name(me));
    ++writers_waiting_;
  }
  write_queue_.wait([&] { return try_write(me); });
  const SpinGuard<IrqSave> guard{lock_};
  --writers_waiting_;
}

void RwLock::unlock_write() NO_THREAD_SAFETY_ANALYSIS {
  bool writers;
  {
    const SpinGuard<IrqSave> guard{lock_};
    if (writer_ != current_thread()) panic("thread {} ends writing that is not its own", thread_name(current_thread()));
    note_sleeping_released(use_);
    writer_ = nullptr;
    writers = writers_waiting_ != 0;
  }
  if (writers)
    (void)write_queue_.wake_one();
  else
    (void)read_queue_.wake_all();
}

}  // namespace paean
