// What the tests of threads share.
#pragma once

#include "access.hpp"
#include "arch/percpu.hpp"
#include "arch/tsc.hpp"
#include "kernel/thread.hpp"
#include "kernel/wait.hpp"

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
/// To the larger of the two.
inline void raise(u32& word, u32 value) {
  u32 seen = load(word);
  while (seen < value && !__atomic_compare_exchange_n(&word, &seen, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
  }
}

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

/// Does `wait`, which should take so many milliseconds, never take less, and in one of ten tries at most 30 ms more? A
/// busy host holds this CPU up in some of the tries, and hastens none.
template <typename Wait>
bool takes_ms(u32 milliseconds, Wait wait) {
  const u64 least = u64{milliseconds} * 990;  // the tick's clock and the counter differ a little
  for (u32 tries = 0; tries < 10; ++tries) {
    const u64 start = arch::microseconds_since_entry();
    wait();
    const u64 waited = arch::microseconds_since_entry() - start;
    if (waited < least) return false;
    if (waited <= (u64{milliseconds} + 30) * 1000) return true;
  }
  return false;
}

/// Waits for the test to let it go.
struct Gate {
  WaitQueue queue;
  u32 open = 0;
  u32 inside = 0;
  void release() {
    store(open, 1);
    (void)queue.wake_all();
  }
};
inline void wait_at_gate(void* argument) {
  auto& gate = *static_cast<Gate*>(argument);
  (void)add(gate.inside, 1);
  gate.queue.wait([&] { return load(gate.open) != 0; });
}

}  // namespace paean
