// Kernel threads: preemptive, one run queue a CPU, idle CPUs steal.
//
//   Ready --pick--> Running --park()--> Blocked --unpark()--> Ready
//                      |--exit--> Dead --reaped by join, or by the next thread that is made or ends
//
// Each thread has a stack of 8 KiB. The first 5,120 or so lie in a window of the dynamic area, with an unmapped guard
// page below each; their pages come from highmem, so such a thread costs lowmem only for its object. When the window is
// full, a stack is a block of lowmem, and below it lies somebody else's memory. What is promised of overflows:
//
//   in the window   the access faults, and the double-fault task reports it: nothing else was written to
//   in lowmem       seen when the thread gives up the CPU, because the stack's lowest word is not what it was: the
//                   kernel stops there, but for the time since the overflow others' memory was written to
//
// The word is looked at on stacks of the first kind too. Eight priorities; within one, round robin in
// slices of one tick; a lower one runs only when no higher one is ready on that CPU (simple but honest: no boosting).
//
// A CPU without anything to do takes a ready thread from another CPU's queue, unless that thread is bound to its CPU
// or holds local maps there.
//
// Locking: a thread's state is guarded by the run-queue lock of the CPU it is on (LockRank::RunQueue). The object
// itself lives until it is reaped; `join` may be called once.
#pragma once

#include "lib/addr.hpp"
#include "lib/format.hpp"
#include "lib/result.hpp"

namespace paean {

class Thread;

enum class Priority : u8 { Idle = 0, Low = 2, Normal = 4, High = 6 };
enum class Detach : u8 { No, Yes };

struct ThreadOptions {
  Priority priority = Priority::Normal;
  i32 cpu = -1;                // bound to this CPU; -1: any
  Detach detach = Detach::No;  // Yes: nobody joins, it is reaped after its end
};

using ThreadEntry = void (*)(void* argument);

/// Makes a thread that is ready to run. The name is copied (15 characters). OutOfMemory; TooLarge when all stacks are
/// in use; InvalidArgument for a CPU that runs no threads. May sleep.
[[nodiscard]] Result<Thread*> thread_create(std::string_view name, ThreadEntry entry, void* argument,
                                            ThreadOptions options = {});
/// Waits for its end and frees it. May sleep. Joining oneself or a detached thread panics.
void thread_join(Thread* thread);
/// Ends the calling thread. Debug builds panic if it holds a lock.
[[noreturn]] void thread_exit();
/// Frees detached threads that have ended. Any context that may take locks.
void reap_threads();

/// The running thread; nullptr before init_threads().
Thread* current_thread();
/// A hint: it runs at this moment, not on this CPU. `thread` need not exist any more.
bool runs_elsewhere(const Thread* thread);
std::string_view thread_name(const Thread* thread);
u32 thread_id(const Thread* thread);
/// Time slices that it has used or begun; switches to it.
u32 thread_slices(const Thread* thread);
u32 thread_runs(const Thread* thread);
/// Threads that exist, idle ones included.
u32 thread_count();
/// Threads that are running or ready on any CPU, idle ones not counted: a hint.
u32 runnable_threads();

/// Sleeps until unpark() of this thread; at once if that has come already. May come back early: look at what you waited
/// for, in a loop. Never in atomic context (checked in every build).
void park();
/// Wakes it, or makes its next park() return at once. Any context; the caller knows that the thread still exists.
void unpark(Thread* thread);

/// Lets others of the same priority run.
void thread_yield();
/// Sleeps at least so long, rounded up to ticks. May sleep (!).
void thread_sleep_ms(u32 milliseconds);

/// Ticks (10 ms) since entry, as of the boot CPU's last timer interrupt; wraps.
u32 ticks_now();

/// Turns the boot flow into the first thread, "main" (id 1, bound to the boot CPU). Boot CPU, interrupts off, after
/// memory is up.
void init_threads();
/// The same for another CPU: the flow that calls becomes its idle thread. Interrupts off.
[[noreturn]] void run_idle_thread();
/// From the timer interrupt of each CPU: time slices and timers.
void scheduler_tick();
/// At the end of every interrupt, on the way back to a thread: switches if need_resched and preemptible.
void preempt_from_interrupt();

/// Called with the thread that goes and the one that comes, interrupts off, on every switch: local maps are saved and
/// restored here (mm registers it). One at most; returns the one before.
using SwitchHook = void (*)(Thread* from, Thread* to);
SwitchHook set_switch_hook(SwitchHook hook);
/// Room for the hook's owner in each thread, zeroed at creation. While word 0 of a thread that does not run is not 0,
/// it stays on its CPU; a thread that ends so panics.
inline constexpr u32 kThreadMapWords = 40;
u32 (&thread_map_words(Thread* thread))[kThreadMapWords];

/// A thread that also runs in ring 3 has something of its own for that; nullptr for all others. Written before it runs,
/// or by the thread itself with interrupts off.
void set_thread_user(Thread* thread, void* user);
void* thread_user(const Thread* thread);
/// Where its kernel stack begins; 0 of threads that the boot made.
VirtAddr thread_stack_top(const Thread* thread);
/// Called at switches from or to such a thread, with what they have or nullptr, interrupts off.
using UserSwitchHook = void (*)(void* from, void* to);
void set_user_switch_hook(UserSwitchHook hook);

/// Which user address space a thread runs in; nullptr for those of the kernel. mm's: see UserSpace::switch_to().
class UserSpace;
UserSpace*& thread_user_space(Thread* thread);

/// Where thread objects and stacks come from; mm registers it before init_threads().
struct ThreadPlace {
  void* object;        // kThreadObjectBytes, lowmem
  VirtAddr stack_top;  // of kThreadStackBytes
};
inline constexpr u32 kThreadStackBytes = 8192;
inline constexpr u32 kThreadObjectBytes = 508;
class ThreadMemory {
 public:
  virtual Result<ThreadPlace> take() = 0;
  virtual void give_back(void* object) = 0;

 protected:
  ~ThreadMemory() = default;
};
void set_thread_memory(ThreadMemory& memory);

/// Lines for `ps`.
void print_threads(Sink& out);

}  // namespace paean
