// Sending signals, and what becomes of them. Frames on the user's stack are in signal_frame.cpp.
#include "kernel/process/process_internal.hpp"
#include "kernel/process/signal_frame.hpp"

#include "mm/user_copy.hpp"

namespace paean {

namespace {

constexpr u32 kIgnore = 1;
constexpr u32 kNoDefer = 0x40000000, kResetHandler = 0x80000000, kRestartCalls = 0x10000000;
constexpr SignalSet kUnblockable = signal_bit(kSigKill) | signal_bit(kSigStop);

constexpr SignalSet kStops =
    signal_bit(kSigStop) | signal_bit(kSigTerminalStop) | signal_bit(kSigTerminalIn) | signal_bit(kSigTerminalOut);
/// What take_signal() answers in place of a signal.
constexpr u32 kHasStopped = ~0u;

bool stops(u32 signal) { return (signal_bit(signal) & kStops) != 0; }

bool ignored_by_default(u32 signal) {
  constexpr u32 kUrgent = 23, kWindow = 28;
  return signal == kSigChild || signal == kSigContinue || signal == kUrgent || signal == kWindow;
}

bool is_ignored(const Process& process, u32 signal) {
  if (signal == kSigKill) return false;
  const u32 handler = process.actions.of[signal - 1].handler;
  return handler == kIgnore || (handler == 0 && ignored_by_default(signal));
}

void review_locked(Task& task) {
  const SignalSet ready = (task.pending | task.process->pending) & ~task.blocked;
  if (ready != 0)
    task.attention.fetch_or(kAttentionSignal);
  else
    task.attention.fetch_and(~kAttentionSignal);
}

void tell_locked(Task& task) {
  review_locked(task);
  if ((task.attention.load() & kAttentionSignal) != 0 && task.thread != nullptr) unpark(task.thread);
}

/// Of a set that is not empty.
u32 lowest(SignalSet set) {
  const u32 low = static_cast<u32>(set), high = static_cast<u32>(set >> 32);
  return 1 + static_cast<u32>(low != 0 ? __builtin_ctz(low) : 32 + __builtin_ctz(high));
}

void drop_pending_locked(Process& process, SignalSet signals) {
  process.pending &= ~signals;
  for (Task* task = process.tasks; task != nullptr; task = task->next) task->pending &= ~signals;
}

void stop_locked(Process& process, u32 signal) {
  process.stopped = true;
  process.news = stop_status(signal);
  call_tasks_locked(process);  // which wait there
  tell_parent_locked(process, kSigChild);
}

void wake_tasks_locked(Process& process) {
  for (Task* task = process.tasks; task != nullptr; task = task->next) {
    if (task->thread != nullptr) unpark(task->thread);
  }
}

void go_on_locked(Process& process) {
  if (std::exchange(process.stopped, false)) wake_tasks_locked(process);
}

/// What a signal does even where it is blocked or ignored.
void stop_or_go_on_locked(Process& process, u32 signal) {
  if (signal == kSigContinue) {
    drop_pending_locked(process, kStops);
    if (!process.stopped) return;
    go_on_locked(process);
    process.news = kContinuedStatus;
    tell_parent_locked(process, kSigChild);
  } else if (signal == kSigKill) {
    go_on_locked(process);
  } else if (stops(signal)) {
    drop_pending_locked(process, signal_bit(kSigContinue));
  }
}

/// The lowest one that may be delivered, no longer pending; 0 if there is none; kHasStopped after a stop.
u32 take_signal(Task& task, SignalAction& action) {
  const SpinGuard<IrqSave> guard{process_lock};
  Process& process = *task.process;
  u32 signal = 0;
  while (const SignalSet ready = (task.pending | process.pending) & ~task.blocked) {
    const u32 number = lowest(ready);
    (task.pending & signal_bit(number)) != 0 ? task.pending &= ~signal_bit(number)
                                             : process.pending &= ~signal_bit(number);
    if (is_ignored(process, number)) continue;
    SignalAction& set = process.actions.of[number - 1];
    if (stops(number) && set.handler == 0) {
      if (number != kSigStop && !is_looked_after_locked(process)) continue;
      stop_locked(process, number);
      signal = kHasStopped;
      break;
    }
    signal = number;
    action = set;
    if ((set.flags & kResetHandler) != 0 && set.handler > kIgnore) set.handler = 0;
    break;
  }
  review_locked(task);
  return signal;
}

void look_after_group(Process& process) {
  const SpinGuard<IrqSave> guard{process_lock};
  if (std::exchange(process.lost_parent, false)) hang_up_orphans_locked(process);
}

/// The next one to deliver; 0 if there is none. Sleeps while the process is stopped; also 0 if it is to end meanwhile.
u32 next_signal(Task& task, SignalAction& action) {
  Process& process = *task.process;
  for (;;) {
    if (__atomic_load_n(&process.lost_parent, __ATOMIC_RELAXED)) look_after_group(process);
    if (__atomic_load_n(&process.stopped, __ATOMIC_RELAXED) && !process.ending) {
      park();  // until something happens to the process
      continue;
    }
    if (process.ending && process.survivor != &task) return 0;
    const u32 signal = take_signal(task, action);
    if (signal != kHasStopped) return signal;
  }
}

/// The call that a signal has interrupted begins again, or says so.
void settle_call(arch::TrapFrame& frame, const SignalAction* action) {
  const i32 answer = static_cast<i32>(frame.eax);
  const bool always = answer == err::kRestart;
  if (frame.vector != arch::kVectorSystemCall || (!always && answer != err::kRestartUnlessHandled)) return;
  if (action != nullptr && (!always || (action->flags & kRestartCalls) == 0)) {
    frame.eax = static_cast<u32>(err::kInterrupted);
    return;
  }
  constexpr u32 kCallBytes = 2;  // int $0x80
  frame.eax = frame.error;
  frame.eip -= kCallBytes;
}

void run_handler(arch::TrapFrame& frame, Task& me, u32 signal, const SignalAction& action) {
  const SignalSet before = me.restore_blocked ? me.blocked_before_suspend : me.blocked;
  me.restore_blocked = false;
  me.kept_deadline = 0;  // the handler may wait for something else
  if (!push_signal_frame(frame, me, signal, action, before)) {
    end_process(*me.process, kSigSegv);
    return;
  }
  frame.vector = 0;  // not the end of a call any more
  SignalSet blocked = me.blocked | action.mask;
  if ((action.flags & kNoDefer) == 0) blocked |= signal_bit(signal);
  set_blocked(me, blocked);
}

void send_to_task_locked(Task& task, u32 signal) {
  if (signal == 0) return;
  stop_or_go_on_locked(*task.process, signal);
  if (is_ignored(*task.process, signal)) return;
  task.pending |= signal_bit(signal);
  tell_locked(task);
}

}  // namespace

void tell_parent_locked(Process& process, u32 signal) {
  Process* const parent = process.parent;
  if (parent == nullptr) return;
  constexpr u32 kNotOfStops = 1;
  const bool unwanted =
      process.state == Process::State::Alive && (parent->actions.of[kSigChild - 1].flags & kNotOfStops) != 0;
  if (signal != 0 && !unwanted) send_signal_locked(*parent, signal);
  (void)parent->changed.wake_all();
}

void call_tasks_locked(Process& process) {
  for (Task* task = process.tasks; task != nullptr; task = task->next) task->attention.fetch_or(kAttentionStop);
  wake_tasks_locked(process);
}

void send_signal_locked(Process& process, u32 signal) {
  if (signal == 0 || process.state == Process::State::Zombie) return;
  stop_or_go_on_locked(process, signal);
  if (is_ignored(process, signal)) return;
  process.pending |= signal_bit(signal);
  for (Task* task = process.tasks; task != nullptr; task = task->next) tell_locked(*task);
}

void send_signal(Process& process, u32 signal) {
  const SpinGuard<IrqSave> guard{process_lock};
  send_signal_locked(process, signal);
}

void send_signal_to_task(Task& task, u32 signal) {
  const SpinGuard<IrqSave> guard{process_lock};
  send_to_task_locked(task, signal);
}

void force_signal(const SignalFault& fault) {
  Task& me = current_task();
  {
    const SpinGuard<IrqSave> guard{process_lock};
    const bool deaf = (me.blocked & signal_bit(fault.signal)) != 0 || is_ignored(*me.process, fault.signal);
    if (!deaf) {
      me.fault = fault;
      me.pending |= signal_bit(fault.signal);
      return review_locked(me);
    }
  }
  end_process(*me.process, fault.signal);
}

void set_blocked(Task& task, SignalSet blocked) {
  const SpinGuard<IrqSave> guard{process_lock};
  task.blocked = blocked & ~kUnblockable;
  review_locked(task);
}

void deliver_signals(arch::TrapFrame& frame) {
  Task& me = current_task();
  me.attention.fetch_and(~(kAttentionEnd | kAttentionRestart | kAttentionStop));
  SignalAction action;
  const u32 signal = next_signal(me, action);
  if (me.process->ending && me.process->survivor != &me) end_task();
  if (signal != 0 && action.handler > kIgnore) {
    settle_call(frame, &action);
    return run_handler(frame, me, signal, action);
  }
  if (signal != 0) return end_process(*me.process, signal);
  settle_call(frame, nullptr);
  if (std::exchange(me.restore_blocked, false)) set_blocked(me, me.blocked_before_suspend);
}

Answer sys_rt_sigaction(u32 signal, u32 action, u32 old, u32 set_bytes) {
  struct UserAction {
    u32 handler, flags, restorer;
    u32 mask[2];
  };
  if (signal == 0 || signal > kSignals || set_bytes != sizeof(SignalSet)) return err::kInvalid;
  if (action != 0 && (signal_bit(signal) & kUnblockable) != 0) return err::kInvalid;
  UserAction wanted{};
  if (action != 0) wanted = CALL_TRY(get_user<UserAction>(VirtAddr{action}));
  SignalAction before;
  {
    const SpinGuard<IrqSave> guard{process_lock};
    Process& process = current_process();
    before = process.actions.of[signal - 1];
    if (action != 0) {
      const SignalSet mask = wanted.mask[0] | SignalSet{wanted.mask[1]} << 32;
      process.actions.of[signal - 1] = {wanted.handler, wanted.flags, wanted.restorer, mask};
      if (is_ignored(process, signal)) process.pending &= ~signal_bit(signal);
    }
  }
  if (old == 0) return 0;
  const UserAction shown{before.handler,
                         before.flags,
                         before.restorer,
                         {static_cast<u32>(before.mask), static_cast<u32>(before.mask >> 32)}};
  return answer_of(put_user(VirtAddr{old}, shown));
}

Answer sys_rt_sigprocmask(u32 how, u32 set, u32 old, u32 set_bytes) {
  if (set_bytes != sizeof(SignalSet)) return err::kInvalid;
  Task& me = current_task();
  const SignalSet before = me.blocked;
  if (set != 0) {
    const SignalSet wanted = CALL_TRY(get_user<SignalSet>(VirtAddr{set}));
    if (how > 2) return err::kInvalid;
    const SignalSet results[] = {before | wanted, before & ~wanted, wanted};
    set_blocked(me, results[how]);
  }
  return old == 0 ? 0 : answer_of(put_user(VirtAddr{old}, before));
}

Answer sys_rt_sigpending(u32 set, u32 set_bytes) {
  if (set_bytes > sizeof(SignalSet)) return err::kInvalid;
  Task& me = current_task();
  SignalSet pending;
  {
    const SpinGuard<IrqSave> guard{process_lock};
    pending = (me.pending | me.process->pending) & me.blocked;
  }
  return answer_of(copy_to_user(VirtAddr{set}, &pending, set_bytes));
}

Answer sys_rt_sigsuspend(u32 set, u32 set_bytes) {
  if (set_bytes != sizeof(SignalSet)) return err::kInvalid;
  const SignalSet wanted = CALL_TRY(get_user<SignalSet>(VirtAddr{set}));
  Task& me = current_task();
  me.blocked_before_suspend = me.blocked;
  me.restore_blocked = true;
  set_blocked(me, wanted);
  return sys_pause();
}

Answer sys_pause() {
  while (!interrupted()) park();
  return err::kRestartUnlessHandled;
}

Answer sys_sigaltstack(u32 stack, u32 old) {
  struct Stack {
    u32 address, flags, bytes;
  };
  constexpr u32 kDisabled = 2, kLeast = 2048;
  Task& me = current_task();
  const Stack before{me.alternate_stack.raw(), me.alternate_bytes == 0 ? kDisabled : 0, me.alternate_bytes};
  if (stack != 0) {
    const Stack wanted = CALL_TRY(get_user<Stack>(VirtAddr{stack}));
    const bool off = (wanted.flags & kDisabled) != 0;
    if (!off && wanted.bytes < kLeast) return err::kNoMemory;
    me.alternate_stack = VirtAddr{wanted.address};
    me.alternate_bytes = off ? 0 : wanted.bytes;
  }
  return old == 0 ? 0 : answer_of(put_user(VirtAddr{old}, before));
}

namespace {

/// kNoProcess if it has no such task.
Answer send_to_task_of(Process& process, u32 task_id, u32 signal) REQUIRES(process_lock) {
  Task* task = process.tasks;
  while (task != nullptr && task->id != task_id) task = task->next;
  if (task == nullptr) return err::kNoProcess;
  send_to_task_locked(*task, signal);
  return 0;
}

}  // namespace

Answer sys_kill(i32 which, u32 signal) {
  if (signal > kSignals) return err::kInvalid;
  const SpinGuard<IrqSave> guard{process_lock};
  if (which > 0) {
    Process* const process = find_process(static_cast<u32>(which));
    if (process == nullptr) return err::kNoProcess;
    send_signal_locked(*process, signal);
    return 0;
  }
  const Process& me = current_process();
  const u32 group = which == 0 ? me.group : static_cast<u32>(-which);
  bool any = false;
  for (Process* process = all_processes().first(); process != nullptr; process = Process::List::behind(*process)) {
    const bool meant = which == -1 ? process != &me : process->group == group;
    if (!meant) continue;
    any = true;
    send_signal_locked(*process, signal);
  }
  return any ? 0 : err::kNoProcess;
}

Answer sys_tgkill(i32 which, i32 task_id, u32 signal) {
  if (signal > kSignals || task_id <= 0) return err::kInvalid;
  const SpinGuard<IrqSave> guard{process_lock};
  if (which > 0) {
    Process* const process = find_process(static_cast<u32>(which));
    return process == nullptr ? err::kNoProcess : send_to_task_of(*process, static_cast<u32>(task_id), signal);
  }
  for (Process* process = all_processes().first(); process != nullptr; process = Process::List::behind(*process)) {
    if (send_to_task_of(*process, static_cast<u32>(task_id), signal) == 0) return 0;
  }
  return err::kNoProcess;
}

}  // namespace paean
