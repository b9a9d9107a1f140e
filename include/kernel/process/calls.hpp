// System calls, by what they are about. Arguments come as registers; every pointer goes through mm/user_copy.hpp.
#pragma once

#include "kernel/process/errno.hpp"
#include "kernel/process/process.hpp"

namespace paean {

/// Six registers, in the order of the calling convention.
struct CallArguments {
  u32 a, b, c, d, e, f;
};

/// Bytes that a program may take for noise. Not fit for keys: there is no source of entropy but the time.
void fill_random(std::span<u8> into);

/// Nanoseconds since the kernel began, and since 1970.
u64 monotonic_ns();
u64 real_ns();

/// A time to wait until; without one there is no end.
class Deadline {
 public:
  /// From now on, or as it was when the call began, if that begins again; nullptr: never.
  explicit Deadline(const u64* nanoseconds);
  /// The call ends with kRestartUnlessHandled: it is to end at the same time if it begins again.
  void keep() const;
  /// Sleeps until the time is over, somebody unparks the thread, or some time has passed. False if it is over.
  bool sleep() const;
  bool over() const;
  /// Nanoseconds.
  u64 left() const;

 private:
  bool never_;
  u64 at_ = 0;
};

/// FUTEX_*. `timeout_ns` is from now on.
Answer futex(VirtAddr at, u32 operation, u32 value, const u64* timeout_ns, u32 mask);

/// A path of the program's as an absolute one, in memory of its own.
class UserPath {
 public:
  UserPath() = default;
  ~UserPath();
  UserPath(const UserPath&) = delete;
  UserPath& operator=(const UserPath&) = delete;
  /// Relative to the descriptor's directory, or to the process's folder. 0, or an error.
  Answer read(i32 directory, u32 path);
  std::string_view view() const { return {text_, length_}; }
  /// The program gave "": the path is then that of the folder.
  bool is_empty() const { return empty_; }

 private:
  char* text_ = nullptr;
  u32 length_ = 0;
  bool empty_ = false;
};
inline constexpr i32 kCurrentFolder = -100;

// clang-format off: it does not settle on a layout of this list
#define PAEAN_CALLS(X) \
  X(exit) X(exit_group) X(fork) X(vfork) X(clone) X(execve) X(wait4) X(waitpid) X(getpid) X(getppid) X(gettid) \
  X(getuid) X(umask) X(getpgid) X(getpgrp) X(setpgid) X(getsid) X(setsid) X(uname) X(prlimit64) X(getrandom) \
  X(set_tid_address) X(set_robust_list) X(set_thread_area) X(sched_yield) X(futex) X(futex_time64) X(read) X(write) \
  X(readv) X(writev) X(pread64) X(pwrite64) X(open) X(openat) X(creat) X(close) X(lseek) X(llseek) X(dup) X(dup2) \
  X(dup3) X(pipe) X(pipe2) X(fcntl64) X(ioctl) X(fsync) X(sync) X(ftruncate64) X(truncate64) X(stat64) X(lstat64) \
  X(fstat64) X(fstatat64) X(statx) X(access) X(faccessat) X(readlink) X(readlinkat) X(unlink) X(unlinkat) X(mkdir) \
  X(mkdirat) X(rmdir) X(rename) X(renameat) X(link) X(symlink) X(chdir) X(getcwd) X(getdents64) X(brk) X(mmap2) \
  X(old_mmap) X(munmap) X(mprotect) X(mremap) X(msync) X(madvise) X(clock_gettime) X(clock_gettime64) \
  X(gettimeofday) X(time) X(nanosleep) X(clock_nanosleep) X(clock_nanosleep64) X(alarm) \
  X(setitimer) X(getitimer) X(poll) X(ppoll) X(ppoll_time64) X(newselect) X(pselect6) X(pselect6_time64) X(chmod) \
  X(fchmod) X(fchmodat) X(chown) X(lchown) X(fchown) X(fchownat) X(utimensat) X(utimensat_time64) X(statfs64) \
  X(sysinfo) X(times) X(getrusage) X(getrlimit) X(getgroups) X(sched_getaffinity) X(swapon) X(swapoff)
// clang-format on

#define PAEAN_DECLARE_CALL(name) Answer call_##name(const CallArguments& arguments, arch::TrapFrame& frame);
PAEAN_CALLS(PAEAN_DECLARE_CALL)
#undef PAEAN_DECLARE_CALL

}  // namespace paean
