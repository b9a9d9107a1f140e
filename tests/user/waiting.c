/* poll, select, interval timers; and what programs ask about files and the machine. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/times.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tap.h"

static volatile sig_atomic_t alarms;
static void on_alarm(int signal) {
  (void)signal;
  ++alarms;
}

static long long now_ms(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000LL + time.tv_nsec / 1000000;
}

/* A child that does something to a descriptor a little later. */
static pid_t later(int descriptor, int what) {
  const pid_t child = fork();
  if (child == 0) {
    char block[65536];
    usleep(50000);
    if (what == 'w') (void)!write(descriptor, "x", 1);
    if (what == 'r') (void)!read(descriptor, block, sizeof block);
    _exit(0);
  }
  return child;
}

static void test_poll(void) {
  static char block[65536];
  int ends[2];
  CHECK(pipe(ends) == 0);
  struct pollfd both[3] = {{ends[0], POLLIN, 0}, {ends[1], POLLOUT, 0}, {-1, POLLIN, 0}};
  CHECK(poll(both, 3, 0) == 1 && both[0].revents == 0 && both[1].revents == POLLOUT && both[2].revents == 0);
  long long start = now_ms();
  CHECK(poll(both, 1, 100) == 0 && now_ms() - start >= 100);
  pid_t child = later(ends[1], 'w');
  CHECK(poll(both, 1, -1) == 1 && both[0].revents == POLLIN);
  CHECK(read(ends[0], block, 1) == 1 && waitpid(child, NULL, 0) == child);
  CHECK(write(ends[1], block, sizeof block) == sizeof block);
  CHECK(poll(both + 1, 1, 0) == 0);
  child = later(ends[0], 'r');
  CHECK(poll(both + 1, 1, 5000) == 1 && both[1].revents == POLLOUT);
  CHECK(waitpid(child, NULL, 0) == child);
  CHECK(close(ends[1]) == 0 && poll(both, 1, 5000) == 1 && (both[0].revents & POLLHUP) != 0);
  CHECK(close(ends[0]) == 0 && poll(both, 1, 5000) == 1 && both[0].revents == POLLNVAL);
  CHECK(syscall(SYS_poll, NULL, 1, 0) == -1 && errno == EFAULT);
  CHECK(syscall(SYS_poll, both, 100000, 0) == -1 && errno == EINVAL);
}

static void test_select(void) {
  int ends[2];
  fd_set readable, writable;
  CHECK(pipe(ends) == 0);
  FD_ZERO(&readable);
  FD_ZERO(&writable);
  FD_SET(ends[0], &readable), FD_SET(ends[1], &writable);
  struct timeval none = {0, 0};
  CHECK(select(ends[1] + 1, &readable, &writable, NULL, &none) == 1);
  CHECK(!FD_ISSET(ends[0], &readable) && FD_ISSET(ends[1], &writable));
  const pid_t child = later(ends[1], 'w');
  FD_SET(ends[0], &readable);
  CHECK(select(ends[0] + 1, &readable, NULL, NULL, NULL) == 1 && FD_ISSET(ends[0], &readable));
  CHECK(waitpid(child, NULL, 0) == child);
  close(ends[0]), close(ends[1]);
  CHECK(select(ends[0] + 1, &readable, NULL, NULL, &none) == -1 && errno == EBADF);
}

/* What is blocked outside the call comes in it, and is blocked again afterwards. */
static void test_masks(void) {
  sigset_t blocked, none, after;
  sigemptyset(&none);
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGALRM);
  signal(SIGALRM, on_alarm);
  sigprocmask(SIG_BLOCK, &blocked, NULL);
  alarms = 0;
  raise(SIGALRM);
  struct timespec soon = {0, 1000000}, long_time = {5, 0};
  CHECK(ppoll(NULL, 0, &soon, &blocked) == 0 && alarms == 0);
  CHECK(ppoll(NULL, 0, &long_time, &none) == -1 && errno == EINTR && alarms == 1);
  sigprocmask(SIG_SETMASK, NULL, &after);
  CHECK(sigismember(&after, SIGALRM) == 1);
  raise(SIGALRM);
  CHECK(pselect(0, NULL, NULL, NULL, &long_time, &none) == -1 && errno == EINTR && alarms == 2);
  CHECK(ppoll(NULL, 0, &soon, &none) == 0);
  sigprocmask(SIG_SETMASK, NULL, &after);
  CHECK(sigismember(&after, SIGALRM) == 1);
  sigprocmask(SIG_UNBLOCK, &blocked, NULL);
}

