// Threads from their making to their end.
#include <algorithm>
#include <new>
#include <span>

#include "arch/cpu.hpp"
#include "kernel/preempt.hpp"
#include "kernel/scheduler.hpp"

namespace paean {

extern "C" {
extern char thread_trampoline[];
[[noreturn]] void thread_main(Thread* previous);
}

namespace {

constinit SpinLock table_lock{LockRank::ThreadTable};
constinit Thread* all_threads GUARDED_BY(table_lock) = nullptr;  // in the order of their ids
constinit Thread* youngest GUARDED_BY(table_lock) = nullptr;
constinit Thread* to_reap GUARDED_BY(table_lock) = nullptr;
constinit u32 ids_used GUARDED_BY(table_lock) = 0;
constinit u32 threads GUARDED_BY(table_lock) = 0;

constinit ThreadMemory* memory = nullptr;
constinit Thread main_thread{};
PER_CPU(Thread, own_idle_thread);  // of CPUs whose first flow becomes the idle thread

void set_name(Thread* thread, std::string_view name) {
  const usize length = std::min<usize>(name.size(), Thread::kNameBytes - 1);
  for (usize i = 0; i < length; ++i) thread->name[i] = name[i];
  thread->name[length] = '\0';
}

/// What switch_stacks() pops, and the address that it returns to.
void prepare_stack(Thread* thread, VirtAddr top) {
  constexpr u32 kSaved = 5;  // EDI, ESI, EBX, EBP, return address
  u32* words = reinterpret_cast<u32*>(top.raw()) - kSaved;
  for (u32 i = 0; i < kSaved - 1; ++i) words[i] = 0;
  words[kSaved - 1] = reinterpret_cast<u32>(thread_trampoline);
  thread->saved_esp = reinterpret_cast<u32>(words);
}

Result<Thread*> make_thread(std::string_view name, ThreadEntry entry, void* argument, const ThreadOptions& options) {
  const ThreadPlace place = TRY(memory->take());
  auto* thread = new (place.object) Thread{};
  set_name(thread, name);
  thread->priority = options.priority;
  thread->bound = options.cpu >= 0;
  thread->cpu = thread->bound ? static_cast<u32>(options.cpu) : 0;
  thread->detach = options.detach;
  thread->entry = entry;
  thread->argument = argument;
  thread->stack_top = place.stack_top;
  auto* const lowest = reinterpret_cast<u32*>((place.stack_top - kThreadStackBytes).raw());
  *lowest = kStackMark;
  thread->stack_mark = lowest;
  prepare_stack(thread, place.stack_top);
  return thread;
}

void take_out_of_table(Thread* thread) REQUIRES(table_lock) {
  (thread->table_previous != nullptr ? thread->table_previous->table_next : all_threads) = thread->table_next;
  (thread->table_next != nullptr ? thread->table_next->table_previous : youngest) = thread->table_previous;
  --threads;
}

constexpr std::string_view state_name(ThreadState state) {
  switch (state) {
    case ThreadState::Ready: return "ready";
    case ThreadState::Running: return "running";
    case ThreadState::Blocked: return "blocked";
    case ThreadState::Dead: return "dead";
  }
  return "?";
}

}  // namespace

extern "C" void thread_main(Thread* previous) {
  finish_switch(previous);
  arch::enable_irqs();
  Thread* me = current_thread();
  me->entry(me->argument);
  thread_exit();
}

Result<Thread*> thread_create(std::string_view name, ThreadEntry entry, void* argument, ThreadOptions options) {
  might_sleep("thread_create");
  if (options.cpu >= 0 && !cpu_schedules(static_cast<u32>(options.cpu))) return std::unexpected(Error::InvalidArgument);
  reap_threads();
  Thread* thread = TRY(make_thread(name, entry, argument, options));
  enter_in_table(thread);
  const PreemptGuard guard;  // so that it goes to the CPU that this is
  if (!thread->bound) thread->cpu = arch::this_cpu();
  start_thread(thread);
  return thread;
}

void thread_join(Thread* thread) {
  might_sleep("thread_join");
  Thread* me = current_thread();
  if (thread == me) panic("thread {} waits for its own end", thread_name(thread));
  if (thread->detach == Detach::Yes) panic("join of thread {}, which is detached", thread_name(thread));
  for (;;) {
    {
      const SpinGuard<IrqSave> guard{table_lock};
      if (thread->joiner != nullptr && thread->joiner != me) panic("two joins of thread {}", thread_name(thread));
      thread->joiner = me;
      if (thread->gone) {
        take_out_of_table(thread);
        break;
      }
    }
    park();
  }
  memory->give_back(thread);
}

void thread_exit() NO_THREAD_SAFETY_ANALYSIS {
  Thread* me = current_thread();
  might_sleep("thread_exit");
  reap_threads();  // so that of a crowd that ends nearly nothing is left, though nobody makes a thread any more
  if (me == &main_thread) panic("the first thread ends");
  check_locks_at_exit(me->sleeping_locks);
  arch::disable_irqs();
  RunQueue& queue = run_queue_of(arch::this_cpu());
  queue.lock.lock();
  me->state = ThreadState::Dead;
  switch_away(queue);
  panic("a dead thread runs");
}

void stack_has_overflowed(const Thread* thread) {
  panic("the stack of thread {} has overflowed: its lowest word is {:#x}", thread_name(thread), *thread->stack_mark);
}

void bury(Thread* thread) {
  if (thread->map_words[0] != 0) panic("thread {} ends with {} local maps", thread_name(thread), thread->map_words[0]);
  const SpinGuard<IrqSave> guard{table_lock};
  thread->gone = true;
  if (thread->detach == Detach::Yes) {
    take_out_of_table(thread);
    thread->next_to_reap = to_reap;
    to_reap = thread;
  } else if (thread->joiner != nullptr) {
    unpark(thread->joiner);
  }
}

void reap_threads() {
  for (;;) {
    Thread* thread;
    {
      const SpinGuard<IrqSave> guard{table_lock};
      thread = to_reap;
      if (thread == nullptr) return;
      to_reap = thread->next_to_reap;
    }
    memory->give_back(thread);
  }
}

void enter_in_table(Thread* thread) {
  const SpinGuard<IrqSave> guard{table_lock};
  thread->id = ++ids_used;
  thread->table_next = nullptr;
  thread->table_previous = youngest;
  (youngest != nullptr ? youngest->table_next : all_threads) = thread;
  youngest = thread;
  ++threads;
}

HeldLocks& held_sleeping_locks() { return running_thread.get()->sleeping_locks; }
Thread* current_thread() { return running_thread.get(); }
bool runs_elsewhere(const Thread* thread) {
  for (u32 cpu = 0; cpu < arch::online_cpus(); ++cpu) {
    if (__atomic_load_n(&running_thread.on(cpu), __ATOMIC_RELAXED) == thread) return cpu != arch::this_cpu();
  }
  return false;
}
std::string_view thread_name(const Thread* thread) { return thread != nullptr ? thread->name : "(boot)"; }
u32 thread_id(const Thread* thread) { return thread->id; }
u32 thread_slices(const Thread* thread) { return __atomic_load_n(&thread->slices, __ATOMIC_RELAXED); }
u32 thread_runs(const Thread* thread) { return __atomic_load_n(&thread->runs, __ATOMIC_RELAXED); }
u32 thread_count() {
  const SpinGuard<IrqSave> guard{table_lock};
  return threads;
}
u32 (&thread_map_words(Thread* thread))[kThreadMapWords] { return thread->map_words; }
UserSpace*& thread_user_space(Thread* thread) { return thread->user_space; }

SwitchHook set_switch_hook(SwitchHook hook) { return __atomic_exchange_n(&switch_hook, hook, __ATOMIC_ACQ_REL); }
void set_thread_user(Thread* thread, void* user) { thread->user = user; }
void* thread_user(const Thread* thread) { return thread->user; }
VirtAddr thread_stack_top(const Thread* thread) { return thread->stack_top; }
void set_user_switch_hook(UserSwitchHook hook) { user_switch_hook = hook; }
void set_thread_memory(ThreadMemory& provider) { memory = &provider; }

void init_threads() {
  set_name(&main_thread, "main");
  main_thread.bound = true;
  enter_in_table(&main_thread);
  const Result<Thread*> idle =
      make_thread("idle/0", [](void*) { idle_loop(); }, nullptr, {.priority = Priority::Idle, .cpu = 0});
  if (!idle) panic("no memory for the idle thread");
  enter_in_table(*idle);
  begin_scheduling(&main_thread, *idle);
}

void run_idle_thread() {
  Thread* me = &own_idle_thread.local();
  char name[Thread::kNameBytes];
  BufferSink text{name};
  format_to(text, "idle/{}", arch::this_cpu());
  set_name(me, text.view());
  me->priority = Priority::Idle;
  me->cpu = arch::this_cpu();
  me->bound = true;
  enter_in_table(me);
  begin_scheduling(me, me);
  arch::enable_irqs();
  idle_loop();
}

namespace {

/// What `ps` shows of a thread.
struct ThreadRow {
  char name[Thread::kNameBytes];
  u32 id, cpu, priority, slices, runs;
  ThreadState state;
};

ThreadRow row_of(const Thread& thread) {
  ThreadRow row{.name = {},
                .id = thread.id,
                .cpu = thread.cpu,
                .priority = static_cast<u32>(thread.priority),
                .slices = thread.slices,
                .runs = thread.runs,
                .state = thread.state};
  std::copy_n(thread.name, Thread::kNameBytes, row.name);
  return row;
}

/// The next ones after an id, in the order of ids. How many.
u32 rows_after(u32 last, std::span<ThreadRow> rows) {
  const SpinGuard<IrqSave> guard{table_lock};
  const Thread* thread = all_threads;
  while (thread != nullptr && thread->id <= last) thread = thread->table_next;
  u32 count = 0;
  for (; thread != nullptr && count < rows.size(); thread = thread->table_next) rows[count++] = row_of(*thread);
  return count;
}

}  // namespace

void print_threads(Sink& out) {
  format_to(out, "{:>4}  {:<15}  {:<8} {:>4} {:>4} {:>8} {:>9}\n", "id", "name", "state", "prio", "cpu", "slices",
            "switches");
  ThreadRow rows[16];  // at a time: the console is slow, and each look begins at the front of the list
  for (u32 last = 0;;) {
    const u32 count = rows_after(last, rows);
    if (count == 0) return;
    for (const ThreadRow& row : std::span{rows}.first(count)) {
      format_to(out, "{:>4}  {:<15}  {:<8} {:>4} {:>4} {:>8} {:>9}\n", row.id, static_cast<const char*>(row.name),
                state_name(row.state), row.priority, row.cpu, row.slices, row.runs);
    }
    last = rows[count - 1].id;
  }
}

}  // namespace paean
