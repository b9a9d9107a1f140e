// Sleeping for a time: a wheel of 256 ticks, turned by the boot CPU.
#include "arch/interrupts.hpp"
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

}  // namespace

WakeTimer::WakeTimer(u32 milliseconds) : thread_(current_thread()) {
  const SpinGuard<IrqSave> guard{timer_lock};
  due_ = ticks + ticks_for(milliseconds);
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
  __atomic_store_n(&ticks, ticks + 1, __ATOMIC_RELAXED);
  WakeTimer* next;
  for (WakeTimer* timer = slot_of(ticks); timer != nullptr; timer = next) {
    next = timer->next_;
    if (timer->due_ != ticks) continue;  // of a later turn
    timer->unlink();
    __atomic_store_n(&timer->expired_, true, __ATOMIC_RELEASE);
    unpark(timer->thread_);
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
