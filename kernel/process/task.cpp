// Threads of processes, from their making to their end, and their way to ring 3.
#include <memory>

#include "arch/fixmap.hpp"
#include "kernel/process/process_internal.hpp"
#include "kernel/sync.hpp"
#include "lib/log.hpp"
#include "mm/kmalloc.hpp"
#include "mm/user_copy.hpp"

namespace paean {

PER_CPU(Task*, running_task){nullptr};

namespace {

/// At every switch from or to a task, interrupts off.
void switch_tasks(void* from, void* to) {
  if (from != nullptr) arch::save_fpu(static_cast<Task*>(from)->context);
  auto* const task = static_cast<Task*>(to);
  running_task.set(task);
  if (task == nullptr) return;
  arch::load_fpu(task->context);
  arch::load_user_context(task->context, thread_stack_top(task->thread));
}

/// The first task of a program that the kernel starts. `start` goes when it is told the answer.
void begin_program(ProgramStart& start, arch::TrapFrame& frame) {
  const Answer answer = execute(start.path, start.arguments, frame);
  if (answer != 0) end_process(current_process(), exit_status(127));
  start.answer = answer;
  start.done.complete();
}

void begin_task(void* argument) {
  auto* const me = static_cast<Task*>(argument);
  arch::TrapFrame frame = me->start;  // not at the top of the stack yet: there this function has its own things
  {
    const arch::IrqsOffGuard off;
    me->thread = current_thread();
    set_thread_user(current_thread(), me);
    switch_tasks(nullptr, me);
  }
  {
    const SpinGuard<IrqSave> guard{process_lock};
    me->next = me->process->tasks;
    me->process->tasks = me;
    if (me->process->ending || me->process->pending != 0) me->attention |= kAttentionSignal;
    if (me->process->stopped || me->process->lost_parent) me->attention |= kAttentionStop;
  }
  if (UserSpace* space = std::exchange(me->start_space, nullptr)) {
    UserSpace::switch_to(space);
    space->put();
  }
  if (me->store_id_at != VirtAddr{}) (void)put_user(me->store_id_at, me->id);
  if (ProgramStart* program = std::exchange(me->program, nullptr)) begin_program(*program, frame);
  arch::disable_irqs();
  arch::before_user_return(frame);
  arch::enter_user(frame);
}

void leave_list_locked(Task* me) {
  Task** link = &me->process->tasks;
  while (*link != me) link = &(*link)->next;
  *link = me->next;
}

}  // namespace

Result<Task*> make_task() {
  auto* const task = new (TRY(kmalloc(sizeof(Task), AllocFlags::Kernel))) Task{};
  arch::clear_context(task->context);
  return task;
}

void free_task(Task* task) {
  if (task->start_space != nullptr) task->start_space->put();
  std::destroy_at(task);
  kfree(task);
}

Result<> start_task(Process& process, Task* task, std::string_view name) {
  task->process = &process;
  {
    const SpinGuard<IrqSave> guard{process_lock};
    ++process.task_count;
  }
  const Result<Thread*> thread = thread_create(name, begin_task, task, {.detach = Detach::Yes});
  if (thread) return {};
  const SpinGuard<IrqSave> guard{process_lock};
  --process.task_count;
  return std::unexpected(thread.error());
}

void end_task() {
  Task* const me = &current_task();
  Process& process = *me->process;
  if (me->clear_at_end != VirtAddr{}) {
    if (put_user(me->clear_at_end, u32{0})) (void)futex_wake(me->clear_at_end, 1);
  }
  UserSpace::switch_to(nullptr);
  if (process.ending) tell_oom_killer();
  if (me->released != nullptr) me->released->complete();
  bool last;
  {
    const SpinGuard<IrqSave> guard{process_lock};
    if (process.task_count == 1) drop_alarm_locked(process);
    leave_list_locked(me);
    last = process.task_count == 1;
    if (!last) {
      --process.task_count;
      (void)process.changed.wake_all();
    }
  }
  if (last) process.files.close_all();
  {
    const arch::IrqsOffGuard off;
    set_thread_user(current_thread(), nullptr);
    running_task.set(nullptr);
  }
  free_task(me);
  if (last) {
    bool unwanted;
    {
      const SpinGuard<IrqSave> guard{process_lock};
      --process.task_count;
      unwanted = become_zombie_locked(process);
    }
    if (unwanted) free_process(&process);
    reap_orphans();
  }
  thread_exit();
}

void end_process(Process& process, u32 status) {
  const SpinGuard<IrqSave> guard{process_lock};
  end_process_locked(process, status);
}

void end_process_locked(Process& process, u32 status) {
  if (process.ending && process.survivor == nullptr) return;  // the first status counts
  process.ending = true;
  process.survivor = nullptr;
  process.status = status;
  for (Task* task = process.tasks; task != nullptr; task = task->next) {
    task->attention |= kAttentionEnd;
    unpark(task->thread);
  }
}

Answer end_other_tasks() {
  Task& me = current_task();
  Process& process = *me.process;
  {
    const SpinGuard<IrqSave> guard{process_lock};
    if (process.ending) return err::kAgain;
    if (process.task_count == 1) return 0;
    process.ending = true;
    process.survivor = &me;
    for (Task* task = process.tasks; task != nullptr; task = task->next) {
      if (task == &me) continue;
      task->attention |= kAttentionEnd;
      unpark(task->thread);
    }
  }
  const auto killed = [&process, &me] { return process.survivor != &me; };
  const bool alone = process.changed.wait_unless(killed, [&process] { return process.task_count == 1; });
  const SpinGuard<IrqSave> guard{process_lock};
  if (!alone || process.survivor != &me) return err::kAgain;
  process.ending = false;
  process.survivor = nullptr;
  return 0;
}

void init_processes() {
  if (!arch::cpu_runs_users()) log_warning("this CPU has no FXSAVE: no programs");
  set_user_switch_hook(switch_tasks);
  init_alarms();
  init_oom_killer();
}

}  // namespace paean

namespace paean::arch {

namespace {

#ifdef PAEAN_DEBUG
/// What a thread must not carry to ring 3.
void check_return(const TrapFrame& frame) {
  ASSERT(frame.from_user() && (frame.eflags & kEflagsIf) != 0);
  ASSERT(preempt_count.get() == 0 && percpu_claims.is_zero());
  ASSERT(fix_depth() == 0);
  ASSERT(held_sleeping_locks().count() == 0 && held_ranks() == 0);
  UserSpace::current()->check_counts();
}
#else
void check_return(const TrapFrame&) {}
#endif

}  // namespace

void before_user_return(TrapFrame& frame) {
  for (;;) {
    if (!need_resched.is_zero()) [[unlikely]] {
      enable_irqs();
      preempt_check();
      disable_irqs();
    }
    if (current_task().attention.load(std::memory_order_relaxed) == 0) [[likely]]
      break;
    enable_irqs();
    deliver_signals(frame);
    disable_irqs();
  }
  check_return(frame);
}

}  // namespace paean::arch
