// Which process ends when memory does not suffice.
//
//   points = pages of its own, resident and in the swap, and page tables
//
// Pages of files do not count: they are given back without anybody's end, and others have them too.
// The one with the most points, the youngest of equals, and everybody who shares its address space. Who is about to end
// already is waited for, but not for ever: then it is passed over. Nothing is allocated on the way.
// Source: oom_badness() of Linux, whose report this prints line for line.
#include "mm/oom.hpp"

#include "kernel/log_lines.hpp"
#include "kernel/process/process_internal.hpp"
#include "kernel/wait.hpp"
#include "mm/swap.hpp"
#include "mm/vm_events.hpp"

namespace paean {

namespace {

constexpr u32 kPatienceMs = 2000;  // for a victim: it may wait for a disk, or for a lock of whoever waits for it
constexpr u32 kDirectories = 4;    // of each space
constexpr u32 kMostRows = 200;     // of the report: a second of a serial line

constinit std::atomic<u32> ends{0};
constinit WaitQueue one_has_ended;

/// Enough for a line of the report, and to find it again.
struct Candidate {
  u32 id = 0;
  u32 points = 0;
  bool ending = false;
  UserSize size{};
  char name[16]{};  // as comm in Linux
};

u32 points_of(const UserSize& size) { return size.anonymous + size.swapped + size.tables + kDirectories; }

void copy_name(char (&to)[16], const char* path) {
  u32 length = 0;
  for (const char* at = path != nullptr ? path : "?"; *at != '\0'; ++at) {
    if (*at == '/')
      length = 0;
    else if (length < sizeof to - 1)
      to[length++] = *at;
  }
  to[length] = '\0';
}

/// nullopt for a process that has no memory to give, or no more. process_lock is held.
std::optional<Candidate> look_at(const Process& process) {
  if (process.state != Process::State::Alive || process.passed_over) return std::nullopt;
  for (const Task* task = process.tasks; task != nullptr; task = task->next) {
    const auto size = UserSpace::size_for(task->thread);
    if (!size) continue;
    Candidate candidate{.id = process.id,
                        .points = points_of(*size),
                        .ending = process.ending && process.survivor == nullptr,
                        .size = *size};
    copy_name(candidate.name, process.program);
    return candidate;
  }
  return std::nullopt;
}

/// The worst, or one that ends already; id 0 if there is nobody.
Candidate choose() {
  const SpinGuard<IrqSave> guard{process_lock};
  Candidate worst;
  for (const Process* process = all_processes().first(); process != nullptr;
       process = Process::List::behind(*process)) {
    const auto candidate = look_at(*process);
    if (!candidate) continue;
    if (candidate->ending) return *candidate;
    if (worst.id == 0 || candidate->points > worst.points) worst = *candidate;
  }
  return worst;
}

bool uses(const Process& process, const UserSpace* space) {
  for (const Task* task = process.tasks; task != nullptr; task = task->next) {
    const auto size = UserSpace::size_for(task->thread);
    if (size && size->space == space) return true;
  }
  return false;
}

void kill_all_of(const UserSpace* space) {
  const SpinGuard<IrqSave> guard{process_lock};
  for (Process* process = all_processes().first(); process != nullptr; process = Process::List::behind(*process)) {
    if (process->state == Process::State::Alive && uses(*process, space)) end_process_locked(*process, kSigKill);
  }
}

u32 process_count() {
  const SpinGuard<IrqSave> guard{process_lock};
  return all_processes().count();
}

/// The oldest process that is younger than `after`. process_lock is held.
const Process* next_after(u32 after) {
  const Process* process = all_processes().last();
  while (process != nullptr && process->id <= after) process = Process::List::before(*process);
  return process;
}

/// A row for each process, looked at one by one: the lock is not held while a line is printed. Of a crowd the oldest.
void print_tasks(Sink& out) {
  format_to(out, "Tasks state (memory values in pages):\n");
  format_to(out, "[  pid  ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name\n");
  u32 after = 0;
  for (u32 rows = 0; rows < kMostRows; ++rows) {
    std::optional<Candidate> next;
    {
      const SpinGuard<IrqSave> guard{process_lock};
      const Process* const found = next_after(after);
      if (found == nullptr) return;
      after = found->id;
      next = look_at(*found);
    }
    if (!next) continue;
    const UserSize& size = next->size;
    format_to(out, "[{:>7}] {:>5} {:>5} {:>8} {:>8} {:>8} {:>8} {:>13} {}\n", next->id, 0, next->id, size.mapped,
              size.anonymous + size.file, (size.tables + kDirectories) * kPageSize, size.swapped, 0,
              static_cast<const char*>(next->name));
  }
  format_to(out, "[ no more than {} of {} processes ]\n", kMostRows, process_count());
}

void report(const Candidate& victim, AllocFlags flags, Order order) {
  LogLines out{LogLevel::Warning};
  format_to(out, "{} invoked oom-killer: zone={}, order={}, oom_score_adj=0\n", thread_name(current_thread()),
            name(flags.zone()), order);
  print_memory_report(out);
  const SwapTotals swap = swap_totals();
  format_to(out, "Free swap  = {}kB\nTotal swap = {}kB\n", PageCount{swap.free}.kib(), PageCount{swap.total}.kib());
  print_tasks(out);
  const UserSize& size = victim.size;
  format_to(out, "Out of memory: Killed process {} ({}) total-vm:{}kB, anon-rss:{}kB, file-rss:{}kB, shmem-rss:0kB, ",
            victim.id, static_cast<const char*>(victim.name), PageCount{size.mapped}.kib(),
            PageCount{size.anonymous}.kib(), PageCount{size.file}.kib());
  format_to(out, "UID:0 pgtables:{}kB oom_score_adj:0\n", PageCount{size.tables + kDirectories}.kib());
}

/// Is it the thread that asks who has to end?
bool is_mine(const Candidate& victim) {
  const Task* me = running_task.get();
  if (me == nullptr) return false;
  if (me->process->id == victim.id) return true;
  return UserSpace::current() != nullptr && UserSpace::current() == victim.size.space;
}

void pass_over(u32 id) {
  const SpinGuard<IrqSave> guard{process_lock};
  if (Process* process = find_process(id)) process->passed_over = true;
}

bool kill_one(AllocFlags flags, Order order) {
  if (const Task* me = running_task.get(); me != nullptr && me->process->ending) return false;
  const u32 before = ends.load();
  const Candidate victim = choose();
  if (victim.id == 0) return false;
  if (!victim.ending) {
    report(victim, flags, order);
    count_event(VmEvent::OomKill);
    kill_all_of(victim.size.space);
  }
  if (is_mine(victim)) return false;
  if (!one_has_ended.wait_for_ms(kPatienceMs, [before] { return ends.load() != before; })) pass_over(victim.id);
  return true;
}

}  // namespace

void tell_oom_killer() {
  ends.fetch_add(1);
  (void)one_has_ended.wake_all();
}

void init_oom_killer() { set_oom_killer(kill_one); }

}  // namespace paean
