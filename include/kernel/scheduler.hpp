// Inside of the scheduler: threads as it sees them, and run queues. Only kernel/sched/ includes this.
//
// The lock of a CPU's queue is held across a switch: the thread that goes takes it, the one that comes releases it. So
// a thread in a queue is never still running on its stack, and whoever wakes or steals it needs no further check.
// Interrupts are off while a queue is locked.
#pragma once

#include "kernel/lock_checker.hpp"
#include "kernel/spinlock.hpp"
#include "kernel/thread.hpp"

namespace paean {

enum class ThreadState : u8 { Ready, Running, Blocked, Dead };

/// In the lowest word of each thread's stack. An overflow writes something else there.
inline constexpr u32 kStackMark = 0x57ac4e4d;

class Thread {
 public:
  static constexpr u32 kNameBytes = 16;

  u32 saved_esp = 0;  // first: arch/x86/switch.S
  // Guarded by the queue of `cpu`, which changes only under that lock.
  u32 cpu = 0;
  ThreadState state = ThreadState::Running;
  bool wake_pending = false;  // an unpark() came while it was not parked
  Thread* next_ready = nullptr;
  Thread* previous_ready = nullptr;

  // Set before the thread runs.
  Priority priority = Priority::Normal;
  bool bound = false;
  Detach detach = Detach::No;
  u32 id = 0;
  char name[kNameBytes]{};
  ThreadEntry entry = nullptr;
  void* argument = nullptr;

  // Guarded by the table's lock.
  Thread* table_next = nullptr;
  Thread* table_previous = nullptr;
  Thread* joiner = nullptr;
  bool gone = false;  // off its stack for ever
  Thread* next_to_reap = nullptr;

  // Written by the CPU that runs it.
  u32 slices = 0;
  u32 runs = 0;
  u32 mutexes = 0;          // that it holds
  bool slice_over = false;  // it goes on until it holds none

  // Ring 3: written by the thread itself, or before it runs.
  void* user = nullptr;
  VirtAddr stack_top{};
  const u32* stack_mark = &kStackMark;  // the stack's lowest word; of a thread that the boot made, a word that stays
  UserSpace* user_space = nullptr;
  HeldLocks sleeping_locks{};  // debug builds only keep it
  u32 map_words[kThreadMapWords]{};
};
static_assert(sizeof(Thread) <= kThreadObjectBytes);
static_assert(__builtin_offsetof(Thread, saved_esp) == 0);

inline constexpr u32 kPriorities = 8;

/// One CPU's ready threads: a list for each priority, and a bit for each list that has somebody.
struct RunQueue {
  SpinLock lock{LockRank::RunQueue};
  Thread* first[kPriorities]{};
  Thread* last[kPriorities]{};
  u32 ready_mask = 0;
  u32 ready_count = 0;
  Thread* running = nullptr;
  Thread* idle = nullptr;

  void push_back(Thread* thread);
  void push_front(Thread* thread);
  void remove(Thread* thread);
  /// Takes the first of the highest priority; nullptr if nobody is ready.
  Thread* pop();
  u32 best_priority() const { return ready_mask == 0 ? 0 : 31u - static_cast<u32>(__builtin_clz(ready_mask)); }
};

RunQueue& run_queue_of(u32 cpu);
/// CPUs that run threads.
u32 scheduling_cpus();
bool cpu_schedules(u32 cpu);

[[noreturn]] void stack_has_overflowed(const Thread* thread);
/// Panics if the thread's stack has overflowed.
[[gnu::always_inline]] inline void check_stack(const Thread* thread) {
  if (*thread->stack_mark != kStackMark) [[unlikely]]
    stack_has_overflowed(thread);
}

/// Gives the CPU to whoever deserves it most; the running thread has the state that it is to have while it waits.
/// `queue` is this CPU's and locked, interrupts are off; unlocks it.
void switch_away(RunQueue& queue);
/// Puts a new thread into its CPU's queue.
void start_thread(Thread* thread);
/// The second half of a switch, on the new thread's stack.
void finish_switch(Thread* previous);
/// What a CPU does when nobody else wants it.
[[noreturn]] void idle_loop();
/// Makes `idle` the calling CPU's idle thread, and `running` what it runs now.
void begin_scheduling(Thread* running, Thread* idle);

/// The list of all threads.
void enter_in_table(Thread* thread);
/// A dead thread has left its stack. Interrupts off.
void bury(Thread* thread);

/// The running thread's time slice was over while it held a mutex, and it holds none any more.
void slice_ends_after_all(Thread* running);

/// From the boot CPU's tick: wakes the sleepers whose time has come.
void expire_timers();

extern arch::PerCpu<Thread*> running_thread;
extern SwitchHook switch_hook;
extern UserSwitchHook user_switch_hook;

}  // namespace paean
