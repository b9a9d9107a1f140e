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
/// Its parent has ended: a group that nobody can continue any more is not left stopped. The process finds that out by
/// itself, because it takes a look at all the others, and there may be thousands. process_lock is held.
void note_lost_parent_locked(Process& orphan);

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
