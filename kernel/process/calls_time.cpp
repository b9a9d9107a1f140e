// Calls about time. Clocks are read from the TSC; sleeps end at ticks.
#include <algorithm>
#include <utility>

#include "arch/tsc.hpp"
#include "kernel/fs/file_time.hpp"
#include "kernel/process/calls.hpp"
#include "mm/user_copy.hpp"

namespace paean {

namespace {

constexpr u64 kSecond = 1'000'000'000;
constexpr u32 kAbsolute = 1;  // TIMER_ABSTIME

struct Time32 {
  u32 seconds, nanoseconds;
};
struct Time64 {
  u64 seconds;
  u32 nanoseconds, unused;
};

enum class Clock : u8 { Real, Monotonic, Wrong };
Clock clock_of(u32 number) {
  constexpr u32 kRealCoarse = 5, kBoot = 7, kTai = 11;
  if (number == 0 || number == kRealCoarse || number == kTai) return Clock::Real;
  return number <= kBoot ? Clock::Monotonic : Clock::Wrong;  // CPU times are not kept apart: all time counts
}

u64 now(Clock clock) { return clock == Clock::Real ? real_ns() : monotonic_ns(); }

/// Sleeps until then; on a signal writes what is left, if that is asked for.
template <typename Time>
Answer sleep(Clock clock, u32 flags, u32 request, u32 left) {
  if (clock == Clock::Wrong) return err::kInvalid;
  const Time wanted = CALL_TRY(get_user<Time>(VirtAddr{request}));
  if (wanted.nanoseconds >= kSecond || static_cast<i32>(wanted.seconds) < 0) return err::kInvalid;
  constexpr u64 kLongest = 1'000'000'000;  // seconds: what is longer is for ever
  u64 time = std::min<u64>(wanted.seconds, kLongest * 4) * kSecond + wanted.nanoseconds;
  if ((flags & kAbsolute) != 0) {
    const u64 present = now(clock);
    time = time > present ? time - present : 0;
  }
  const Deadline deadline{&time};
  while (deadline.sleep()) {
    if (!interrupted()) continue;
    if ((flags & kAbsolute) != 0) return err::kRestartUnlessHandled;
    if (left != 0) {
      const u64 rest = deadline.left();
      Time answer{};
      answer.seconds = static_cast<decltype(answer.seconds)>(rest / kSecond);
      answer.nanoseconds = static_cast<u32>(rest % kSecond);
      if (!put_user(VirtAddr{left}, answer)) return err::kFault;
    }
    deadline.keep();
    return err::kRestartUnlessHandled;
  }
  return 0;
}

template <typename Time>
Answer timed_futex(const CallArguments& arguments) {
  constexpr u32 kWait = 0, kWaitBits = 9, kCommandMask = 127, kRealClock = 256;
  const u32 command = arguments.b & kCommandMask;
  if ((command != kWait && command != kWaitBits) || arguments.d == 0)
    return futex(VirtAddr{arguments.a}, arguments.b, arguments.c, nullptr, arguments.f);
  const Time wanted = CALL_TRY(get_user<Time>(VirtAddr{arguments.d}));
  if (wanted.nanoseconds >= kSecond) return err::kInvalid;
  u64 time = std::min<u64>(wanted.seconds, u64{1} << 33) * kSecond + wanted.nanoseconds;
  if (command == kWaitBits) {  // absolute
    const u64 present = now((arguments.b & kRealClock) != 0 ? Clock::Real : Clock::Monotonic);
    time = time > present ? time - present : 0;
  }
  return futex(VirtAddr{arguments.a}, arguments.b, arguments.c, &time, arguments.f);
}

}  // namespace

u64 monotonic_ns() { return arch::microseconds_since_entry() * 1000; }

u64 real_ns() {
  // The board's clock tells whole seconds: what it said first is where time began.
  static constinit u64 base = 0;
  if (base == 0) base = u64{file_time_now()} * kSecond - monotonic_ns();
  return base + monotonic_ns();
}

Deadline::Deadline(const u64* nanoseconds) : never_(nanoseconds == nullptr) {
  const u64 kept = std::exchange(current_task().kept_deadline, 0);
  if (!never_) at_ = kept != 0 ? kept : monotonic_ns() + *nanoseconds;
}
void Deadline::keep() const {
  if (!never_) current_task().kept_deadline = at_;
}
bool Deadline::over() const { return !never_ && monotonic_ns() >= at_; }
u64 Deadline::left() const {
  if (never_) return ~u64{0};
  const u64 present = monotonic_ns();
  return present >= at_ ? 0 : at_ - present;
}
bool Deadline::sleep() const {
  if (never_) {
    park();
    return true;
  }
  const u64 rest = left();
  if (rest == 0) return false;
  constexpr u64 kMillisecond = 1'000'000, kLongest = 1'000'000;
  const WakeTimer timer{static_cast<u32>(std::min((rest + kMillisecond - 1) / kMillisecond, kLongest))};
  if (!timer.expired() && !interrupted()) park();
  return true;
}

Answer call_clock_gettime(const CallArguments& arguments, arch::TrapFrame&) {
  const Clock clock = clock_of(arguments.a);
  if (clock == Clock::Wrong) return err::kInvalid;
  const u64 time = now(clock);
  return answer_of(
      put_user(VirtAddr{arguments.b}, Time32{static_cast<u32>(time / kSecond), static_cast<u32>(time % kSecond)}));
}

Answer call_clock_gettime64(const CallArguments& arguments, arch::TrapFrame&) {
  const Clock clock = clock_of(arguments.a);
  if (clock == Clock::Wrong) return err::kInvalid;
  const u64 time = now(clock);
  return answer_of(put_user(VirtAddr{arguments.b}, Time64{time / kSecond, static_cast<u32>(time % kSecond), 0}));
}

Answer call_gettimeofday(const CallArguments& arguments, arch::TrapFrame&) {
  const u64 time = real_ns();
  const Time32 shown{static_cast<u32>(time / kSecond), static_cast<u32>(time % kSecond / 1000)};
  if (arguments.a != 0 && !put_user(VirtAddr{arguments.a}, shown)) return err::kFault;
  return arguments.b == 0 ? 0 : answer_of(clear_user(VirtAddr{arguments.b}, sizeof(Time32)));
}

Answer call_time(const CallArguments& arguments, arch::TrapFrame&) {
  const u32 seconds = static_cast<u32>(real_ns() / kSecond);
  if (arguments.a != 0 && !put_user(VirtAddr{arguments.a}, seconds)) return err::kFault;
  return static_cast<Answer>(seconds);
}

Answer call_nanosleep(const CallArguments& arguments, arch::TrapFrame&) {
  return sleep<Time32>(Clock::Monotonic, 0, arguments.a, arguments.b);
}
Answer call_clock_nanosleep(const CallArguments& arguments, arch::TrapFrame&) {
  return sleep<Time32>(clock_of(arguments.a), arguments.b, arguments.c, arguments.d);
}
Answer call_clock_nanosleep64(const CallArguments& arguments, arch::TrapFrame&) {
  return sleep<Time64>(clock_of(arguments.a), arguments.b, arguments.c, arguments.d);
}
Answer call_futex(const CallArguments& arguments, arch::TrapFrame&) { return timed_futex<Time32>(arguments); }
Answer call_futex_time64(const CallArguments& arguments, arch::TrapFrame&) { return timed_futex<Time64>(arguments); }

}  // namespace paean
