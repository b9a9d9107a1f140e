// ps and locks.
#include "kernel/console/command.hpp"
#include "kernel/spinlock.hpp"
#include "kernel/thread.hpp"
#include "mm/stack_pool.hpp"

namespace paean {

namespace {

CommandStatus show_threads(Args& args, Sink& out) {
  if (!args.end()) return CommandStatus::Usage;
  print_threads(out);
  const StackPoolCounts stacks = stack_pool_counts();
  format_to(out, "{} threads; stacks: {} in use, {} kept for the next, {} possible", thread_count(), stacks.used,
            stacks.cached, stacks.slots);
  format_to(out, "; in lowmem: {} in use, {} possible\n", stacks.direct_used, stacks.direct_most);
  return CommandStatus::Ok;
}

CommandStatus show_locks(Args& args, Sink& out) {
  if (!args.end()) return CommandStatus::Usage;
  format_to(out, "the order in which locks are taken, outermost first:\n");
  for (u32 rank = 0; rank < kLockRanks; ++rank) {
    if (const char* name = lock_rank_name(rank)) format_to(out, "  {:>2}  {}\n", rank, name);
  }
#ifdef PAEAN_DEBUG
  for (u32 cpu = 0; cpu < arch::online_cpus(); ++cpu) {
    format_to(out, "cpu {}: {} spinning locks held, ranks {:#x}\n", cpu, spinning_locks_of(cpu).count(),
              spinning_locks_of(cpu).ranks());
  }
#else
  format_to(out, "what is held is known in debug builds only\n");
#endif
  return CommandStatus::Ok;
}

KCOMMAND(ps, "", "threads: state, priority, CPU, time slices used", show_threads)
KCOMMAND(locks, "", "ranks of all locks, and what is held", show_locks)

}  // namespace

}  // namespace paean
