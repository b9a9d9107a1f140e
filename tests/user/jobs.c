/* What a shell does with its children: whom it waits for, and groups of them; stopping and going on. */
#define _GNU_SOURCE
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tap.h"

static pid_t idle_child(void) {
  const pid_t child = fork();
  if (child != 0) return child;
  for (;;) pause();
}

static pid_t ending_child(int status) {
  const pid_t child = fork();
  if (child == 0) _exit(status);
  return child;
}

static int was_killed(pid_t child) {
  int status = 0;
  return kill(child, SIGKILL) == 0 && waitpid(child, &status, 0) == child && WTERMSIG(status) == SIGKILL;
}

/* Those who have ended are found among those who have not, whoever is older. */
static void test_whom_to_wait_for(void) {
  int status = 0;
  const pid_t first = idle_child(), second = ending_child(3), third = idle_child(), fourth = ending_child(4);
  CHECK(first > 0 && second > first && third > second && fourth > third);
  CHECK(waitpid(fourth, &status, 0) == fourth && WEXITSTATUS(status) == 4);
  CHECK(waitpid(-1, &status, 0) == second && WEXITSTATUS(status) == 3);
  CHECK(waitpid(-1, &status, WNOHANG) == 0);
  CHECK(waitpid(first, &status, WNOHANG) == 0);
  CHECK(waitpid(second, &status, 0) == -1 && errno == ECHILD);
  CHECK(waitpid(getpid(), &status, 0) == -1 && errno == ECHILD);
  CHECK(was_killed(first) && was_killed(third));
  CHECK(waitpid(-1, &status, 0) == -1 && errno == ECHILD);
}

static void test_groups(void) {
  int status = 0;
  const pid_t leader = idle_child(), member = idle_child(), other = ending_child(5);
  CHECK(setpgid(leader, 0) == 0 && getpgid(leader) == leader);
  CHECK(setpgid(member, leader) == 0 && getpgid(member) == leader);
  CHECK(getpgid(other) == getpgrp() && getsid(leader) == getsid(0));
  CHECK(waitpid(-leader, &status, WNOHANG) == 0);
  CHECK(waitpid(0, &status, 0) == other && WEXITSTATUS(status) == 5);
  CHECK(waitpid(0, &status, 0) == -1 && errno == ECHILD);
  CHECK(kill(-leader, SIGTERM) == 0);
  for (int i = 0; i < 2; ++i) CHECK(waitpid(-leader, &status, 0) > 0 && WTERMSIG(status) == SIGTERM);
  CHECK(waitpid(-leader, &status, 0) == -1 && errno == ECHILD);
  CHECK(kill(-leader, 0) == -1 && errno == ESRCH);
}

/* Children of one who ends first end when they like, and whoever waits for them then is not their parent. */
static void test_orphans(void) {
  int ends[2], status = 0;
  pid_t orphans[2] = {0, 0};
  CHECK(pipe(ends) == 0);
  const pid_t parent = fork();
  if (parent == 0) {
    orphans[0] = ending_child(0);
    orphans[1] = idle_child();
    _exit(write(ends[1], orphans, sizeof orphans) == sizeof orphans ? 0 : 1);
  }
  CHECK(read(ends[0], orphans, sizeof orphans) == sizeof orphans);
  CHECK(waitpid(parent, &status, 0) == parent && status == 0);
  CHECK(waitpid(orphans[1], &status, 0) == -1 && errno == ECHILD);
  CHECK(kill(orphans[1], SIGKILL) == 0);
  for (int i = 0; i < 100 && kill(orphans[1], 0) == 0; ++i) usleep(10000);
  CHECK(kill(orphans[1], 0) == -1 && errno == ESRCH);
  close(ends[0]);
  close(ends[1]);
}

static volatile int *counter;
static volatile sig_atomic_t children_heard, continued;
static void on_child(int signal) { children_heard += signal == SIGCHLD; }
static void on_continue(int signal) { continued += signal == SIGCONT; }

static void watch_children(int flags) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = flags < 0 ? SIG_DFL : on_child;
  action.sa_flags = flags < 0 ? 0 : flags | SA_RESTART;
  sigaction(SIGCHLD, &action, NULL);
  children_heard = 0;
}

static pid_t counting_child(void) {
  const pid_t child = fork();
  if (child != 0) return child;
  signal(SIGCONT, on_continue);
  for (;;) counter[0] = counter[0] + 1, counter[1] = continued;
}

static int moves(void) {
  const int before = counter[0];
  for (int i = 0; i < 100 && counter[0] == before; ++i) usleep(10000);
  return counter[0] != before;
}

static int stopped_by(pid_t child, int signal) {
  int status = 0;
  return waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status) && WSTOPSIG(status) == signal;
}

static int goes_on(pid_t child) {
  int status = 0;
  return waitpid(child, &status, WCONTINUED) == child && WIFCONTINUED(status);
}

