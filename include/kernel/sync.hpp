// Sleeping locks and events. All may sleep, so never in atomic context; up(), complete() and unlocking may be called
// anywhere a thread runs, up() and complete() in interrupts too.
//
//   Mutex        one holder, known by name; not recursive
//   Semaphore    a count of things to be had; whoever takes waits until there is one
//   Completion   something has happened; stays so. May vanish as soon as wait() has returned
//   RwLock       many readers or one writer; new readers wait while a writer waits
//
// Every lock has a rank, and sleeping locks come before all spinning ones (lib/lock_rank.hpp). Always detected:
// releasing what one does not hold, taking a Mutex twice. DEBUG=1 builds check the order and all else of
// kernel/lock_checker.hpp too. Cost without contention: one locked instruction to take, one to release.
//
// Who finds a Mutex taken looks on while its owner runs on another CPU, and sleeps otherwise. A time slice that is over
// meanwhile ends with the release, or a tick later: an owner who is switched away makes everybody else sleep.
// Source of both: the adaptive mutexes of Solaris.
#pragma once

#include "kernel/wait.hpp"

namespace paean {

class CAPABILITY("mutex") Mutex {
 public:
  constexpr explicit Mutex(LockRank rank) : use_(rank) {}
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  void lock() ACQUIRE();
  [[nodiscard]] bool try_lock() TRY_ACQUIRE(true);
  void unlock() RELEASE();
  const Thread* holder() const { return __atomic_load_n(&owner_, __ATOMIC_RELAXED); }

 private:
  bool take(Thread* me) {
    Thread* nobody = nullptr;
    return __atomic_compare_exchange_n(&owner_, &nobody, me, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
  }
  bool take_while_owner_runs(Thread* me);
  Thread* owner_ = nullptr;
  WaitQueue queue_;
  LockUse use_;
};

class [[nodiscard]] SCOPED_CAPABILITY MutexGuard {
 public:
  explicit MutexGuard(Mutex& mutex) ACQUIRE(mutex) : mutex_(mutex) { mutex_.lock(); }
  ~MutexGuard() RELEASE() { mutex_.unlock(); }
  MutexGuard(const MutexGuard&) = delete;
  MutexGuard& operator=(const MutexGuard&) = delete;

 private:
  Mutex& mutex_;
};

class Semaphore {
 public:
  constexpr explicit Semaphore(u32 count) : count_(count) {}
  Semaphore(const Semaphore&) = delete;
  Semaphore& operator=(const Semaphore&) = delete;

  void down();
  [[nodiscard]] bool down_for_ms(u32 milliseconds);
  /// Any context.
  [[nodiscard]] bool try_down();
  /// Any context.
  void up();
  u32 count() const { return __atomic_load_n(&count_, __ATOMIC_RELAXED); }

 private:
  u32 count_;
  WaitQueue queue_;
};

class Completion {
 public:
  constexpr Completion() = default;
  Completion(const Completion&) = delete;
  Completion& operator=(const Completion&) = delete;

  void wait();
  [[nodiscard]] bool wait_for_ms(u32 milliseconds);
  /// Any context. The last thing that touches the object, so that the waiter may let it go.
  void complete();
  bool done() const { return __atomic_load_n(&done_, __ATOMIC_ACQUIRE); }

 private:
  SpinLock lock_{LockRank::Sync};
  bool done_ = false;
  WaitQueue queue_;
};

class CAPABILITY("rwlock") RwLock {
 public:
  constexpr explicit RwLock(LockRank rank) : use_(rank) {}
  RwLock(const RwLock&) = delete;
  RwLock& operator=(const RwLock&) = delete;

  void lock_read() PAEAN_TSA(acquire_shared_capability());
  void unlock_read() PAEAN_TSA(release_shared_capability());
  void lock_write() ACQUIRE();
  void unlock_write() RELEASE();

 private:
  static constexpr u32 kWriting = 1u << 31;
  bool try_read();
  bool try_write(Thread* me);

  u32 users_ = 0;  // readers, or kWriting
  u32 writers_waiting_ = 0;
  Thread* writer_ = nullptr;  // set and read by itself, and for messages
  WaitQueue read_queue_, write_queue_;
  LockUse use_;
};

class [[nodiscard]] SCOPED_CAPABILITY ReadGuard {
 public:
  explicit ReadGuard(RwLock& lock) PAEAN_TSA(acquire_shared_capability(lock)) : lock_(lock) { lock_.lock_read(); }
  ~ReadGuard() RELEASE() { lock_.unlock_read(); }
  ReadGuard(const ReadGuard&) = delete;
  ReadGuard& operator=(const ReadGuard&) = delete;

 private:
  RwLock& lock_;
};

class [[nodiscard]] SCOPED_CAPABILITY WriteGuard {
 public:
  explicit WriteGuard(RwLock& lock) ACQUIRE(lock) : lock_(lock) { lock_.lock_write(); }
  ~WriteGuard() RELEASE() { lock_.unlock_write(); }
  WriteGuard(const WriteGuard&) = delete;
  WriteGuard& operator=(const WriteGuard&) = delete;

 private:
  RwLock& lock_;
};

}  // namespace paean
