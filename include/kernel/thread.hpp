// Kernel threads: preemptive, one run queue a CPU, idle CPUs steal.
//
//   Ready --pick--> Running --block()--> Blocked --wake()--> Ready
//                      |--exit--> Dead --reaped by join or by the idle thread
//
// Each thread has a stack of 8 KiB with an unmapped guard page below it, in a window of the dynamic area; its pages come
// from highmem, so a thread costs lowmem only for this object. Eight priorities; within one, round robin in slices of
// one tick; a lower one runs only when no higher one is ready on that CPU (simple but honest: no boosting).
//
// Locking: a thread's state is guarded by the run-queue lock of the CPU it is on (LockRank::RunQueue). The struct itself
// lives until it is reaped; `join` may be called once.
#pragma once

#include "lib/addr.hpp"
#include "lib/result.hpp"

namespace paean {

class Thread;

enum class Priority : u8 { Idle = 0, Low = 2, Normal = 4, High = 6 };
enum class Detach : u8 { No, Yes };

struct ThreadOptions {
  Priority priority = Priority::Normal;
  i32 cpu = -1;                 // bound to this CPU; -1: any
  Detach detach = Detach::No;   // Yes: nobody joins, it is reaped when it ends
};

using ThreadEntry = void (*)(void* argument);

/// Makes a thread that is ready to run. The name is copied (15 characters). OutOfMemory; TooLarge when all stacks are in
/// use. May sleep.
[[nodiscard]] Result<Thread*> thread_create(std::string_view name, ThreadEntry entry, void* argument,
                                            ThreadOptions options = {});
/// Waits for its end and frees it. May sleep.
void thread_join(Thread* thread);
/// Ends the calling thread.
[[noreturn]] void thread_exit();

/// The running thread; never nullptr once init_threads() has run.
Thread* current_thread();
std::string_view thread_name(const Thread* thread);
u32 thread_id(const Thread* thread);

/// Lets others of the same priority run.
void thread_yield();
/// Sleeps at least so long, rounded up to ticks. May sleep (!).
void thread_sleep_ms(u32 milliseconds);

/// Turns the boot flow into the first thread and starts ticking. Boot CPU, interrupts off, after memory is up.
void init_threads();
/// The same for another CPU: the flow that calls becomes its idle thread. Never returns.
[[noreturn]] void run_idle_thread();
/// From the timer interrupt of each CPU: time slices and timers.
void scheduler_tick();
/// At the end of every interrupt, on the way back to a thread: switches if need_resched and preemptible.
void preempt_from_interrupt();

/// Called with the thread that goes and the one that comes, interrupts off, on every switch: local maps are saved and
/// restored here (mm registers it). One at most.
using SwitchHook = void (*)(Thread* from, Thread* to);
void set_switch_hook(SwitchHook hook);
/// Room for the hook's owner in each thread, zeroed at creation.
inline constexpr u32 kThreadMapWords = 40;
u32 (&thread_map_words(Thread* thread))[kThreadMapWords];

/// For `ps`.
void print_threads(class Sink& out);

}  // namespace paean