static void test_stop_and_continue(void) {
  int status = 0;
  counter = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  watch_children(0);
  const pid_t child = counting_child();
  CHECK(moves() && waitpid(child, &status, WUNTRACED | WCONTINUED | WNOHANG) == 0);
  CHECK(kill(child, SIGSTOP) == 0 && stopped_by(child, SIGSTOP) && children_heard == 1);
  CHECK(waitpid(child, &status, WUNTRACED | WNOHANG) == 0); /* once */
  usleep(50000); /* it may have been running, on another CPU */
  const int then = counter[0];
  usleep(100000);
  CHECK(counter[0] == then);
  CHECK(kill(child, SIGCONT) == 0 && goes_on(child) && moves() && counter[1] == 1 && children_heard == 2);
  watch_children(SA_NOCLDSTOP);
  CHECK(kill(child, SIGSTOP) == 0 && stopped_by(child, SIGSTOP));
  CHECK(kill(child, SIGCONT) == 0 && moves() && children_heard == 0);
  CHECK(kill(child, SIGSTOP) == 0 && stopped_by(child, SIGSTOP));
  CHECK(waitpid(child, &status, WCONTINUED | WNOHANG) == 0); /* what has gone on and stopped again has stopped */
  CHECK(was_killed(child) && children_heard >= 1);
  watch_children(-1);
  munmap((void *)counter, 4096);
}

/* In a group of its own, as a shell starts it, by what a terminal would send. */
static void test_stops_of_a_job(void) {
  static const int kSignals[] = {SIGTSTP, SIGTTIN, SIGTTOU};
  int status = 0;
  const pid_t job = idle_child(), member = idle_child();
  CHECK(setpgid(job, job) == 0 && setpgid(member, job) == 0);
  for (int i = 0; i < 3; ++i) {
    CHECK(kill(-job, kSignals[i]) == 0 && stopped_by(job, kSignals[i]) && stopped_by(member, kSignals[i]));
    CHECK(kill(-job, SIGCONT) == 0 && goes_on(job) && goes_on(member));
  }
  CHECK(kill(job, SIGTSTP) == 0 && stopped_by(job, SIGTSTP) && kill(job, SIGTERM) == 0);
  CHECK(waitpid(job, &status, WNOHANG) == 0); /* nothing else is delivered while it is stopped */
  CHECK(kill(job, SIGCONT) == 0 && waitpid(job, &status, 0) == job && WTERMSIG(status) == SIGTERM);
  CHECK(was_killed(member));
}

/* A call that sleeps goes on sleeping; a handler of SIGTSTP runs in place of the stop. */
static void test_calls_and_handlers(void) {
  int ends[2], status = 0;
  char byte = 0;
  CHECK(pipe(ends) == 0);
  pid_t child = fork();
  if (child == 0) _exit(read(ends[0], &byte, 1) == 1 && byte == 'x' ? 6 : 1);
  usleep(30000);
  CHECK(kill(child, SIGSTOP) == 0 && stopped_by(child, SIGSTOP) && kill(child, SIGCONT) == 0 && goes_on(child));
  CHECK(write(ends[1], "x", 1) == 1 && waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 6);
  child = fork();
  if (child == 0) {
    signal(SIGCONT, on_continue);
    signal(SIGTSTP, on_continue);
    (void)!write(ends[1], "y", 1);
    _exit(pause() == -1 && errno == EINTR ? 8 : 1);
  }
  CHECK(read(ends[0], &byte, 1) == 1 && byte == 'y');
  usleep(30000);
  CHECK(kill(child, SIGTSTP) == 0 && waitpid(child, &status, WUNTRACED) == child && WEXITSTATUS(status) == 8);
  child = idle_child(); /* pause() has no end without a handler */
  usleep(30000);
  CHECK(kill(child, SIGSTOP) == 0 && stopped_by(child, SIGSTOP) && kill(child, SIGCONT) == 0 && goes_on(child));
  usleep(30000);
  CHECK(waitpid(child, &status, WNOHANG) == 0 && was_killed(child));
  close(ends[0]);
  close(ends[1]);
}

static void test_who_may_be_grouped(char *self) {
  int ends[2], status = 0;
  char byte = 0;
  CHECK(pipe(ends) == 0);
  pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], 1);
    execl(self, self, "idle", NULL);
    _exit(1);
  }
  CHECK(read(ends[0], &byte, 1) == 1);
  CHECK(setpgid(child, child) == -1 && errno == EACCES);
  CHECK(was_killed(child));
  child = idle_child();
  CHECK(setpgid(child, child + 1000) == -1 && errno == EPERM);
  CHECK(setpgid(1000000, 0) == -1 && errno == ESRCH);
  CHECK(setpgid(child, -1) == -1 && errno == EINVAL);
  CHECK(was_killed(child));
  child = fork();
  if (child == 0) {
    const pid_t me = getpid();
    _exit(setsid() == me && getsid(0) == me && getpgrp() == me && setsid() == -1 && setpgid(0, 0) == -1 ? 9 : 1);
  }
  CHECK(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 9);
  close(ends[0]);
  close(ends[1]);
}

