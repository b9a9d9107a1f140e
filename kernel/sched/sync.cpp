#include "kernel/sync.hpp"

#include "arch/irq.hpp"
#include "kernel/scheduler.hpp"

namespace paean {

/// As long as its owner runs on another CPU it will soon be free: sooner than a sleeper wakes up. False: sleep.
bool Mutex::take_while_owner_runs(Thread* me) {
  constexpr u32 kMostLooks = 1000;
  for (u32 i = 0; i < kMostLooks && need_resched.is_zero(); ++i) {
    const Thread* owner = holder();
    if (owner == nullptr && take(me)) return true;
    if (owner != nullptr && !runs_elsewhere(owner)) return false;
    arch::cpu_relax();
  }
  return false;
}

void Mutex::lock() NO_THREAD_SAFETY_ANALYSIS {
  might_sleep("Mutex::lock");
  Thread* me = current_thread();
  if (holder() == me) [[unlikely]]
    panic("thread {} takes a mutex that it holds", thread_name(me));
  note_sleeping_wanted(use_);
  if (!take(me) && !take_while_owner_runs(me)) [[unlikely]]
    queue_.wait([&] { return take(me); });
  ++me->mutexes;
}

bool Mutex::try_lock() NO_THREAD_SAFETY_ANALYSIS {
  might_sleep("Mutex::try_lock");
  Thread* me = current_thread();
  if (!take(me)) return false;
  note_sleeping_wanted(use_);
  ++me->mutexes;
  return true;
}

void Mutex::unlock() NO_THREAD_SAFETY_ANALYSIS {
  Thread* me = current_thread();
  if (holder() != me) [[unlikely]]
    panic("thread {} releases a mutex of {}", thread_name(me), holder() != nullptr ? thread_name(holder()) : "nobody");
  note_sleeping_released(use_);
  __atomic_store_n(&owner_, nullptr, __ATOMIC_RELEASE);  // before the look at the queue, see WaitQueue::waiting()
  if (queue_.waiting() != 0) (void)queue_.wake_one();
  if (--me->mutexes == 0 && me->slice_over) [[unlikely]]
    slice_ends_after_all(me);
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

// Whoever waits is counted, or in a queue, before the last look at `users_`; whoever leaves changes `users_` before the
// look at those who wait. So one of them sees the other.

bool RwLock::try_read() {
  u32 users = __atomic_load_n(&users_, __ATOMIC_RELAXED);
  while (users != kWriting && __atomic_load_n(&writers_waiting_, __ATOMIC_SEQ_CST) == 0) {
    if (__atomic_compare_exchange_n(&users_, &users, users + 1, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) return true;
  }
  return false;
}

bool RwLock::try_write(Thread* me) {
  u32 nobody = 0;
  if (!__atomic_compare_exchange_n(&users_, &nobody, kWriting, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) return false;
  __atomic_store_n(&writer_, me, __ATOMIC_RELAXED);
  return true;
}

void RwLock::lock_read() NO_THREAD_SAFETY_ANALYSIS {
  might_sleep("RwLock::lock_read");
  note_sleeping_wanted(use_);
  if (!try_read()) [[unlikely]]
    read_queue_.wait([&] { return try_read(); });
}

void RwLock::unlock_read() NO_THREAD_SAFETY_ANALYSIS {
  const u32 users = __atomic_fetch_sub(&users_, 1u, __ATOMIC_SEQ_CST);
  if (users == 0 || users == kWriting) [[unlikely]]
    panic("thread {} ends reading, but nobody reads", thread_name(current_thread()));
  note_sleeping_released(use_);
  if (users == 1 && __atomic_load_n(&writers_waiting_, __ATOMIC_SEQ_CST) != 0) [[unlikely]]
    (void)write_queue_.wake_one();
}

void RwLock::lock_write() NO_THREAD_SAFETY_ANALYSIS {
  might_sleep("RwLock::lock_write");
  Thread* me = current_thread();
  note_sleeping_wanted(use_);
  if (try_write(me)) [[likely]]
    return;
  if (__atomic_load_n(&writer_, __ATOMIC_RELAXED) == me)
    panic("thread {} takes a write lock that it holds", thread_name(me));
  __atomic_fetch_add(&writers_waiting_, 1u, __ATOMIC_SEQ_CST);
  write_queue_.wait([&] { return try_write(me); });
  __atomic_fetch_sub(&writers_waiting_, 1u, __ATOMIC_SEQ_CST);
}

void RwLock::unlock_write() NO_THREAD_SAFETY_ANALYSIS {
  if (__atomic_load_n(&writer_, __ATOMIC_RELAXED) != current_thread()) [[unlikely]]
    panic("thread {} ends writing that is not its own", thread_name(current_thread()));
  note_sleeping_released(use_);
  __atomic_store_n(&writer_, nullptr, __ATOMIC_RELAXED);
  __atomic_store_n(&users_, 0u, __ATOMIC_SEQ_CST);
  if (__atomic_load_n(&writers_waiting_, __ATOMIC_SEQ_CST) != 0)
    (void)write_queue_.wake_one();
  else if (read_queue_.waiting() != 0)
    (void)read_queue_.wake_all();
}

}  // namespace paean
