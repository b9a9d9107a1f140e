/* Address spaces under load: what a program may do to its own memory, at the limits and from several sides. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tap.h"

enum { PAGE = 4096, MEGABYTE = 1 << 20 };

static void *anonymous(size_t bytes) {
  void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return at == MAP_FAILED ? NULL : at;
}

/* All that there is room for, in pieces of 32 MB, a page of each touched. */
static void test_sparse(void) {
  enum { PIECE = 32 * MEGABYTE, MOST = 128 };
  static uint32_t *pieces[MOST];
  int count = 0, wrong = 0;
  while (count < MOST && (pieces[count] = anonymous(PIECE)) != NULL) ++count;
  for (int i = 0; i < count; ++i) pieces[i][i * 1024 + 7] = (uint32_t)(i + 1);
  for (int i = 0; i < count; ++i) wrong += pieces[i][i * 1024 + 7] != (uint32_t)(i + 1);
  for (int i = 0; i < count; ++i) wrong += pieces[i][PIECE / 4 - 1] != 0;
  printf("# %d MB mapped and touched\n", count * (PIECE / MEGABYTE));
  CHECK(count * (PIECE / MEGABYTE) >= 900 && wrong == 0);
  const pid_t child = fork();
  if (child == 0) {
    for (int i = 0; i < count; ++i) wrong += pieces[i][i * 1024 + 7] != (uint32_t)(i + 1);
    for (int i = 0; i < count; ++i) pieces[i][i * 1024 + 7] = 0;
    _exit(wrong != 0);
  }
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child && status == 0);
  for (int i = 0; i < count; ++i) wrong += pieces[i][i * 1024 + 7] != (uint32_t)(i + 1);
  CHECK(wrong == 0);
  for (int i = 0; i < count; ++i) wrong += munmap(pieces[i], PIECE) != 0;
  CHECK(wrong == 0);
  CHECK(anonymous(256 * MEGABYTE) != NULL);
}

/* Processes that share pages write to all of them at once; nobody sees the others' words. */
static void test_storm(void) {
  enum { PAGES = 64, CHILDREN = 4, ROUNDS = 10 };
  uint32_t *words = anonymous(PAGES * PAGE);
  int wrong = 0, lost = 0, status = 0;
  for (int round = 0; round < ROUNDS; ++round) {
    for (int i = 0; i < PAGES; ++i) words[i * 1024] = (uint32_t)(round + i);
    for (int child = 1; child <= CHILDREN; ++child) {
      const pid_t id = fork();
      if (id != 0) {
        lost += id < 0;
        continue;
      }
      for (int i = 0; i < PAGES; ++i) wrong += words[i * 1024] != (uint32_t)(round + i);
      for (int i = 0; i < PAGES; ++i) words[i * 1024] = (uint32_t)(child << 16 | i);
      sched_yield();
      for (int i = 0; i < PAGES; ++i) wrong += words[i * 1024] != (uint32_t)(child << 16 | i);
      _exit(wrong != 0);
    }
    for (int i = 0; i < PAGES; ++i) words[i * 1024] = 0x80000000u | (uint32_t)i;
    while (waitpid(-1, &status, 0) > 0) lost += status != 0;
    for (int i = 0; i < PAGES; ++i) wrong += words[i * 1024] != (0x80000000u | (uint32_t)i);
  }
  CHECK(wrong == 0);
  CHECK(lost == 0);
  munmap(words, PAGES * PAGE);
}

/* One thread unmaps what another touches: that one reads the old word, zero, or takes the signal. */
static uint32_t *volatile target;
static volatile int stop;
static volatile unsigned reads, strange;
static __thread sigjmp_buf *volatile way_out;

static void on_fault(int signal) {
  (void)signal;
  if (way_out != NULL) siglongjmp(*way_out, 1);
  _exit(99);
}

static void *touch(void *unused) {
  (void)unused;
  sigjmp_buf back;
  way_out = &back;
  (void)sigsetjmp(back, 1);
  while (!stop) {
    const uint32_t word = *(volatile uint32_t *)target;
    strange += word != 0 && word != 0x5eed5eed;
    ++reads;
  }
  way_out = NULL;
  return NULL;
}