static long long milliseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/* Each for a second, with nothing to wait for. */
static int sleeps(void) { return nanosleep(&(struct timespec){1, 0}, NULL) == 0; }
static int polls(void) { return poll(NULL, 0, 1000) == 0; }
static int selects(void) { return select(0, NULL, NULL, NULL, &(struct timeval){1, 0}) == 0; }
static int waits_for_a_word(void) {
  int word = 0;
  return syscall(SYS_futex, &word, 0, 0, &(struct timespec){1, 0}, NULL, 0) == -1 && errno == ETIMEDOUT;
}

/* A call that was stopped in its middle goes on, and ends when it would have. On a busy machine it may end late. */
static int a_stop_is_no_end(int (*const waits[])(void), int count) {
  int on_time = 1, status = 0;
  pid_t leader = 0;
  for (int i = 0; i < count; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      const long long begin = milliseconds();
      const int well = waits[i]();
      const long long took = milliseconds() - begin;
      _exit(!well || took < 1000 ? 1 : took < 1700 ? 2 : 3);
    }
    if (i == 0) leader = child;
    CHECK(setpgid(child, leader) == 0);
  }
  usleep(200000);
  CHECK(kill(-leader, SIGSTOP) == 0);
  usleep(700000);
  CHECK(kill(-leader, SIGCONT) == 0);
  for (int i = 0; i < count; ++i) {
    CHECK(waitpid(-leader, &status, 0) > 0 && WEXITSTATUS(status) >= 2);
    on_time = on_time && WEXITSTATUS(status) == 2;
  }
  return on_time;
}

static void test_stopped_while_waiting(void) {
  int (*const waits[])(void) = {sleeps, polls, selects, waits_for_a_word};
  int on_time = 0;
  for (int i = 0; i < 5 && !on_time; ++i) on_time = a_stop_is_no_end(waits, 4);
  CHECK(on_time);
}

enum tie { SHELL_ENDS, LEADER_ENDS, NOBODY_IS_STOPPED };

static int told[2]; /* a letter from each who ends: a capital one if it was hung up */
static char my_letter;

static void tell(int signal) {
  const char letter = signal == SIGHUP ? my_letter : my_letter + 'a' - 'A';
  _exit(write(told[1], &letter, 1) == 1 ? 0 : 1);
}

static void wait_for_a_hang_up(void) {
  poll(NULL, 0, 500);
  tell(0);
}

static void lead_a_job(enum tie which, int ready) {
  my_letter = 'L';
  signal(SIGHUP, tell);
  const pid_t member = fork();
  if (member == 0) {
    my_letter = 'M';
    if (which != NOBODY_IS_STOPPED) raise(SIGSTOP);
    wait_for_a_hang_up();
  }
  if (which != NOBODY_IS_STOPPED && !stopped_by(member, SIGSTOP)) _exit(1);
  if (write(ready, "x", 1) != 1 || which == LEADER_ENDS) _exit(1);
  wait_for_a_hang_up();
}

static void be_a_shell(enum tie which) {
  int ends[2], status;
  char byte;
  if (setsid() < 0 || pipe(ends) != 0) _exit(1);
  const pid_t job = fork();
  if (job == 0) {
    if (setpgid(0, 0) != 0) _exit(1);
    lead_a_job(which, ends[1]);
  }
  if (read(ends[0], &byte, 1) != 1) _exit(1);
  if (which == LEADER_ENDS) {
    waitpid(job, &status, 0);
    poll(NULL, 0, 1000);
  }
  _exit(0);
}

/* A group that nobody can continue any more does not stay stopped: all of it is hung up, those who run too. */
static void test_orphaned_group(enum tie which, const char *expected) {
  char letters[8] = "";
  int status = 0, count = 0;
  CHECK(pipe(told) == 0);
  const pid_t shell = fork();
  if (shell == 0) be_a_shell(which);
  close(told[1]);
  for (struct pollfd end = {.fd = told[0], .events = POLLIN}; count < 7 && poll(&end, 1, 10000) == 1; ++count) {
    if (read(told[0], letters + count, 1) != 1) break;
  }
  if (count == 2 && letters[0] > letters[1]) {
    const char first = letters[0];
    letters[0] = letters[1];
    letters[1] = first;
  }
  CHECK(strcmp(letters, expected) == 0);
  CHECK(waitpid(shell, &status, 0) == shell && status == 0);
  close(told[0]);
}

int main(int argc, char **argv) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  if (argc > 1 && strcmp(argv[1], "idle") == 0) {
    (void)!write(1, "x", 1);
    for (;;) pause();
  }
  test_whom_to_wait_for();
  test_groups();
  test_orphans();
  test_stop_and_continue();
  test_stops_of_a_job();
  test_calls_and_handlers();
  test_who_may_be_grouped(argv[0]);
  test_stopped_while_waiting();
  test_orphaned_group(SHELL_ENDS, "LM");
  test_orphaned_group(LEADER_ENDS, "M");
  test_orphaned_group(NOBODY_IS_STOPPED, "lm");
  return tap_end();
}
