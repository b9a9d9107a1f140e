// Processes and their threads.
//
//   Process  --threads-->  Task  --runs on-->  Thread (kernel/thread.hpp)
//     | parent, children     | registers, TLS, signals for it alone
//     | descriptors, folder, signal actions, alarm
//     | address space: held by each Task (mm/user_space.hpp)
//
//   Alive --last task ends--> Zombie --waited for, or nobody will--> freed
//     | SIGSTOP and the like            ^
//     stopped --SIGCONT--> goes on      | SIGKILL ends it too
//
// Many thousands may be alive at once: nothing that a process does from fork to wait looks at all of them, but for a
// job of a shell, once, when it ends.
//
// One lock, process_lock, guards the tree, the lists of tasks, states and pending signals; it spins, so nothing is
// allocated or copied under it. `attention` of a task is the one word that the way back to ring 3 looks at: not 0
// when a signal is to be delivered or the task is to end. Sleeps of system calls end when it is set: interrupted().
//
// Source: POSIX; numbers and structures are those of Linux on i386.
#pragma once

#include "arch/percpu.hpp"
#include "arch/user.hpp"
#include "kernel/process/file.hpp"
#include "kernel/process/signal.hpp"
#include "kernel/sync.hpp"
#include "mm/linked_list.hpp"
#include "mm/user_space.hpp"

namespace paean {

class ArgumentPages;
class Process;
struct ProgramStart;

/// A thread of a process.
struct Task {
  arch::UserContext context;
  arch::TrapFrame start;  // what it begins with
  Process* process = nullptr;
  Task* next = nullptr;  // in the process
  Thread* thread = nullptr;
  u32 id = 0;
  UserSpace* start_space = nullptr;  // its reference, until it runs
  ProgramStart* program = nullptr;   // what it executes first
  // Under process_lock.
  SignalSet pending = 0;
  std::atomic<u32> attention{0};
  // The task's own.
  SignalSet blocked = 0;
  SignalSet blocked_before_suspend = 0;
  bool restore_blocked = false;
  u64 kept_deadline = 0;  // of a call that begins again, in nanoseconds of monotonic_ns(); 0: none
  SignalFault fault{};
  VirtAddr alternate_stack{};
  u32 alternate_bytes = 0;
  VirtAddr clear_at_end{};         // set_tid_address: zeroed, and its futex woken
  VirtAddr store_id_at{};          // CLONE_CHILD_SETTID
  Completion* released = nullptr;  // the parent of a vfork waits for it
};

inline constexpr u32 kAttentionSignal = 1, kAttentionEnd = 2, kAttentionRestart = 4, kAttentionStop = 8;

class Process {
 public:
  u32 id = 0, group = 0, session = 0;
  enum class State : u8 { Alive, Zombie } state = State::Alive;
  bool ending = false;       // exit_group, a fatal signal or exec: all tasks (but one) end
  bool stopped = false;      // its tasks wait for SIGCONT on their way to ring 3
  bool lost_parent = false;  // one outside of its group: it has to look whether anybody can still continue the group
  bool executed = false;     // runs another program than its parent's
  bool passed_over = false;  // was to end for others' memory, and did not in time
  Task* survivor = nullptr;  // the one that executes a new program
  u32 status = 0;            // as wait4 reports it
  u32 news = 0;              // the same, of a stop or of going on that no wait has reported yet; 0: none
  Process* parent = nullptr;
  Process *sibling_before = nullptr, *sibling_behind = nullptr;
  using Siblings = LinkedList<Process, &Process::sibling_before, &Process::sibling_behind>;
  Siblings children;  // those that have ended first
  Process *listed_before = nullptr, *listed_behind = nullptr;
  using List = LinkedList<Process, &Process::listed_before, &Process::listed_behind>;
  Process* next_of_id = nullptr;  // in its bucket
  Task* tasks = nullptr;
  u32 task_count = 0;
  u32 exit_signal = kSigChild;
  bool watched = false;  // the kernel waits for its end, as a parent would
  SignalSet pending = 0;
  SignalActions actions{};
  u32 alarm_due = 0;  // tick; 0: none
  u32 alarm_period = 0;
  Process *alarm_before = nullptr, *alarm_behind = nullptr;
  using Alarms = LinkedList<Process, &Process::alarm_before, &Process::alarm_behind>;

  FileTable files;
  char* folder = nullptr;   // absolute, kmalloc; nullptr: `/`. Under process_lock
  char* program = nullptr;  // path, for /proc/self/exe and people
  u32 mask = 022;
  WaitQueue changed;  // a child has ended, or a task has
};

extern SpinLock process_lock;
extern arch::PerCpu<Task*> running_task;

/// The running thread's; it is one of a process.
inline Task& current_task() { return *running_task.get(); }
inline Process& current_process() { return *current_task().process; }
/// Whether a sleep should end.
inline bool interrupted() { return current_task().attention.load(std::memory_order_relaxed) != 0; }

/// Threads switch with their registers from here on. Boot, once.
void init_processes();

/// A program of the kernel's: started, waited for. Its three descriptors are the console.
class ProgramRun {
 public:
  /// The process, or why not, as execve answers.
  static std::expected<Process*, Answer> start(std::string_view path, const ArgumentPages& arguments);
  /// Waits for its end. The status, as wait4 reports it. False from `go_on` kills it.
  static u32 wait(Process* process, bool (*go_on)(void*), void* context);
};

/// A new process without tasks, child of `parent` (or of nobody). Descriptors, folder and actions are the parent's.
Result<Process*> make_process(Process* parent);
/// One that never ran.
void drop_process(Process* process);
/// A task that begins as task->start says; enters the process's list. Takes over task->start_space.
Result<> start_task(Process& process, Task* task, std::string_view name);
Result<Task*> make_task();
void free_task(Task* task);

/// Ends the calling task, and with the last one the process.
[[noreturn]] void end_task();
/// All tasks of the process are to end, with that status. Returns; the caller ends on its way to ring 3.
void end_process(Process& process, u32 status);
/// Everybody else in the process ends, for exec. kAgain if somebody else has begun the same.
Answer end_other_tasks();

/// A copy of its folder, for kfree().
Result<char*> copy_folder(const Process& process);

constexpr u32 exit_status(u32 code) { return (code & 255) << 8; }
constexpr u32 stop_status(u32 signal) { return signal << 8 | 0x7f; }
inline constexpr u32 kContinuedStatus = 0xffff;
/// Options of waits.
inline constexpr u32 kWaitNoHang = 1, kWaitStopped = 2, kWaitContinued = 8;

/// nullptr if there is none. process_lock is held.
Process* find_process(u32 id);
/// All, the youngest first. process_lock is held.
const Process::List& all_processes();

/// The child's id, with its status: it has ended and is gone now, or has stopped or gone on, if `options` ask for that.
Answer wait_for_child(i32 which, u32 options, u32& status, u32& child);

/// Replaces the program of the calling task. 0, and then the frame is the new program's; after an error the old one
/// goes on.
Answer execute(std::string_view path, const ArgumentPages& arguments, arch::TrapFrame& frame);

/// From whoever starts a program to its first task.
struct ProgramStart {
  std::string_view path;
  const ArgumentPages& arguments;
  Answer answer = 0;
  Completion done{};
};

/// Wakes up to `count` sleepers on the word. How many.
u32 futex_wake(VirtAddr at, u32 count, u32 mask = ~0u);

}  // namespace paean