static void test_unmap_against_touch(void) {
  pthread_t thread;
  int failed = 0;
  struct sigaction action = {.sa_handler = on_fault};
  sigaction(SIGSEGV, &action, NULL);
  uint32_t *const place = anonymous(2 * PAGE), *const other = place + PAGE / 4;
  target = place;
  *(volatile uint32_t *)place = 0x5eed5eed;
  CHECK(pthread_create(&thread, NULL, touch, NULL) == 0);
  while (reads == 0) sched_yield();
  for (int i = 0; i < 200; ++i) {
    failed += mmap(place, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != place;
    *(volatile uint32_t *)place = 0x5eed5eed;
    failed += munmap(place, PAGE) != 0;
    /* The frame goes round: what is written to it elsewhere must not be seen at the old place. */
    failed += mmap(other, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != other;
    *(volatile uint32_t *)other = 0xbad0bad0;
    failed += munmap(other, PAGE) != 0;
    sched_yield();
  }
  stop = 1;
  CHECK(pthread_join(thread, NULL) == 0);
  printf("# %u reads\n", reads);
  CHECK(failed == 0 && strange == 0);
  signal(SIGSEGV, SIG_DFL);
}

/* SSE and x87 registers of processes that take turns. */
static int keep_registers(uint32_t seed) {
  uint32_t in[8][4], out[8][4];
  for (uint32_t i = 0; i < 8; ++i)
    for (uint32_t k = 0; k < 4; ++k) in[i][k] = seed * 0x01000193u + i * 4 + k;
  const long double number = 1.0L / seed;
  long double back = 0;
  int wrong = 0;
  for (int round = 0; round < 300; ++round) {
    __asm__ volatile(
        "fldt %[number]\n movups (%[in]), %%xmm0\n movups 16(%[in]), %%xmm1\n movups 32(%[in]), %%xmm2\n"
        "movups 48(%[in]), %%xmm3\n movups 64(%[in]), %%xmm4\n movups 80(%[in]), %%xmm5\n movups 96(%[in]), %%xmm6\n"
        "movups 112(%[in]), %%xmm7\n movl $158, %%eax\n int $0x80\n" /* sched_yield */
        "movups %%xmm0, (%[out])\n movups %%xmm1, 16(%[out])\n movups %%xmm2, 32(%[out])\n"
        "movups %%xmm3, 48(%[out])\n movups %%xmm4, 64(%[out])\n movups %%xmm5, 80(%[out])\n"
        "movups %%xmm6, 96(%[out])\n movups %%xmm7, 112(%[out])\n fstpt %[back]\n"
        : [back] "=m"(back), "=m"(out)
        : [number] "m"(number), [in] "r"(in), [out] "r"(out), "m"(in)
        : "eax", "memory");
    wrong += memcmp(in, out, sizeof in) != 0 || back != number;
  }
  return wrong;
}

static void test_registers(void) {
  enum { CHILDREN = 6 };
  int lost = 0, status = 0;
  for (uint32_t child = 1; child <= CHILDREN; ++child) {
    const pid_t id = fork();
    if (id == 0) _exit(keep_registers(child * 7 + 1) != 0);
    lost += id < 0;
  }
  CHECK(keep_registers(3) == 0);
  while (waitpid(-1, &status, 0) > 0) lost += status != 0;
  CHECK(lost == 0);
}

/* 64 KiB and more of arguments arrive; what is too much is an error, and the caller goes on. */
static void test_arguments(char *self) {
  enum { STRINGS = 64, LENGTH = 1100 };
  static char *list[STRINGS + 3];
  static char text[LENGTH + 1];
  int status = 0;
  memset(text, 'a', LENGTH);
  list[0] = self;
  list[1] = "arguments";
  for (int i = 0; i < STRINGS; ++i) list[i + 2] = text;
  const pid_t child = fork();
  if (child == 0) {
    execv(self, list);
    _exit(99);
  }
  CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == STRINGS);
  char *const huge = anonymous(16 * MEGABYTE);
  memset(huge, 'b', 16 * MEGABYTE - 1);
  char *too_much[] = {self, "arguments", huge, NULL};
  CHECK(execv(self, too_much) == -1 && errno == E2BIG);
  munmap(huge, 16 * MEGABYTE);
}

/* How many arguments are as they should be. */
static int count_arguments(int argc, char **argv) {
  int good = 0;
  for (int i = 2; i < argc; ++i) good += strlen(argv[i]) == 1100 && strspn(argv[i], "a") == 1100;
  return good;
}

/* The stack grows down to its limit and not into what lies below. */
static int deep(int depth) {
  volatile char frame[1000];
  frame[0] = (char)depth;
  return depth == 0 ? 0 : deep(depth - 1) + (frame[0] == (char)depth);
}

static void test_stack(void) {
  int status = 0;
  CHECK(deep(4000) == 4000);
  const pid_t child = fork();
  if (child == 0) _exit(deep(1 << 30) == 0);
  CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
}

int main(int argc, char **argv) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  if (argc > 1 && strcmp(argv[1], "arguments") == 0) return count_arguments(argc, argv);
  test_sparse();
  test_storm();
  test_unmap_against_touch();
  test_registers();
  test_arguments(argv[0]);
  test_stack();
  return tap_end();
}
