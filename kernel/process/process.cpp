// The tree of processes: making, finding, waiting.
#include "kernel/process/process_internal.hpp"

#include <memory>

#include "mm/kmalloc.hpp"

namespace paean {

constinit SpinLock process_lock{kProcessRank};

namespace {

constexpr u32 kBuckets = 1024;  // 4 KiB; 30 steps with 30,000 processes

constinit Process::List all GUARDED_BY(process_lock);
constinit Process* by_id[kBuckets] GUARDED_BY(process_lock){};
constinit Process::Siblings orphans GUARDED_BY(process_lock);  // have ended, and so has who would have waited for them
constinit u32 last_id GUARDED_BY(process_lock) = 0;

/// A string in memory of its own; nullptr stays nullptr.
Result<char*> copy_text(const char* text) {
  if (text == nullptr) return nullptr;
  const u32 bytes = static_cast<u32>(__builtin_strlen(text)) + 1;
  auto* const copy = static_cast<char*>(TRY(kmalloc(bytes, AllocFlags::Kernel)));
  __builtin_memcpy(copy, text, bytes);
  return copy;
}

Result<> inherit(Process& child, Process& parent) {
  TRY(child.files.copy_from(parent.files));
  child.folder = TRY(copy_folder(parent));
  child.program = TRY(copy_text(parent.program));
  child.mask = parent.mask;
  return {};
}

Process** bucket_of(u32 id) REQUIRES(process_lock) { return &by_id[id % kBuckets]; }

void link_locked(Process* process, Process* parent) REQUIRES(process_lock) {
  process->id = process->group = process->session = ++last_id;
  all.push_front(*process);
  Process** const bucket = bucket_of(process->id);
  process->next_of_id = std::exchange(*bucket, process);
  if (parent == nullptr) return;
  process->actions = parent->actions;
  process->group = parent->group;
  process->session = parent->session;
  process->parent = parent;
  parent->children.push_back(*process);
}

void unlink_locked(Process* process) REQUIRES(process_lock) {
  all.erase(*process);
  Process** link = bucket_of(process->id);
  while (*link != process) link = &(*link)->next_of_id;
  *link = process->next_of_id;
  if (process->parent != nullptr) process->parent->children.erase(*process);
}

bool is_wanted(const Process& child, const Process& parent, i32 which) {
  if (which > 0) return child.id == static_cast<u32>(which);
  if (which == -1) return true;
  return child.group == (which == 0 ? parent.group : static_cast<u32>(-which));
}

/// A wanted child that has ended; `any` false if there is nobody to wait for.
Process* find_ended(Process& parent, i32 which, bool& any) REQUIRES(process_lock) {
  Process* child;
  if (which > 0) {
    child = find_process(static_cast<u32>(which));
    if (child != nullptr && child->parent != &parent) child = nullptr;
  } else {
    child = parent.children.first();
    while (child != nullptr && !is_wanted(*child, parent, which)) child = Process::Siblings::behind(*child);
  }
  any = child != nullptr;
  return any && child->state == Process::State::Zombie ? child : nullptr;  // else none behind it has ended either
}

/// One that is wanted and has ended, taken out of the tree.
Process* take_zombie(Process& parent, i32 which, bool& any) {
  const SpinGuard<IrqSave> guard{process_lock};
  Process* const ended = find_ended(parent, which, any);
  if (ended != nullptr) unlink_locked(ended);
  return ended;
}

/// Of a wanted child that has stopped or gone on: what wait4 reports, once. Its id, or 0.
u32 take_news(Process& parent, i32 which, u32 options, u32& status) {
  const SpinGuard<IrqSave> guard{process_lock};
  for (Process* child = parent.children.first(); child != nullptr; child = Process::Siblings::behind(*child)) {
    const u32 wish = child->news == kContinuedStatus ? kWaitContinued : kWaitStopped;
    if (child->news == 0 || (options & wish) == 0 || !is_wanted(*child, parent, which)) continue;
    status = std::exchange(child->news, 0);
    return child->id;
  }
  return 0;
}

}  // namespace

void free_process(Process* process) {
  kfree(process->folder);
  kfree(process->program);
  std::destroy_at(process);
  kfree(process);
}

Result<char*> copy_folder(const Process& process) {
  u32 bytes = 64;
  for (;;) {
    auto* const copy = static_cast<char*>(TRY(kmalloc(bytes, AllocFlags::Kernel)));
    u32 needed;
    {
      const SpinGuard<IrqSave> guard{process_lock};
      const char* const folder = process.folder != nullptr ? process.folder : "/";
      needed = static_cast<u32>(__builtin_strlen(folder)) + 1;
      if (needed <= bytes) __builtin_memcpy(copy, folder, needed);
    }
    if (needed <= bytes) return copy;
    kfree(copy);
    bytes = needed;
  }
}

const Process::List& all_processes() NO_THREAD_SAFETY_ANALYSIS { return all; }

Process* find_process(u32 id) NO_THREAD_SAFETY_ANALYSIS {
  Process* process = *bucket_of(id);
  while (process != nullptr && process->id != id) process = process->next_of_id;
  return process;
}

Result<Process*> make_process(Process* parent) {
  void* const place = TRY(kmalloc(sizeof(Process), AllocFlags::Kernel));
  auto* const process = new (place) Process;
  if (parent != nullptr) {
    if (const Result<> done = inherit(*process, *parent); !done) {
      free_process(process);
      return std::unexpected(done.error());
    }
  }
  const SpinGuard<IrqSave> guard{process_lock};
  link_locked(process, parent);
  return process;
}

void drop_process(Process* process) {
  {
    const SpinGuard<IrqSave> guard{process_lock};
    unlink_locked(process);
  }
  free_process(process);
}

u32 new_task_id() {
  const SpinGuard<IrqSave> guard{process_lock};
  return ++last_id;
}

bool become_zombie_locked(Process& process) NO_THREAD_SAFETY_ANALYSIS {
  const bool was_tied = is_tied_to_group(process);
  process.state = Process::State::Zombie;
  while (Process* child = process.children.first()) {
    process.children.erase(*child);
    child->parent = nullptr;
    note_lost_parent_locked(*child, process);
    if (child->state == Process::State::Zombie) orphans.push_back(*child);
  }
  (void)process.changed.wake_all();
  if (was_tied) hang_up_orphans_locked(process);
  if (process.parent == nullptr) {
    if (!process.watched) unlink_locked(&process);
    return !process.watched;
  }
  Process& parent = *process.parent;
  const SignalAction& action = parent.actions.of[kSigChild - 1];
  constexpr u32 kIgnore = 1, kNoChildWait = 2;
  const bool unwanted = action.handler == kIgnore || (action.flags & kNoChildWait) != 0;
  tell_parent_locked(process, process.exit_signal);
  if (unwanted)
    unlink_locked(&process);
  else
    parent.children.move_to_front(process);
  return unwanted;
}

void reap_orphans() {
  for (;;) {
    Process* orphan;
    {
      const SpinGuard<IrqSave> guard{process_lock};
      orphan = orphans.first();
      if (orphan == nullptr) return;
      orphans.erase(*orphan);
      unlink_locked(orphan);
    }
    free_process(orphan);
  }
}

Answer wait_for_child(i32 which, u32 options, u32& status, u32& child) {
  Process& me = current_process();
  Process* ended = nullptr;
  bool any = true;
  const auto look = [&] {
    child = 0;
    ended = take_zombie(me, which, any);
    if (ended != nullptr || !any) return true;
    if ((options & (kWaitStopped | kWaitContinued)) != 0) child = take_news(me, which, options, status);
    return child != 0 || (options & kWaitNoHang) != 0;
  };
  if (!me.changed.wait_unless(interrupted, look)) return err::kRestart;
  if (ended == nullptr) return any ? static_cast<Answer>(child) : err::kNoChild;
  status = ended->status;
  child = ended->id;
  free_process(ended);
  return static_cast<Answer>(child);
}

u32 ProgramRun::wait(Process* process, bool (*go_on)(void*), void* context) {
  constexpr u32 kLookMs = 50;
  const auto ended = [process] { return process->state == Process::State::Zombie; };
  while (!process->changed.wait_for_ms(kLookMs, ended)) {
    if (go_on != nullptr && !go_on(context)) {
      send_signal(*process, kSigInterrupt);
      send_signal(*process, kSigContinue);
    }
  }
  {
    const SpinGuard<IrqSave> guard{process_lock};  // who woke us may still be in there
    unlink_locked(process);
  }
  const u32 status = process->status;
  free_process(process);
  return status;
}

}  // namespace paean
