/* Many processes: `crowd N` has N of them alive at once; `crowd N bomb` explodes in between, which must end in a clean
 * error: for a machine with little memory, or it takes long. `crowd N half` looks at low memory, of which they may have
 * taken half, and which must be there again when they are gone. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tap.h"

static int is_clean(int error) { return error == EAGAIN || error == ENOMEM; }

/* In kB: what is free, and what there is. */
static long low_free, low_total;
static void look_at_low_memory(void) {
  struct sysinfo info = {0};
  sysinfo(&info);
  low_free = (long)((info.freeram - info.freehigh) * info.mem_unit / 1024);
  low_total = (long)((info.totalram - info.totalhigh) * info.mem_unit / 1024);
}

/* Each child says that it is there, and stays until the other end of `gate` is closed. */
static void test_alive_at_once(int wanted) {
  int here[2], gate[2], made = 0, arrived = 0, good = 0, status = 0, error = 0;
  CHECK(pipe(here) == 0 && pipe(gate) == 0);
  char *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  shared[0] = 1;
  for (; made < wanted; ++made) {
    const pid_t child = fork();
    if (child < 0) error = errno;
    if (child < 0) break;
    if (child != 0) continue;
    char byte = 0;
    close(gate[1]);
    shared[0] = 2; /* a page of its own */
    if (write(here[1], "x", 1) != 1) _exit(1);
    _exit(read(gate[0], &byte, 1) == 0 && shared[0] == 2 ? 7 : 2);
  }
  close(here[1]);
  char bytes[256];
  while (arrived < made) {
    const ssize_t got = read(here[0], bytes, sizeof bytes);
    if (got <= 0) break;
    arrived += (int)got;
  }
  printf("# %d processes alive at once, error %d\n", arrived, error);
  CHECK(made == wanted && arrived == wanted);
  look_at_low_memory();
  close(gate[0]);
  close(gate[1]);
  while (waitpid(-1, &status, 0) > 0) good += WIFEXITED(status) && WEXITSTATUS(status) == 7;
  CHECK(good == made && shared[0] == 1);
  close(here[0]);
  munmap(shared, 4096);
}

enum { ENOUGH = 20 };

/* Every process forks until it cannot; whoever cannot says why. All end when so many could not. */
static void explode(int report, volatile int *failures, time_t until) {
  int error = 0;
  while (*failures < ENOUGH && time(NULL) < until) {
    const pid_t child = fork();
    if (child >= 0) continue;
    error = errno;
    (void)!write(report, &error, sizeof error);
    __atomic_fetch_add(failures, 1, __ATOMIC_SEQ_CST);
    sched_yield();
  }
  _exit(0);
}

static void test_fork_bomb(void) {
  int report[2], error = 0, reports = 0, clean = 0, status = 0;
  volatile int *const failures = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(pipe(report) == 0);
  const pid_t bomb = fork();
  CHECK(bomb >= 0);
  if (bomb == 0) {
    close(report[0]);
    explode(report[1], failures, time(NULL) + 60);
  }
  close(report[1]);
  while (read(report[0], &error, sizeof error) == sizeof error) {
    ++reports;
    clean += is_clean(error);
  }
  printf("# %d times the bomb met the limit\n", reports);
  CHECK(reports >= ENOUGH && clean == reports);
  /* It may have met the end of memory in another way than by fork(). */
  CHECK(waitpid(bomb, &status, 0) == bomb && (status == 0 || WTERMSIG(status) == SIGKILL));
  close(report[0]);
  munmap((void *)failures, 4096);
}

/* Nothing is left of it: as many processes as before can be made. */
static void test_afterwards(void) {
  int good = 0, status = 0;
  for (int i = 0; i < 20; ++i) {
    const pid_t child = fork();
    if (child == 0) _exit(5);
    good += child > 0 && waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 5;
  }
  CHECK(good == 20);
}

/* What is kept for the next processes, caches of objects above all, is small beside what they had. */
static void test_low_memory(int many) {
  look_at_low_memory();
  const long before = low_free;
  test_alive_at_once(many);
  const long then = low_free;
  printf("# low memory: %ld kB, free %ld kB before and %ld kB with all of them\n", low_total, before, then);
  CHECK(then >= low_total / 2);
  for (int look = 0; look < 100 && before - low_free >= (before - then) / 10; ++look) {
    usleep(100000); /* those who have ended last may still be ending */
    look_at_low_memory();
  }
  printf("# free %ld kB afterwards\n", low_free);
  CHECK(before - low_free < (before - then) / 10);
}

int main(int argc, char **argv) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  const int many = argc > 1 ? atoi(argv[1]) : 1000;
  if (argc > 2 && strcmp(argv[2], "half") == 0) {
    test_low_memory(many);
    return tap_end();
  }
  test_alive_at_once(many);
  if (argc > 2) test_fork_bomb();
  test_afterwards();
  test_alive_at_once(many);
  return tap_end();
}
