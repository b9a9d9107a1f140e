// What programs ask about the machine and about what they have used of it. CPU time is not kept for each process: what
// tells it says 0.
#include <algorithm>

#include "kernel/process/calls.hpp"
#include "kernel/scheduler.hpp"
#include "mm/swap.hpp"
#include "mm/user_copy.hpp"
#include "mm/zone.hpp"

namespace paean {

Answer call_sysinfo(const CallArguments& arguments, arch::TrapFrame&) {
  constexpr u32 kSecondShift = 16;  // of the three averages
  struct SystemInfo {
    u32 uptime, loads[3], total, free, shared, buffers, total_swap, free_swap;
    u16 processes, unused;
    u32 total_high, free_high, unit;
    u8 rest[8];
  };
  static_assert(sizeof(SystemInfo) == 64);
  SystemInfo info{};
  info.uptime = static_cast<u32>(monotonic_ns() / 1'000'000'000);
  info.loads[0] = info.loads[1] = info.loads[2] = runnable_threads() << kSecondShift;
  const MemoryTotals low = low_totals(), high = high_totals();
  info.total = (low.total + high.total).count();
  info.free = (low.free + high.free).count();
  info.total_high = high.total.count();
  info.free_high = high.free.count();
  const SwapTotals swap = swap_totals();
  info.total_swap = swap.total;
  info.free_swap = swap.free;
  info.unit = kPageSize;
  {
    const SpinGuard<IrqSave> guard{process_lock};
    info.processes = static_cast<decltype(info.processes)>(all_processes().count());
  }
  return answer_of(put_user(VirtAddr{arguments.a}, info));
}

Answer call_times(const CallArguments& arguments, arch::TrapFrame&) {
  if (arguments.a != 0 && !clear_user(VirtAddr{arguments.a}, 4 * sizeof(u32))) return err::kFault;
  return static_cast<Answer>(ticks_now() & 0x7fffffff);
}

Answer call_getrusage(const CallArguments& arguments, arch::TrapFrame&) {
  constexpr u32 kUsageBytes = 72, kThread = 1;
  const i32 who = static_cast<i32>(arguments.a);
  if (who < -1 || who > static_cast<i32>(kThread)) return err::kInvalid;
  return answer_of(clear_user(VirtAddr{arguments.b}, kUsageBytes));
}

/// There are no groups beside the first.
Answer call_getgroups(const CallArguments& arguments, arch::TrapFrame&) {
  return static_cast<i32>(arguments.a) < 0 ? err::kInvalid : 0;
}

Answer call_sched_getaffinity(const CallArguments& arguments, arch::TrapFrame&) {
  if (arguments.b < sizeof(u32) || arguments.b % sizeof(u32) != 0) return err::kInvalid;
  const Answer answer = answer_of(put_user(VirtAddr{arguments.c}, scheduling_cpus()));
  return answer == 0 ? Answer{sizeof(u32)} : answer;
}

}  // namespace paean
