// alarm() and the interval timer of real time: SIGALRM, once or again and again, at ticks.
#include <algorithm>

#include "kernel/process/calls.hpp"
#include "kernel/process/process_internal.hpp"
#include "mm/user_copy.hpp"

namespace paean {

namespace {

constexpr u32 kLongest = 1u << 24;  // seconds, so that ticks can be compared
constexpr u32 kMicroseconds = 1'000'000, kTickUs = kMicroseconds / arch::kTicksPerSecond;

/// Sends SIGALRM when it is due. One thread for all processes, which looks at them every tick that matters.
constinit WaitQueue alarms_changed;
constinit Process::Alarms alarms;  // processes that have one; under process_lock

/// Ticks; 0: none.
struct Timer {
  u32 left, period;
};

void set_due_locked(Process& process, u32 due) {
  process.alarm_due = due == 0 ? 1 : due;
  alarms.push_back(process);
}

void ring_alarms(void*) {
  for (;;) {
    alarms_changed.wait([] { return !alarms.empty(); });
    thread_sleep_ms(1000 / arch::kTicksPerSecond);
    const SpinGuard<IrqSave> guard{process_lock};
    const u32 present = ticks_now();
    Process* next;
    for (Process* process = alarms.first(); process != nullptr; process = next) {
      next = Process::Alarms::behind(*process);
      if (static_cast<i32>(present - process->alarm_due) < 0) continue;
      drop_alarm_locked(*process);
      if (process->alarm_period != 0) set_due_locked(*process, present + process->alarm_period);
      send_signal_locked(*process, kSigAlarm);
    }
  }
}

Timer timer_of_locked(const Process& process, u32 present) {
  if (process.alarm_due == 0) return {0, 0};
  return {std::max(process.alarm_due - present, 1u), process.alarm_period};
}

/// What was set before.
Timer exchange_timer(Timer wanted) {
  Process& me = current_process();
  Timer before;
  {
    const SpinGuard<IrqSave> guard{process_lock};
    const u32 present = ticks_now();
    before = timer_of_locked(me, present);
    drop_alarm_locked(me);
    me.alarm_period = wanted.period;
    if (wanted.left != 0) set_due_locked(me, present + wanted.left);
  }
  (void)alarms_changed.wake_all();
  return before;
}

struct UserTime {
  u32 seconds, microseconds;
};
struct UserTimer {
  UserTime interval, value;
};

bool is_time(UserTime time) { return static_cast<i32>(time.seconds) >= 0 && time.microseconds < kMicroseconds; }

/// Rounded up: never earlier than asked for.
u32 ticks_of(UserTime time) {
  return std::min(time.seconds, kLongest) * arch::kTicksPerSecond + (time.microseconds + kTickUs - 1) / kTickUs;
}

UserTime time_of(u32 ticks) { return {ticks / arch::kTicksPerSecond, ticks % arch::kTicksPerSecond * kTickUs}; }

Answer show(Timer timer, u32 to) {
  return answer_of(put_user(VirtAddr{to}, UserTimer{time_of(timer.period), time_of(timer.left)}));
}

constexpr u32 kRealTimer = 0;  // the others count CPU time, which is not kept

}  // namespace

void init_alarms() {
  const Result<Thread*> thread = thread_create("alarms", ring_alarms, nullptr, {.detach = Detach::Yes});
  if (!thread) panic("no memory for the alarm thread");
}

void drop_alarm_locked(Process& process) {
  if (std::exchange(process.alarm_due, 0) != 0) alarms.erase(process);
}

Answer call_alarm(const CallArguments& arguments, arch::TrapFrame&) {
  const Timer before = exchange_timer({std::min(arguments.a, kLongest) * arch::kTicksPerSecond, 0});
  return static_cast<Answer>((before.left + arch::kTicksPerSecond - 1) / arch::kTicksPerSecond);
}

Answer call_setitimer(const CallArguments& arguments, arch::TrapFrame&) {
  if (arguments.a != kRealTimer) return err::kInvalid;
  UserTimer wanted{};
  if (arguments.b != 0) wanted = CALL_TRY(get_user<UserTimer>(VirtAddr{arguments.b}));
  if (!is_time(wanted.interval) || !is_time(wanted.value)) return err::kInvalid;
  const Timer before = exchange_timer({ticks_of(wanted.value), ticks_of(wanted.interval)});
  return arguments.c == 0 ? 0 : show(before, arguments.c);
}

Answer call_getitimer(const CallArguments& arguments, arch::TrapFrame&) {
  if (arguments.a != kRealTimer) return err::kInvalid;
  Timer timer;
  {
    const SpinGuard<IrqSave> guard{process_lock};
    timer = timer_of_locked(current_process(), ticks_now());
  }
  return show(timer, arguments.b);
}

}  // namespace paean
