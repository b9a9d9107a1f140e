// What the tests of threads share.
#pragma once

#include "access.hpp"
#include "arch/percpu.hpp"
#include "kernel/thread.hpp"

namespace paean {

/// Threads of one test, all joined at its end.
template <u32 kCapacity>
class Crew {
 public:
  Crew() = default;
  ~Crew() { join(); }
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;

  [[nodiscard]] bool add(std::string_view name, ThreadEntry entry, void* argument, ThreadOptions options = {}) {
    const Result<Thread*> thread = thread_create(name, entry, argument, options);
    if (!thread) return false;
    threads_[count_++] = *thread;
    return true;
  }
  void join() {
    while (count_ != 0) thread_join(threads_[--count_]);
  }
  Thread* operator[](u32 index) const { return threads_[index]; }
  u32 count() const { return count_; }

 private:
  Thread* threads_[kCapacity]{};
  u32 count_ = 0;
};

/// Bound to the CPU that the tests run on.
inline ThreadOptions here(Priority priority = Priority::Normal) {
  return {.priority = priority, .cpu = static_cast<i32>(arch::this_cpu())};
}
/// Bound to the last CPU: another one, where there is another one.
inline ThreadOptions elsewhere(Priority priority = Priority::Normal) {
  return {.priority = priority, .cpu = static_cast<i32>(arch::online_cpus()) - 1};
}

inline u32 load(const u32& word) { return __atomic_load_n(&word, __ATOMIC_SEQ_CST); }
inline void store(u32& word, u32 value) { __atomic_store_n(&word, value, __ATOMIC_SEQ_CST); }
inline u32 add(u32& word, u32 value) { return __atomic_fetch_add(&word, value, __ATOMIC_SEQ_CST); }

/// Gives others the CPU until `condition` or so many milliseconds have passed.
template <typename Condition>
bool within_ms(u32 milliseconds, Condition condition) {
  const u32 start = ticks_now();
  while (!condition()) {
    if (ticks_now() - start > milliseconds / 10 + 1) return false;
    thread_yield();
  }
  return true;
}

}  // namespace paean
