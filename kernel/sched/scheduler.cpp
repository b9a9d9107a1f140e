// Who runs where: switching, waking, stealing, ticks.
#include "kernel/scheduler.hpp"

#include <atomic>

#include "arch/pdpt.hpp"
#include "arch/smp.hpp"
#include "kernel/preempt.hpp"

namespace paean {

extern "C" Thread* switch_stacks(Thread* from, Thread* to);

// The boot flow uses spin locks long before there are threads.
PER_CPU(u32, preempt_count){0u};
PER_CPU(u32, need_resched){0u};
PER_CPU(u32, percpu_claims){0u};
PER_CPU(Thread*, running_thread){nullptr};
constinit SwitchHook switch_hook = nullptr;
constinit UserSwitchHook user_switch_hook = nullptr;

namespace {

constinit RunQueue queues[arch::kMaxCpus]{};
/// A bit for each CPU: runs threads; has nothing to do and has not been woken yet.
constinit std::atomic<u32> scheduling{0};
constinit std::atomic<u32> idle_cpus{0};

/// This CPU's queue, locked, with interrupts off.
RunQueue& lock_own_queue() NO_THREAD_SAFETY_ANALYSIS {
  RunQueue& queue = queues[arch::this_cpu()];
  queue.lock.lock();
  return queue;
}

void tell_to_switch(u32 cpu) {
  if (cpu == arch::this_cpu()) return need_resched.set(1);
  __atomic_store_n(&need_resched.on(cpu), 1u, __ATOMIC_SEQ_CST);
  arch::send_reschedule_ipi(cpu);
}

/// Somebody is ready on a busy CPU: an idle one may come and take it.
void call_idle_cpu() {
  const u32 idle = idle_cpus.load();
  if (idle == 0) return;
  const u32 cpu = static_cast<u32>(__builtin_ctz(idle));
  if ((idle_cpus.fetch_and(~(1u << cpu)) & (1u << cpu)) != 0) tell_to_switch(cpu);
}

/// After a push to a queue that is still locked: once it is free the thread may run, end and be gone.
void announce(const Thread* thread) {
  const RunQueue& queue = queues[thread->cpu];
  if (thread->priority > queue.running->priority || queue.running == queue.idle) return tell_to_switch(thread->cpu);
  if (!thread->bound) call_idle_cpu();
}

/// A thread that another CPU would have run later, taken out of its queue; nullptr if there is none.
Thread* steal_from(RunQueue& queue, u32 thief) NO_THREAD_SAFETY_ANALYSIS {
  const SpinGuard<NoIrq> guard{queue.lock};
  for (u32 level = kPriorities; level-- != 0;) {
    for (Thread* thread = queue.first[level]; thread != nullptr; thread = thread->next_ready) {
      if (thread->bound || thread->map_words[0] != 0) continue;
      queue.remove(thread);
      thread->cpu = thief;  // whoever wants to wake it now waits for the thief's lock
      return thread;
    }
  }
  return nullptr;
}

/// True if this CPU has somebody to run now.
bool find_work() {
  const arch::IrqsOffGuard off;
  const u32 me = arch::this_cpu();
  if (queues[me].ready_count != 0) return true;
  for (u32 step = 1; step < arch::kMaxCpus; ++step) {
    const u32 cpu = (me + step) % arch::kMaxCpus;
    if (!cpu_schedules(cpu) || __atomic_load_n(&queues[cpu].ready_count, __ATOMIC_RELAXED) == 0) continue;
    Thread* thread = steal_from(queues[cpu], me);
    if (thread == nullptr) continue;
    const SpinGuard<NoIrq> guard{queues[me].lock};
    queues[me].push_back(thread);
    return true;
  }
  return false;
}

/// Who runs next, and where the present one goes.
Thread* choose_next(RunQueue& queue, Thread* from) {
  if (from->state == ThreadState::Running && from != queue.idle) {
    from->state = ThreadState::Ready;
    if (queue.best_priority() > static_cast<u32>(from->priority))
      queue.push_front(from);  // driven out, so its turn is not over
    else
      queue.push_back(from);
  }
  if (from == queue.idle) from->state = ThreadState::Ready;
  Thread* to = queue.pop();
  return to != nullptr ? to : queue.idle;
}

}  // namespace

RunQueue& run_queue_of(u32 cpu) { return queues[cpu]; }
u32 scheduling_cpus() { return scheduling.load(); }
bool cpu_schedules(u32 cpu) { return cpu < arch::kMaxCpus && (scheduling.load() & (1u << cpu)) != 0; }

void switch_away(RunQueue& queue) NO_THREAD_SAFETY_ANALYSIS {
  Thread* from = queue.running;
  if (preempt_count.get() != 1) [[unlikely]] {
    panic("thread {} gives up the CPU with preemption off (count {:#x})", thread_name(from), preempt_count.get() - 1);
  }
  check_stack(from);
  arch::check_cr3_reload();
  need_resched.set(0);
  from->slice_over = false;
  Thread* to = choose_next(queue, from);
  to->state = ThreadState::Running;
  if (to == from) return queue.lock.unlock();
  if (from == queue.idle) idle_cpus.fetch_and(~(1u << to->cpu));
  queue.running = to;
  running_thread.set(to);
  ++to->runs;
  if (switch_hook != nullptr) switch_hook(from, to);
  if (from->user != nullptr || to->user != nullptr) user_switch_hook(from->user, to->user);
  finish_switch(switch_stacks(from, to));
}

void finish_switch(Thread* previous) NO_THREAD_SAFETY_ANALYSIS {
  const bool dead = previous->state == ThreadState::Dead;  // another may wake and free it once the lock is free
  queues[arch::this_cpu()].lock.unlock();
  if (dead) bury(previous);
}

void start_thread(Thread* thread) {
  const arch::IrqsOffGuard off;
  RunQueue& queue = queues[thread->cpu];
  const SpinGuard<NoIrq> guard{queue.lock};
  thread->state = ThreadState::Ready;
  queue.push_back(thread);
  announce(thread);
}

void park() NO_THREAD_SAFETY_ANALYSIS {
  if (in_atomic_context()) [[unlikely]]
    panic("thread {} sleeps in atomic context (preempt count {:#x}, interrupts {})", thread_name(current_thread()),
          preempt_count.get(), arch::irqs_enabled() ? "on" : "off");
  const arch::IrqsOffGuard off;
  RunQueue& queue = lock_own_queue();
  Thread* me = queue.running;
  if (me->wake_pending) {
    me->wake_pending = false;
    return queue.lock.unlock();
  }
  me->state = ThreadState::Blocked;
  switch_away(queue);
}

namespace {

void make_ready(Thread* thread, arch::IrqsOff) NO_THREAD_SAFETY_ANALYSIS {
  u32 cpu;
  for (;;) {
    cpu = __atomic_load_n(&thread->cpu, __ATOMIC_RELAXED);
    queues[cpu].lock.lock();
    if (thread->cpu == cpu) break;
    queues[cpu].lock.unlock();
  }
  RunQueue& queue = queues[cpu];
  if (thread->state != ThreadState::Blocked) {
    thread->wake_pending = true;
    return queue.lock.unlock();
  }
  thread->state = ThreadState::Ready;
  queue.push_back(thread);
  announce(thread);
  queue.lock.unlock();
}

}  // namespace

void unpark(Thread* thread) {
  {
    const arch::IrqsOffGuard off;
    make_ready(thread, off.token());
  }
  if (!need_resched.is_zero()) preempt_check();
}

void thread_yield() {
  if (current_thread() == nullptr) return;
  const arch::IrqsOffGuard off;
  switch_away(lock_own_queue());
}

bool in_atomic_context() {
  return !arch::irqs_enabled() || preempt_count.get() != 0 || !percpu_claims.is_zero() || current_thread() == nullptr;
}

void might_sleep(const char* what) {
  if (in_atomic_context()) [[unlikely]] {
    panic("{} may sleep, in atomic context (preempt count {:#x}, interrupts {})", what, preempt_count.get(),
          arch::irqs_enabled() ? "on" : "off");
  }
}

void preempt_check() {
  if (!arch::irqs_enabled() || in_atomic_context()) return;
  const arch::IrqsOffGuard off;
  if (!need_resched.is_zero()) switch_away(lock_own_queue());
}

void preempt_from_interrupt() {
  if (need_resched.is_zero() || preempt_count.get() != 0 || !percpu_claims.is_zero()) return;
  if (running_thread.get() == nullptr) return;
  switch_away(lock_own_queue());
}

void scheduler_tick() {
  Thread* running = running_thread.get();
  if (running == nullptr) return;  // an interrupt before this CPU's threads began
  const u32 me = arch::this_cpu();
  ++running->slices;
  if (me == 0) expire_timers();
  const RunQueue& queue = queues[me];
  if (queue.ready_mask == 0) return;
  const u32 best = queue.best_priority(), own = static_cast<u32>(running->priority);
  if (running != queue.idle && best < own) return;
  // Who holds a mutex would keep all those waiting who come for it during everybody else's slices.
  const bool goes_on = best == own && running->mutexes != 0 && !running->slice_over;
  running->slice_over = goes_on;
  if (!goes_on) need_resched.set(1);
}

void slice_ends_after_all(Thread* running) {
  running->slice_over = false;
  need_resched.set(1);
  preempt_check();
}

void begin_scheduling(Thread* running, Thread* idle) {
  const u32 me = arch::this_cpu();
  RunQueue& queue = queues[me];
  queue.idle = idle;
  queue.running = running;
  running->state = ThreadState::Running;
  running_thread.set(running);
  scheduling.fetch_or(1u << me);
}

void idle_loop() {
  const u32 mine = 1u << arch::this_cpu();  // an idle thread never moves
  for (;;) {
    idle_cpus.fetch_or(mine);  // before looking: who comes later sees it and calls
    if (!find_work()) {
      arch::disable_irqs();
      if (need_resched.is_zero() && queues[arch::this_cpu()].ready_count == 0)
        arch::cpu_idle();
      else
        arch::enable_irqs();
    }
    thread_yield();
  }
}

u32 runnable_threads() {
  u32 sum = 0;
  for (u32 cpu = 0; cpu < arch::kMaxCpus; ++cpu) {
    if (!cpu_schedules(cpu)) continue;
    sum += __atomic_load_n(&queues[cpu].ready_count, __ATOMIC_RELAXED);
    if (__atomic_load_n(&queues[cpu].running, __ATOMIC_RELAXED) != queues[cpu].idle) ++sum;
  }
  return sum;
}

}  // namespace paean

namespace paean::arch {

void hold_cpu() { preempt_disable(); }
void release_cpu() { preempt_enable(); }

bool may_handle_user_fault() {
  return preempt_count.get() == 0 && percpu_claims.is_zero() && running_thread.get() != nullptr;
}

u32 interrupt_begins() {
  const u32 before = preempt_count.get();
  enter_interrupt();
  return before;
}

void interrupt_ends(u32 preemption) {
  check_cr3_reload();
  leave_interrupt();
  if (preempt_count.get() != preemption) [[unlikely]] {
    panic("an interrupt handler changed the preempt count from {:#x} to {:#x}", preemption, preempt_count.get());
  }
  if (!need_resched.is_zero()) preempt_from_interrupt();
}

}  // namespace paean::arch
