// Calls about processes and threads.
#include <algorithm>
#include <memory>

#include "arch/cpu.hpp"
#include "arch/tsc.hpp"
#include "kernel/process/arguments.hpp"
#include "kernel/process/calls.hpp"
#include "kernel/process/process_internal.hpp"
#include "mm/kmalloc.hpp"
#include "mm/user_copy.hpp"

namespace paean {

namespace {

constexpr u32 kCloneSignal = 0xff, kCloneMemory = 0x100, kCloneFiles = 0x400, kCloneHandlers = 0x800;
constexpr u32 kCloneVfork = 0x4000, kCloneThread = 0x10000, kCloneTls = 0x80000, kCloneParentId = 0x100000;
constexpr u32 kCloneClearId = 0x200000, kCloneChildId = 0x1000000;

/// As set_thread_area() takes it.
struct UserDesc {
  u32 entry, base, limit, flags;
};

bool is_tls_entry(u32 entry) { return entry - arch::kFirstTlsEntry < arch::kTlsSlots; }

u64 descriptor_of(const UserDesc& wanted) {
  constexpr u32 kEmpty = 1u << 3 | 1u << 5;  // read_exec_only and seg_not_present: "no segment"
  if (wanted.base == 0 && wanted.limit == 0 && wanted.flags == kEmpty) return 0;
  return arch::make_user_descriptor({.base = wanted.base,
                                     .limit = wanted.limit & 0xfffff,
                                     .is_code = (wanted.flags >> 1 & 2) != 0,
                                     .is_writable_or_readable = (wanted.flags & 1u << 3) == 0,
                                     .expands_down = (wanted.flags >> 1 & 1) != 0,
                                     .counts_pages = (wanted.flags & 1u << 4) != 0,
                                     .is_32_bit = (wanted.flags & 1) != 0,
                                     .is_present = (wanted.flags & 1u << 5) == 0});
}

struct CloneRequest {
  u32 flags;
  VirtAddr stack{}, parent_id{}, tls{}, child_id{};
};

/// The child's registers and address space.
Answer copy_task(Task& child, const CloneRequest& request, const arch::TrapFrame& frame) {
  const Task& me = current_task();
  {
    const arch::IrqsOffGuard off;
    arch::save_fpu(child.context);
  }
  std::copy_n(me.context.tls, arch::kTlsSlots, child.context.tls);
  child.start = frame;
  child.start.eax = 0;
  child.start.vector = 0;
  if (request.stack != VirtAddr{}) child.start.user_esp = request.stack.raw();
  child.blocked = me.blocked;
  if ((request.flags & kCloneTls) != 0) {
    const UserDesc tls = CALL_TRY(get_user<UserDesc>(request.tls));
    if (!is_tls_entry(tls.entry)) return err::kInvalid;
    child.context.tls[tls.entry - arch::kFirstTlsEntry] = descriptor_of(tls);
  }
  if ((request.flags & kCloneClearId) != 0) child.clear_at_end = request.child_id;
  if ((request.flags & kCloneChildId) != 0) child.store_id_at = request.child_id;
  if ((request.flags & kCloneMemory) != 0) {
    child.start_space = UserSpace::current();
    child.start_space->get();
  } else {
    child.start_space = CALL_TRY(UserSpace::fork());
  }
  return 0;
}

Answer check_clone(u32 flags) {
  const bool thread = (flags & kCloneThread) != 0;
  constexpr u32 kOfThreads = kCloneMemory | kCloneHandlers;
  if (thread && (flags & kOfThreads) != kOfThreads) return err::kInvalid;
  // Descriptors and handlers are the process's here: who shares them is a thread.
  if (!thread && (flags & (kCloneFiles | kCloneHandlers)) != 0) return err::kInvalid;
  return 0;
}

/// A process or a thread that begins where this one is; its id.
Answer clone_task(const CloneRequest& request, const arch::TrapFrame& frame) {
  if (const Answer answer = check_clone(request.flags); answer != 0) return answer;
  const bool thread = (request.flags & kCloneThread) != 0, waits = (request.flags & kCloneVfork) != 0;
  Task* const child = CALL_TRY(make_task());
  if (const Answer answer = copy_task(*child, request, frame); answer != 0) {
    free_task(child);
    return answer;
  }
  Process* process = &current_process();
  if (!thread) {
    const Result<Process*> made = make_process(process);
    if (!made) {
      free_task(child);
      return answer_of(made.error());
    }
    process = *made;
    process->exit_signal = request.flags & kCloneSignal;
  }
  const u32 id = child->id = thread ? new_task_id() : process->id;
  Completion released;
  if (waits) child->released = &released;
  if ((request.flags & kCloneParentId) != 0) (void)put_user(request.parent_id, id);
  if (!start_task(*process, child, process->program != nullptr ? process->program : "program")) {
    free_task(child);
    if (!thread) drop_process(process);
    return err::kAgain;
  }
  if (waits) released.wait();  // a child that is killed releases too
  return static_cast<Answer>(id);
}

constexpr u32 kLimits = 16;

/// What there is no limit for has the largest number.
template <typename Word>
struct Limit {
  Word soft, hard;
};
template <typename Word>
Limit<Word> limit_of(u32 which) {
  constexpr u32 kStack = 3, kFiles = 7;
  Limit<Word> limit{~Word{0}, ~Word{0}};
  if (which == kStack) limit.soft = kStackLimit;
  if (which == kFiles) limit.soft = limit.hard = FileTable::kMost;
  return limit;
}

bool is_group_of_session(u32 group, u32 session) REQUIRES(process_lock) {
  for (const Process* at = all_processes().first(); at != nullptr; at = Process::List::behind(*at)) {
    if (at->group == group && at->session == session) return true;
  }
  return false;
}

}  // namespace

Answer call_exit(const CallArguments& arguments, arch::TrapFrame&) {
  Process& process = current_process();
  bool last;
  {
    const SpinGuard<IrqSave> guard{process_lock};
    last = process.task_count == 1;
  }
  if (last) end_process(process, exit_status(arguments.a));
  end_task();
}

Answer call_exit_group(const CallArguments& arguments, arch::TrapFrame&) {
  end_process(current_process(), exit_status(arguments.a));
  end_task();
}

Answer call_fork(const CallArguments&, arch::TrapFrame& frame) { return clone_task({.flags = kSigChild}, frame); }

Answer call_vfork(const CallArguments&, arch::TrapFrame& frame) {
  return clone_task({.flags = kSigChild | kCloneMemory | kCloneVfork}, frame);
}

Answer call_clone(const CallArguments& arguments, arch::TrapFrame& frame) {
  return clone_task(
      {arguments.a, VirtAddr{arguments.b}, VirtAddr{arguments.c}, VirtAddr{arguments.d}, VirtAddr{arguments.e}}, frame);
}

Answer call_execve(const CallArguments& arguments, arch::TrapFrame& frame) {
  UserPath path;
  if (const Answer answer = path.read(kCurrentFolder, arguments.a); answer != 0) return answer;
  ArgumentPages strings;
  Result<> added = strings.add_user_list(VirtAddr{arguments.b});
  strings.begin_environment();
  if (added) added = strings.add_user_list(VirtAddr{arguments.c});
  if (!added) return added.error() == Error::TooLarge ? err::kTooBig : answer_of(added);
  const Answer answer = execute(path.view(), strings, frame);
  if (answer == 0) frame.vector = 0;
  return answer;
}

Answer call_wait4(const CallArguments& arguments, arch::TrapFrame&) {
  constexpr u32 kKnown = kWaitNoHang | kWaitStopped | kWaitContinued | 0x20000000 | 0x40000000 | 0x80000000;
  if ((arguments.c & ~kKnown) != 0) return err::kInvalid;
  u32 status = 0, child = 0;
  const Answer found = wait_for_child(static_cast<i32>(arguments.a), arguments.c, status, child);
  if (found <= 0) return found;
  if (arguments.b != 0 && !put_user(VirtAddr{arguments.b}, status)) return err::kFault;
  if (arguments.d != 0) {
    constexpr u32 kUsageBytes = 72;
    if (const Answer answer = answer_of(clear_user(VirtAddr{arguments.d}, kUsageBytes)); answer != 0) return answer;
  }
  return found;
}

Answer call_waitpid(const CallArguments& arguments, arch::TrapFrame& frame) {
  return call_wait4({arguments.a, arguments.b, arguments.c, 0, 0, 0}, frame);
}

Answer call_getpid(const CallArguments&, arch::TrapFrame&) { return static_cast<Answer>(current_process().id); }

Answer call_getppid(const CallArguments&, arch::TrapFrame&) {
  const SpinGuard<IrqSave> guard{process_lock};  // it may be ending
  const Process* const parent = current_process().parent;
  return parent == nullptr ? 0 : static_cast<Answer>(parent->id);
}

Answer call_gettid(const CallArguments&, arch::TrapFrame&) { return static_cast<Answer>(current_task().id); }

Answer call_getuid(const CallArguments&, arch::TrapFrame&) { return 0; }

Answer call_umask(const CallArguments& arguments, arch::TrapFrame&) {
  return static_cast<Answer>(std::exchange(current_process().mask, arguments.a & 0777));
}

Answer call_getpgid(const CallArguments& arguments, arch::TrapFrame&) {
  const SpinGuard<IrqSave> guard{process_lock};
  const Process* const process = arguments.a == 0 ? &current_process() : find_process(arguments.a);
  return process == nullptr ? err::kNoProcess : static_cast<Answer>(process->group);
}

Answer call_getpgrp(const CallArguments&, arch::TrapFrame&) { return static_cast<Answer>(current_process().group); }

Answer call_setpgid(const CallArguments& arguments, arch::TrapFrame&) {
  if (static_cast<i32>(arguments.b) < 0) return err::kInvalid;
  const SpinGuard<IrqSave> guard{process_lock};
  Process& me = current_process();
  Process* const process = arguments.a == 0 ? &me : find_process(arguments.a);
  if (process == nullptr || (process != &me && process->parent != &me)) return err::kNoProcess;
  if (process != &me && process->executed) return err::kAccess;
  const u32 group = arguments.b == 0 ? process->id : arguments.b;
  if (process->session != me.session || process->session == process->id) return err::kPerm;
  if (group != process->id && !is_group_of_session(group, me.session)) return err::kPerm;
  process->group = group;
  return 0;
}

Answer call_getsid(const CallArguments& arguments, arch::TrapFrame&) {
  const SpinGuard<IrqSave> guard{process_lock};
  const Process* const process = arguments.a == 0 ? &current_process() : find_process(arguments.a);
  return process == nullptr ? err::kNoProcess : static_cast<Answer>(process->session);
}

Answer call_setsid(const CallArguments&, arch::TrapFrame&) {
  const SpinGuard<IrqSave> guard{process_lock};
  Process& me = current_process();
  if (me.group == me.id) return err::kPerm;
  me.group = me.session = me.id;
  return static_cast<Answer>(me.id);
}

Answer call_uname(const CallArguments& arguments, arch::TrapFrame&) {
  constexpr u32 kFieldBytes = 65;
  static constexpr std::string_view kFields[] = {"Linux", "paean", "6.1.0-paean", "Paean", "i686", "(none)"};
  for (u32 i = 0; i < std::size(kFields); ++i) {
    char field[kFieldBytes]{};
    std::copy(kFields[i].begin(), kFields[i].end(), field);
    if (const Answer answer = answer_of(put_user(VirtAddr{arguments.a} + i * kFieldBytes, field)); answer != 0)
      return answer;
  }
  return 0;
}

Answer call_prlimit64(const CallArguments& arguments, arch::TrapFrame&) {
  if (arguments.b >= kLimits) return err::kInvalid;
  if (arguments.a != 0 && arguments.a != current_process().id) return err::kNoProcess;
  if (arguments.c != 0) return err::kPerm;
  return arguments.d == 0 ? 0 : answer_of(put_user(VirtAddr{arguments.d}, limit_of<u64>(arguments.b)));
}

Answer call_getrlimit(const CallArguments& arguments, arch::TrapFrame&) {
  return arguments.a >= kLimits ? err::kInvalid
                                : answer_of(put_user(VirtAddr{arguments.b}, limit_of<u32>(arguments.a)));
}

void fill_random(std::span<u8> into) {
  static constinit std::atomic<u32> counter{0};
  u32 state = static_cast<u32>(arch::read_tsc()) ^ (counter.fetch_add(0x9e3779b9) * 0x85ebca6b);
  for (u8& byte : into) {
    state = state * 1664525 + 1013904223 + static_cast<u32>(arch::read_tsc());
    byte = static_cast<u8>((state ^ state >> 15) >> 8);
  }
}

Answer call_getrandom(const CallArguments& arguments, arch::TrapFrame&) {
  constexpr u32 kKnown = 7, kMost = kKiB;
  if ((arguments.c & ~kKnown) != 0) return err::kInvalid;
  const u32 bytes = std::min(arguments.b, kMost);
  for (u32 done = 0; done < bytes;) {
    u8 part[64];
    const u32 count = std::min<u32>(sizeof part, bytes - done);
    fill_random(part);
    if (!copy_to_user(VirtAddr{arguments.a} + done, part, count)) return err::kFault;
    done += count;
  }
  return static_cast<Answer>(bytes);
}

Answer call_set_tid_address(const CallArguments& arguments, arch::TrapFrame&) {
  current_task().clear_at_end = VirtAddr{arguments.a};
  return static_cast<Answer>(current_task().id);
}

/// Nobody is told when a holder of robust locks dies.
Answer call_set_robust_list(const CallArguments& arguments, arch::TrapFrame&) {
  constexpr u32 kHeadBytes = 12;
  return arguments.b == kHeadBytes ? 0 : err::kInvalid;
}

Answer call_set_thread_area(const CallArguments& arguments, arch::TrapFrame&) {
  UserDesc wanted = CALL_TRY(get_user<UserDesc>(VirtAddr{arguments.a}));
  Task& me = current_task();
  if (wanted.entry == ~0u) {
    u32 free = 0;
    while (free < arch::kTlsSlots && me.context.tls[free] != 0) ++free;
    if (free == arch::kTlsSlots) return err::kNoProcess;
    wanted.entry = arch::kFirstTlsEntry + free;
    if (!put_user(VirtAddr{arguments.a}, wanted.entry)) return err::kFault;
  }
  if (!is_tls_entry(wanted.entry)) return err::kInvalid;
  const arch::IrqsOffGuard off;
  me.context.tls[wanted.entry - arch::kFirstTlsEntry] = descriptor_of(wanted);
  arch::load_user_context(me.context, thread_stack_top(current_thread()));
  return 0;
}

Answer call_sched_yield(const CallArguments&, arch::TrapFrame&) {
  thread_yield();
  return 0;
}

}  // namespace paean