static void test_timers(void) {
  struct itimerval timer = {{0, 20000}, {0, 30000}}, old;
  alarms = 0;
  const long long start = now_ms();
  CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
  while (alarms < 4) pause();
  CHECK(now_ms() - start >= 30 + 2 * 20);
  CHECK(getitimer(ITIMER_REAL, &old) == 0 && old.it_interval.tv_usec == 20000 && old.it_value.tv_usec > 0);
  memset(&timer, 0, sizeof timer);
  CHECK(setitimer(ITIMER_REAL, &timer, &old) == 0 && old.it_interval.tv_usec == 20000);
  CHECK(getitimer(ITIMER_REAL, &old) == 0 && old.it_value.tv_sec == 0 && old.it_value.tv_usec == 0);
  CHECK(alarm(100) == 0 && alarm(0) >= 99);
  timer.it_value.tv_usec = 1000000;
  CHECK(setitimer(ITIMER_REAL, &timer, NULL) == -1 && errno == EINVAL);
}

static void test_attributes(void) {
  struct stat status;
  struct statfs system;
  const int file = open("/tmp/attributes", O_RDWR | O_CREAT, 0600);
  CHECK(file >= 0 && chmod("/tmp/attributes", 0751) == 0 && fstat(file, &status) == 0);
  CHECK((status.st_mode & 07777) == 0751);
  CHECK(fchmod(file, 0640) == 0 && stat("/tmp/attributes", &status) == 0 && (status.st_mode & 07777) == 0640);
  CHECK(chown("/tmp/attributes", 7, -1) == 0 && fchown(file, -1, 9) == 0 && fstat(file, &status) == 0);
  CHECK(status.st_uid == 7 && status.st_gid == 9);
  const struct timespec times[2] = {{1000000000, 0}, {1200000000, 0}}, keep[2] = {{0, UTIME_OMIT}, {1300000000, 0}};
  CHECK(utimensat(AT_FDCWD, "/tmp/attributes", times, 0) == 0 && fstat(file, &status) == 0);
  CHECK(status.st_atime == 1000000000 && status.st_mtime == 1200000000);
  CHECK(futimens(file, keep) == 0 && fstat(file, &status) == 0);
  CHECK(status.st_atime == 1000000000 && status.st_mtime == 1300000000);
  CHECK(chmod("/tmp/none", 0600) == -1 && errno == ENOENT);
  CHECK(statfs("/tmp", &system) == 0 && system.f_blocks > 0 && system.f_bfree < system.f_blocks);
  CHECK(close(file) == 0 && unlink("/tmp/attributes") == 0);
}

static void test_machine(void) {
  struct sysinfo info;
  struct rlimit limit;
  struct rusage usage;
  cpu_set_t cpus;
  CHECK(sysinfo(&info) == 0 && info.totalram > info.freeram && info.freeram > 0 && info.procs >= 1);
  CHECK(getrlimit(RLIMIT_STACK, &limit) == 0 && limit.rlim_cur == 8u << 20);
  CHECK(getrusage(RUSAGE_SELF, &usage) == 0);
  CHECK(times(NULL) != (clock_t)-1 && getgroups(0, NULL) == 0);
  CHECK(sched_getaffinity(0, sizeof cpus, &cpus) == 0 && CPU_COUNT(&cpus) >= 1);
}

int main(void) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  (void)mkdir("/tmp", 0777);
  test_poll();
  test_select();
  test_masks();
  test_timers();
  test_attributes();
  test_machine();
  return tap_end();
}
