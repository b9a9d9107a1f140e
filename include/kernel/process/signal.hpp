// Signals: who has sent what, and what the process does about it.
//
// A signal is pending in a task (faults, tgkill) or in the process (kill, alarm, SIGCHLD: any task takes it). Numbers
// 1 to 64; each is pending once.
//
// SIGSTOP, and by default SIGTSTP, SIGTTIN and SIGTTOU, stop all tasks of a process where they return to ring 3; calls
// that sleep end for that and begin again. The parent hears of it at once. SIGCONT goes on, blocked or not. The latter
// three do nothing in a group that no parent looks after. There is no terminal that would send them.
// Structures are those of Linux on i386.
#pragma once

#include "arch/traps.hpp"
#include "kernel/process/errno.hpp"

namespace paean {

class Process;
struct Task;

using SignalSet = u64;  // bit n - 1: signal n
constexpr SignalSet signal_bit(u32 signal) { return SignalSet{1} << (signal - 1); }

inline constexpr u32 kSignals = 64;
inline constexpr u32 kSigInterrupt = 2, kSigIllegal = 4, kSigTrap = 5, kSigBus = 7, kSigFloat = 8, kSigKill = 9;
inline constexpr u32 kSigSegv = 11, kSigPipe = 13, kSigAlarm = 14, kSigChild = 17, kSigContinue = 18, kSigStop = 19;
inline constexpr u32 kSigHangUp = 1, kSigTerminalStop = 20, kSigTerminalIn = 21, kSigTerminalOut = 22;

struct SignalAction {
  u32 handler = 0;  // 0 default, 1 ignore
  u32 flags = 0;
  u32 restorer = 0;
  SignalSet mask = 0;
};
struct SignalActions {
  SignalAction of[kSignals];
};

/// What SIGSEGV and the like say of their cause.
struct SignalFault {
  u32 signal = 0;
  i32 code = 0;
  u32 address = 0;
};

/// process_lock is held. 0 asks for nothing but existence.
void send_signal_locked(Process& process, u32 signal);
void send_signal(Process& process, u32 signal);
void send_signal_to_task(Task& task, u32 signal);
/// For the running task; a blocked or ignored one ends the process.
void force_signal(const SignalFault& fault);
/// After the mask or what is pending has changed: whether the running task has something to do.
void review_signals(Task& task);
void set_blocked(Task& task, SignalSet blocked);

/// Delivers what is pending. Interrupts on; may not come back.
void deliver_signals(arch::TrapFrame& frame);

// The calls.
Answer sys_rt_sigaction(u32 signal, u32 action, u32 old, u32 set_bytes);
Answer sys_rt_sigprocmask(u32 how, u32 set, u32 old, u32 set_bytes);
Answer sys_rt_sigpending(u32 set, u32 set_bytes);
Answer sys_rt_sigsuspend(u32 set, u32 set_bytes);
Answer sys_sigaltstack(u32 stack, u32 old);
Answer sys_kill(i32 process, u32 signal);
Answer sys_tgkill(i32 process, i32 task, u32 signal);
Answer sys_pause();
Answer sys_sigreturn(arch::TrapFrame& frame);
Answer sys_rt_sigreturn(arch::TrapFrame& frame);

}  // namespace paean
