// Groups of processes that nobody can continue any more.
//
//   shell, group 1 ---tie---> leader, group 2 ----> member, group 2        one session
//
// A parent in another group of the same session is a tie: it sees members stop, and can continue them. A group without
// ties is orphaned. What a terminal's signals stop elsewhere goes on in there; and if the last tie breaks while members
// are stopped, all get SIGHUP, which ends those that do not care, and SIGCONT.
//
// A tie breaks when either of its ends does. The one in the group looks at all other processes, once: as it ends, or on
// its way to ring 3 after its parent has ended (Process::lost_parent), because such a parent may have thousands.
// Source: POSIX.1-2017, _exit(), consequences of process termination.
#include "kernel/process/process_internal.hpp"

namespace paean {

namespace {

bool is_tie(const Process* parent, const Process& child) {
  return parent != nullptr && parent->state == Process::State::Alive && parent->group != child.group &&
         parent->session == child.session;
}

/// Asks every living member of a process' group, itself perhaps included, until one says yes.
template <typename Fn>
bool any_member_locked(const Process& process, Fn fn) {
  for (Process* at = all_processes().first(); at != nullptr; at = Process::List::behind(*at)) {
    if (at->group == process.group && at->state == Process::State::Alive && fn(*at)) return true;
  }
  return false;
}

}  // namespace

bool is_looked_after_locked(const Process& process) {
  return any_member_locked(process, [](const Process& member) { return is_tie(member.parent, member); });
}

void hang_up_orphans_locked(const Process& process) {
  if (is_looked_after_locked(process)) return;
  if (!any_member_locked(process, [](const Process& member) { return member.stopped; })) return;
  (void)any_member_locked(process, [](Process& member) {
    send_signal_locked(member, kSigHangUp);
    send_signal_locked(member, kSigContinue);
    return false;
  });
}

bool is_tied_to_group(const Process& process) { return process.lost_parent || is_tie(process.parent, process); }

void note_lost_parent_locked(Process& child, const Process& parent) {
  if (child.state != Process::State::Alive || parent.group == child.group || parent.session != child.session) return;
  child.lost_parent = true;
  call_tasks_locked(child);
}

}  // namespace paean
