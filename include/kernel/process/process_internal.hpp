// Between the sources of kernel/process/.
#pragma once

#include "kernel/process/process.hpp"

namespace paean {

u32 new_task_id();
/// The last task has gone: children lose their parent, the parent hears of it. process_lock is held. True if nobody
/// will wait for it: then it is out of the tree, and the caller frees it.
bool become_zombie_locked(Process& process);
void free_process(Process* process);
/// Frees zombies that nobody waits for.
void reap_orphans();

/// The process was about to stop, has gone on, or has ended: whoever waits for it looks. process_lock is held.
void tell_parent_locked(Process& process, u32 signal);
/// All of its tasks come to deliver_signals(). process_lock is held.
void call_tasks_locked(Process& process);

// kernel/process/orphaned_group.cpp; process_lock is held.

/// Does anybody see members of its group stop, who could continue them?
bool is_looked_after_locked(const Process& process);
/// Its tie to somebody outside of the group, or `process` itself, has gone: members do not stay stopped for ever.
void hang_up_orphans_locked(const Process& process);
/// Will its end break a tie, or has one broken that it has not looked after yet?
bool is_tied_to_group(const Process& process);
/// The child's parent has ended. If that was a tie, the child will look after its group.
void note_lost_parent_locked(Process& child, const Process& parent);

/// end_process() with process_lock held.
void end_process_locked(Process& process, u32 status);
/// A process that was told to end has given its memory back.
void tell_oom_killer();
/// Boot, once.
void init_oom_killer();

/// The thread that sends SIGALRM. Boot, once.
void init_alarms();
/// process_lock is held.
void drop_alarm_locked(Process& process);

}  // namespace paean
