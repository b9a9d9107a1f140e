// Sleeping for a time: a wheel of 256 ticks, turned by the boot CPU.
//
// The clock says which tick it is, not the number of interrupts: a busy host delivers none for a while and then several
// at once, and nobody's sleep may be shorter for that.
#include "arch/interrupts.hpp"
#include "arch/tsc.hpp"
#include "kernel/scheduler.hpp"
#include "kernel/wait.hpp"

namespace paean {

namespace {

constexpr u32 kWheelSlots = 256;  // 2.56 s: longer sleepers are looked at once a turn

constinit SpinLock timer_lock{LockRank::Timer};
constinit WakeTimer* wheel[kWheelSlots]{};
constinit u32 ticks = 0;

/// Rounded up, and one more because the present tick is partly over.
u32 ticks_for(u32 milliseconds) {
  constexpr u32 kTickMs = 1000 / arch::kTicksPerSecond;
  return milliseconds / kTickMs + (milliseconds % kTickMs != 0 ? 1 : 0) + 1;
}

WakeTimer*& slot_of(u32 due) { return wheel[due % kWheelSlots]; }

u32 tick_of_clock() {
  constexpr u32 kTickUs = 1'000'000 / arch::kTicksPerSecond;
  return static_cast<u32>(arch::microseconds_since_entry() / kTickUs);
}

/// The wheel is never behind the clock of another CPU by much, nor must it ever go back.
u32 latest(u32 a, u32 b) { return static_cast<i32>(a - b) > 0 ? a : b; }

}  // namespace

WakeTimer::WakeTimer(u32 milliseconds) : thread_(current_thread()) {
  const SpinGuard<IrqSave> guard{timer_lock};
  due_ = latest(tick_of_clock(), ticks) + ticks_for(milliseconds);
  next_ = slot_of(due_);
  if (next_ != nullptr) next_->previous_ = this;
  slot_of(due_) = this;
}

/// Takes the lock even when it has expired: the tick may still be using it.
WakeTimer::~WakeTimer() {
  const SpinGuard<IrqSave> guard{timer_lock};
  if (!expired_) unlink();
}

void WakeTimer::unlink() {
  (previous_ != nullptr ? previous_->next_ : slot_of(due_)) = next_;
  if (next_ != nullptr) next_->previous_ = previous_;
}

void expire_timers() {
  const SpinGuard<NoIrq> guard{timer_lock};
  const u32 now = latest(tick_of_clock(), ticks);
  // After one turn every timer has been looked at.
  const u32 slots = now - ticks < kWheelSlots ? now - ticks : kWheelSlots;
  __atomic_store_n(&ticks, now, __ATOMIC_RELAXED);
  for (u32 slot = now - slots + 1; slot != now + 1; ++slot) {
    WakeTimer* next;
    for (WakeTimer* timer = slot_of(slot); timer != nullptr; timer = next) {
      next = timer->next_;
      if (static_cast<i32>(timer->due_ - now) > 0) continue;  // of a later turn
      timer->unlink();
      __atomic_store_n(&timer->expired_, true, __ATOMIC_RELEASE);
      unpark(timer->thread_);
    }
  }
}

u32 ticks_now() { return __atomic_load_n(&ticks, __ATOMIC_RELAXED); }

void thread_sleep_ms(u32 milliseconds) {
  might_sleep("thread_sleep_ms");
  const WakeTimer timer{milliseconds};
  while (!timer.expired()) park();
  // NOLINTNEXTLINE(clang-analyzer-core.StackAddressEscape): the timer's destructor takes it out of the wheel
}

}  // namespace paean
