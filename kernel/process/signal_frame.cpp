#include "kernel/process/signal_frame.hpp"

#include "mm/user_copy.hpp"

namespace paean {

namespace {

constexpr u32 kWithInfo = 4, kHasRestorer = 0x04000000, kOnAlternateStack = 0x08000000;

struct SavedRegisters {
  u32 gs, fs, es, ds, edi, esi, ebp, esp, ebx, edx, ecx, eax, trap, error, eip, cs, eflags, esp_at_signal, ss;
  u32 fpu, old_mask, address;
};
static_assert(sizeof(SavedRegisters) == 88);

/// Registers of an FSAVE, which nobody reads, then those of an FXSAVE.
struct SavedFpu {
  u8 legacy[108];
  u16 status, magic;  // 0: the second part is there
  u8 fxsave[arch::kFpuBytes];
};
static_assert(sizeof(SavedFpu) == 624);

struct SignalFrame {
  u32 return_address, signal;
  SavedRegisters registers;
  SavedFpu unused;
  u32 mask_high;
  u8 code[8];
};

struct SignalInfo {
  u32 signal, error;
  i32 code;
  u32 address;  // or the sender's pid
  u32 rest[28];
};
static_assert(sizeof(SignalInfo) == 128);

struct InfoFrame {
  u32 return_address, signal, info_at, context_at;
  SignalInfo info;
  u32 flags, link, stack_address, stack_flags, stack_bytes;
  SavedRegisters registers;
  SignalSet mask;
  u8 code[8];
};

SavedRegisters save(const arch::TrapFrame& frame, const Task& task, VirtAddr fpu, SignalSet blocked) {
  return {.gs = frame.gs,
          .fs = frame.fs,
          .es = frame.es,
          .ds = frame.ds,
          .edi = frame.edi,
          .esi = frame.esi,
          .ebp = frame.ebp,
          .esp = frame.user_esp,
          .ebx = frame.ebx,
          .edx = frame.edx,
          .ecx = frame.ecx,
          .eax = frame.eax,
          .trap = frame.vector,
          .error = frame.error,
          .eip = frame.eip,
          .cs = frame.cs,
          .eflags = frame.eflags,
          .esp_at_signal = frame.user_esp,
          .ss = frame.user_ss,
          .fpu = fpu.raw(),
          .old_mask = static_cast<u32>(blocked),
          .address = task.fault.address};
}

Result<> save_fpu_at(Task& task, VirtAddr at) {
  {
    const arch::IrqsOffGuard off;
    arch::save_fpu(task.context);
  }
  constexpr u32 kPart = __builtin_offsetof(SavedFpu, fxsave);
  TRY(clear_user(at, kPart));
  return copy_to_user(at + kPart, task.context.fpu, arch::kFpuBytes);
}

Result<> restore_fpu(Task& task, u32 at) {
  arch::UserContext fresh;
  arch::clear_context(fresh);
  if (at != 0) {
    TRY(copy_from_user(fresh.fpu, VirtAddr{at} + __builtin_offsetof(SavedFpu, fxsave), arch::kFpuBytes));
    arch::make_fpu_legal(fresh);
  }
  const arch::IrqsOffGuard off;
  __builtin_memcpy(task.context.fpu, fresh.fpu, arch::kFpuBytes);
  arch::load_fpu(task.context);
  return {};
}

/// All of it, or the process ends: a program that returns from nowhere has no place to go on.
Answer restore(arch::TrapFrame& frame, const Result<SavedRegisters>& saved, const Result<SignalSet>& mask) {
  Task& me = current_task();
  if (!saved || !mask || !restore_fpu(me, saved->fpu)) {
    end_process(*me.process, kSigSegv);
    return 0;
  }
  frame.gs = saved->gs, frame.fs = saved->fs, frame.es = saved->es, frame.ds = saved->ds;
  frame.edi = saved->edi, frame.esi = saved->esi, frame.ebp = saved->ebp, frame.user_esp = saved->esp;
  frame.ebx = saved->ebx, frame.edx = saved->edx, frame.ecx = saved->ecx, frame.eax = saved->eax;
  frame.eip = saved->eip, frame.eflags = saved->eflags;
  frame.vector = 0;  // what was interrupted is not this call
  arch::make_frame_legal(frame);
  set_blocked(me, *mask);
  return static_cast<Answer>(saved->eax);
}

VirtAddr stack_for(const arch::TrapFrame& frame, const Task& task, const SignalAction& action) {
  const bool there = frame.user_esp - task.alternate_stack.raw() <= task.alternate_bytes;
  if ((action.flags & kOnAlternateStack) != 0 && task.alternate_bytes != 0 && !there)
    return task.alternate_stack + task.alternate_bytes;
  return VirtAddr{frame.user_esp};
}

}  // namespace

Result<> push_signal_frame(arch::TrapFrame& frame, Task& task, u32 signal, const SignalAction& action,
                           SignalSet blocked) {
  const bool with_info = (action.flags & kWithInfo) != 0;
  const VirtAddr fpu = (stack_for(frame, task, action) - u32{sizeof(SavedFpu)}).align_down(16);
  const u32 bytes = with_info ? sizeof(InfoFrame) : sizeof(SignalFrame);
  // As if called: the stack is aligned to 16 before the return address.
  const VirtAddr at = (fpu - bytes).align_down(16) - u32{sizeof(u32)};
  TRY(save_fpu_at(task, fpu));
  const SavedRegisters registers = save(frame, task, fpu, blocked);
  const u32 restorer = (action.flags & kHasRestorer) != 0 ? action.restorer : 0;
  const SignalFault fault = std::exchange(task.fault, SignalFault{});
  u32 info_at = 0, context_at = 0;
  if (with_info) {
    info_at = (at + __builtin_offsetof(InfoFrame, info)).raw();
    context_at = (at + __builtin_offsetof(InfoFrame, flags)).raw();
    InfoFrame saved{};
    saved.return_address = restorer, saved.signal = signal, saved.info_at = info_at, saved.context_at = context_at;
    saved.info.signal = signal;
    if (fault.signal == signal) saved.info.code = fault.code, saved.info.address = fault.address;
    saved.stack_address = task.alternate_stack.raw(), saved.stack_bytes = task.alternate_bytes;
    saved.registers = registers;
    saved.mask = blocked;
    TRY(put_user(at, saved));
  } else {
    TRY(put_user(at, restorer));
    TRY(put_user(at + __builtin_offsetof(SignalFrame, signal), signal));
    TRY(put_user(at + __builtin_offsetof(SignalFrame, registers), registers));
    TRY(put_user(at + __builtin_offsetof(SignalFrame, mask_high), static_cast<u32>(blocked >> 32)));
  }
  frame.eip = action.handler;
  frame.user_esp = at.raw();
  frame.eax = signal, frame.edx = info_at, frame.ecx = context_at;
  arch::make_frame_legal(frame);
  frame.ds = frame.es = frame.user_ss;
  constexpr u32 kTrapAndDirection = 1u << 8 | 1u << 10;
  frame.eflags &= ~kTrapAndDirection;
  return {};
}

Answer sys_sigreturn(arch::TrapFrame& frame) {
  const VirtAddr at = VirtAddr{frame.user_esp} - 2 * u32{sizeof(u32)};  // the handler took one word, the code the other
  const Result<SavedRegisters> saved = get_user<SavedRegisters>(at + __builtin_offsetof(SignalFrame, registers));
  Result<SignalSet> mask = std::unexpected(Error::BadAddress);
  if (const Result<u32> high = get_user<u32>(at + __builtin_offsetof(SignalFrame, mask_high)); high && saved)
    mask = saved->old_mask | SignalSet{*high} << 32;
  return restore(frame, saved, mask);
}

Answer sys_rt_sigreturn(arch::TrapFrame& frame) {
  const VirtAddr at = VirtAddr{frame.user_esp} - u32{sizeof(u32)};
  return restore(frame, get_user<SavedRegisters>(at + __builtin_offsetof(InfoFrame, registers)),
                 get_user<SignalSet>(at + __builtin_offsetof(InfoFrame, mask)));
}

}  // namespace paean
