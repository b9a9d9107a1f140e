// Which number is which call: Linux's on i386. Numbers that are not here answer ENOSYS.
#include <array>

#include "arch/user.hpp"
#include "kernel/process/calls.hpp"

namespace paean {

namespace {

using Call = Answer (*)(const CallArguments& arguments, arch::TrapFrame& frame);

Answer call_unknown(const CallArguments&, arch::TrapFrame&) { return err::kNoCall; }

Answer call_rt_sigaction(const CallArguments& r, arch::TrapFrame&) { return sys_rt_sigaction(r.a, r.b, r.c, r.d); }
Answer call_rt_sigprocmask(const CallArguments& r, arch::TrapFrame&) { return sys_rt_sigprocmask(r.a, r.b, r.c, r.d); }
Answer call_rt_sigpending(const CallArguments& r, arch::TrapFrame&) { return sys_rt_sigpending(r.a, r.b); }
Answer call_rt_sigsuspend(const CallArguments& r, arch::TrapFrame&) { return sys_rt_sigsuspend(r.a, r.b); }
Answer call_sigaltstack(const CallArguments& r, arch::TrapFrame&) { return sys_sigaltstack(r.a, r.b); }
Answer call_kill(const CallArguments& r, arch::TrapFrame&) { return sys_kill(static_cast<i32>(r.a), r.b); }
Answer call_tgkill(const CallArguments& r, arch::TrapFrame&) {
  return sys_tgkill(static_cast<i32>(r.a), static_cast<i32>(r.b), r.c);
}
Answer call_tkill(const CallArguments& r, arch::TrapFrame&) { return sys_tgkill(0, static_cast<i32>(r.a), r.b); }
Answer call_pause(const CallArguments&, arch::TrapFrame&) { return sys_pause(); }
Answer call_sigreturn(const CallArguments&, arch::TrapFrame& frame) { return sys_sigreturn(frame); }
Answer call_rt_sigreturn(const CallArguments&, arch::TrapFrame& frame) { return sys_rt_sigreturn(frame); }

Answer call_truncate(const CallArguments& r, arch::TrapFrame& frame) {
  return call_truncate64({r.a, r.b, 0, 0, 0, 0}, frame);
}
Answer call_ftruncate(const CallArguments& r, arch::TrapFrame& frame) {
  return call_ftruncate64({r.a, r.b, 0, 0, 0, 0}, frame);
}

struct Entry {
  u32 number;
  Call call;
};

constexpr Entry kEntries[] = {
    {1, call_exit},
    {2, call_fork},
    {3, call_read},
    {4, call_write},
    {5, call_open},
    {6, call_close},
    {7, call_waitpid},
    {8, call_creat},
    {9, call_link},
    {10, call_unlink},
    {11, call_execve},
    {12, call_chdir},
    {13, call_time},
    {15, call_chmod},
    {16, call_lchown},
    {19, call_lseek},
    {20, call_getpid},
    {24, call_getuid},
    {27, call_alarm},
    {29, call_pause},
    {33, call_access},
    {36, call_sync},
    {37, call_kill},
    {38, call_rename},
    {39, call_mkdir},
    {40, call_rmdir},
    {41, call_dup},
    {42, call_pipe},
    {43, call_times},
    {45, call_brk},
    {47, call_getuid},
    {49, call_getuid},
    {50, call_getuid},
    {54, call_ioctl},
    {57, call_setpgid},
    {60, call_umask},
    {63, call_dup2},
    {64, call_getppid},
    {65, call_getpgrp},
    {66, call_setsid},
    {76, call_getrlimit},
    {77, call_getrusage},
    {78, call_gettimeofday},
    {80, call_getgroups},
    {83, call_symlink},
    {85, call_readlink},
    {87, call_swapon},
    {90, call_old_mmap},
    {91, call_munmap},
    {92, call_truncate},
    {93, call_ftruncate},
    {94, call_fchmod},
    {95, call_fchown},
    {104, call_setitimer},
    {105, call_getitimer},
    {114, call_wait4},
    {115, call_swapoff},
    {116, call_sysinfo},
    {118, call_fsync},
    {119, call_sigreturn},
    {120, call_clone},
    {122, call_uname},
    {125, call_mprotect},
    {132, call_getpgid},
    {140, call_llseek},
    {142, call_newselect},
    {144, call_msync},
    {145, call_readv},
    {146, call_writev},
    {147, call_getsid},
    {148, call_fsync},  // fdatasync
    {158, call_sched_yield},
    {162, call_nanosleep},
    {163, call_mremap},
    {168, call_poll},
    {173, call_rt_sigreturn},
    {174, call_rt_sigaction},
    {175, call_rt_sigprocmask},
    {176, call_rt_sigpending},
    {179, call_rt_sigsuspend},
    {180, call_pread64},
    {181, call_pwrite64},
    {182, call_chown},
    {183, call_getcwd},
    {186, call_sigaltstack},
    {190, call_vfork},
    {191, call_getrlimit},
    {192, call_mmap2},
    {193, call_truncate64},
    {194, call_ftruncate64},
    {195, call_stat64},
    {196, call_lstat64},
    {197, call_fstat64},
    {198, call_lchown},
    {199, call_getuid},
    {200, call_getuid},
    {201, call_getuid},
    {202, call_getuid},
    {205, call_getgroups},
    {207, call_fchown},
    {212, call_chown},
    {219, call_madvise},
    {220, call_getdents64},
    {221, call_fcntl64},
    {224, call_gettid},
    {238, call_tkill},
    {240, call_futex},
    {242, call_sched_getaffinity},
    {243, call_set_thread_area},
    {252, call_exit_group},
    {258, call_set_tid_address},
    {265, call_clock_gettime},
    {267, call_clock_nanosleep},
    {268, call_statfs64},
    {270, call_tgkill},
    {295, call_openat},
    {296, call_mkdirat},
    {298, call_fchownat},
    {300, call_fstatat64},
    {301, call_unlinkat},
    {302, call_renameat},
    {305, call_readlinkat},
    {306, call_fchmodat},
    {307, call_faccessat},
    {308, call_pselect6},
    {309, call_ppoll},
    {311, call_set_robust_list},
    {320, call_utimensat},
    {330, call_dup3},
    {331, call_pipe2},
    {340, call_prlimit64},
    {355, call_getrandom},
    {383, call_statx},
    {403, call_clock_gettime64},
    {407, call_clock_nanosleep64},
    {412, call_utimensat_time64},
    {413, call_pselect6_time64},
    {414, call_ppoll_time64},
    {422, call_futex_time64},
    {439, call_faccessat},
};

constexpr u32 kNumbers = 440;

constexpr auto kCalls = [] {
  std::array<Call, kNumbers> calls{};
  for (Call& call : calls) call = call_unknown;
  for (const Entry& entry : kEntries) calls[entry.number] = entry.call;
  return calls;
}();

}  // namespace

}  // namespace paean

void paean::arch::on_system_call(TrapFrame& frame) {
  frame.error = frame.eax;  // for calls that begin again
  const Call call = frame.eax < kNumbers ? kCalls[frame.eax] : call_unknown;
  const CallArguments arguments{frame.ebx, frame.ecx, frame.edx, frame.esi, frame.edi, frame.ebp};
  const Answer answer = call(arguments, frame);
  frame.eax = static_cast<u32>(answer);
  if (answer == err::kRestart || answer == err::kRestartUnlessHandled) [[unlikely]]
    current_task().attention |= kAttentionRestart;
}
