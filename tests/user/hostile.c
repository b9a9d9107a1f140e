/* Calls that mean no good: an error or a refusal each time, and the kernel lives.
 *
 *   every number of a call x 14 values that are no good pointer x each of its arguments and all of them at once;
 *   then `hostile ROUNDS SEED` calls with random numbers and random arguments, two processes of two threads at a time.
 *
 * All in children, which may die of it, and must die when they are told to. Pages that no call was allowed to change
 * are looked at after each. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tap.h"

enum { NUMBERS = 460, PAGE = 4096, VALUES = 14, ARGUMENTS = 6, CHILDREN = 2, PATIENCE = 3 };
enum { CANARY = 0x5eed5eed, CHANGED = 77 };

/* They end or stop the caller, or others. */
static int is_left_out(int number) {
  static const int left_out[] = {SYS_exit, SYS_exit_group, SYS_pause, SYS_fork, SYS_vfork, SYS_clone, SYS_kill,
                                 SYS_tkill, SYS_tgkill, SYS_rt_sigsuspend, SYS_sigreturn, SYS_rt_sigreturn};
  for (unsigned i = 0; i < sizeof left_out / sizeof *left_out; ++i)
    if (left_out[i] == number) return 1;
  return 0;
}

/* They may change what a page is, so its contents prove nothing. */
static int changes_maps(int number) {
  return number == SYS_mmap || number == SYS_mmap2 || number == SYS_munmap || number == SYS_mprotect ||
         number == SYS_mremap || number == SYS_madvise || number == SYS_brk;
}

static uint32_t draw(uint32_t *state) {
  *state ^= *state << 13;
  *state ^= *state >> 17;
  *state ^= *state << 5;
  return *state;
}

static char *end_of_page;            /* the byte behind the last one that can be read */
static volatile uint32_t *read_only; /* full of canaries */
static volatile uint32_t *shared;    /* after fork(): copied on write; full of canaries in the parent */
static char *shaky;                  /* comes and goes by another thread's hand */
static volatile int *done_values;    /* seen by parent and children */

static uint32_t value(unsigned which) {
  const uint32_t values[VALUES] = {0,
                                   1,
                                   (uint32_t)end_of_page - 1,
                                   0xbfffffff, /* the end of user memory with the usual split */
                                   0xc0000000, /* lowmem */
                                   0xf9000000, /* vmalloc */
                                   0xfec00000, /* lasting maps */
                                   0xff800000, /* fixmap */
                                   0xfe000000, /* page tables */
                                   0xfffff000, /* wraps */
                                   (uint32_t)read_only,
                                   (uint32_t)end_of_page, /* nothing there */
                                   (uint32_t)shared + 3,  /* misaligned, and copied on write */
                                   (uint32_t)shaky};
  return values[which % VALUES];
}

static long call(int number, const uint32_t *a) {
  long answer;
  /* EBP and ESI, which points at the arguments, are arguments too. */
  __asm__ volatile(
      "pushl %%ebp\n movl 20(%%esi), %%ebp\n movl (%%esi), %%ebx\n movl 12(%%esi), %%esi\n int $0x80\n popl %%ebp"
                   : "=a"(answer), "+S"(a)
                   : "a"(number), "c"(a[1]), "d"(a[2]), "D"(a[4])
                   : "ebx", "memory");
  return answer;
}

static int is_intact(const volatile uint32_t *page) {
  for (unsigned i = 0; i < PAGE / 4; ++i)
    if (page[i] != CANARY) return 0;
  return 1;
}

static void *shake(void *unused) {
  (void)unused;
  for (;;) {
    mmap(shaky, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    munmap(shaky, PAGE);
    sched_yield();
  }
  return NULL;
}

/* Descriptors 0 to 2: ends of a pipe that never block, and a file. Nothing of the parent's. */
static void take_descriptors(unsigned which) {
  char name[] = "/tmp/hostile0";
  int ends[2];
  name[sizeof name - 2] = (char)('0' + which);
  for (int fd = 0; fd < 20; ++fd) close(fd);
  if (pipe2(ends, O_NONBLOCK) != 0 || open(name, O_RDWR | O_CREAT, 0600) != 2) _exit(3);
  unlink(name);
}

static void settle_arguments(int number, uint32_t *arguments) {
  const uint32_t no_time = (uint32_t)end_of_page - PAGE; /* zeros */
  if (number == SYS_futex || number == SYS_futex_time64) arguments[1] = 1; /* wakes, never waits */
  if (number == SYS_poll) arguments[2] &= 1;
  if ((number == SYS_ppoll || number == SYS_ppoll_time64) && arguments[2] == 0) arguments[2] = no_time;
  const int select = number == SYS__newselect || number == SYS_pselect6 || number == SYS_pselect6_time64;
  if (select && arguments[4] == 0) arguments[4] = no_time;
}

/* Values from where the last child stopped. */
static void __attribute__((noreturn)) try_values(int number) {
  pthread_t thread;
  take_descriptors(9);
  (void)pthread_create(&thread, NULL, shake, NULL);
  uint32_t state = 77;
  for (int v = *done_values; v < VALUES; ++v) {
    *done_values = v + 1; /* before: what kills us is not tried again */
    for (int place = 0; place <= ARGUMENTS; ++place) {
      uint32_t arguments[ARGUMENTS];
      for (int k = 0; k < ARGUMENTS; ++k) {
        const uint32_t usual[] = {0, 1, 2, 8, PAGE, (uint32_t)shared};
        arguments[k] = place == ARGUMENTS || k == place ? value((unsigned)v) : usual[draw(&state) % 6];
      }
      settle_arguments(number, arguments);
      call(number, arguments);
      if (!changes_maps(number) && !is_intact(read_only)) _exit(CHANGED);
    }
  }
  _exit(0);
}

struct work {
  uint32_t state;
  int rounds;
  volatile int done;
};

static void *try_anything(void *argument) {
  struct work *const work = argument;
  for (int i = 0; i < work->rounds; ++i) {
    const int number = (int)(draw(&work->state) % NUMBERS);
    if (is_left_out(number)) continue;
    uint32_t arguments[ARGUMENTS];
    for (int k = 0; k < ARGUMENTS; ++k) {
      const uint32_t dice = draw(&work->state);
      arguments[k] = dice % 4 == 0 ? draw(&work->state) : dice % 4 == 1 ? dice >> 8 & 3 : value(dice >> 8);
    }
    settle_arguments(number, arguments);
    call(number, arguments);
  }
  work->done = 1;
  return NULL;
}

static void __attribute__((noreturn)) try_random(unsigned which, uint32_t seed, int rounds) {
  pthread_t thread;
  struct work mine = {seed | 1, rounds / 2, 0}, other = {(seed * 69069u) | 1, rounds / 2, 0};
  take_descriptors(which);
  const int two = pthread_create(&thread, NULL, try_anything, &other) == 0;
  (void)try_anything(&mine);
  while (two && !other.done) sched_yield(); /* pthread_join() believes what set_tid_address() was told */
  _exit(0);
}

static volatile pid_t running[CHILDREN];
static volatile int impatient;

static void on_alarm(int signal) {
  (void)signal;
  ++impatient;
  for (int i = 0; i < CHILDREN; ++i)
    if (running[i] > 0) kill(running[i], SIGKILL);
}

/* Waits for all children; how many ended otherwise than by themselves. Adds to `lost` whom wait knows nothing of. */
static int collect(int *lost, int *changed) {
  int ended = 0, status = 0;
  alarm(PATIENCE);
  for (int i = 0; i < CHILDREN; ++i) {
    if (running[i] == 0) continue;
    pid_t got;
    while ((got = waitpid(running[i], &status, 0)) == -1 && errno == EINTR) {}
    *lost += got != running[i];
    ended += status != 0;
    *changed += WIFEXITED(status) && WEXITSTATUS(status) == CHANGED;
    running[i] = 0;
  }
  alarm(0);
  return ended;
}

static volatile uint32_t *canaries(int protection, int flags) {
  uint32_t *const page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);
  for (unsigned i = 0; i < PAGE / 4; ++i) page[i] = CANARY;
  mprotect(page, PAGE, protection);
  return page;
}

static void test_values(void) {
  int lost = 0, ended = 0, changed = 0;
  for (int number = 0; number < NUMBERS; ++number) {
    if (number % 64 == 0) printf("# number %d\n", number);
    if (is_left_out(number)) continue;
    for (*done_values = 0; *done_values < VALUES && lost == 0;) {
      const pid_t child = fork();
      if (child == 0) try_values(number);
      running[0] = child;
      lost += child < 0;
      if (child > 0) ended += collect(&lost, &changed);
    }
  }
  printf("# %d programs ended by a call of theirs, %d of them too slow\n", ended, impatient);
  CHECK(lost == 0 && changed == 0);
}

static void test_random(int rounds, uint32_t seed) {
  enum { EACH = 200 };
  int lost = 0, ended = 0, changed = 0, programs = 0;
  for (int done = 0; done < rounds && lost == 0; done += CHILDREN * EACH) {
    if (done % (10 * CHILDREN * EACH) == 0) printf("# %d calls\n", done);
    for (unsigned i = 0; i < CHILDREN; ++i, ++programs) {
      (void)draw(&seed);
      const pid_t child = fork();
      if (child == 0) try_random(i, seed, EACH);
      running[i] = child > 0 ? child : 0;
      lost += child < 0;
    }
    const int before = impatient;
    ended += collect(&lost, &changed);
    if (impatient != before) printf("# too slow: seed %u\n", seed);
  }
  printf("# %d programs of %d ended by what they did, %d waits in all too long\n", ended, programs, impatient);
  CHECK(lost == 0);
}

int main(int argc, char **argv) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  const int rounds = argc > 1 ? atoi(argv[1]) : 2000;
  const uint32_t seed = argc > 2 ? (uint32_t)atol(argv[2]) : 88172645;
  char *const pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  munmap(pages + PAGE, PAGE);
  end_of_page = pages + PAGE;
  shaky = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  read_only = canaries(PROT_READ, MAP_PRIVATE);
  shared = canaries(PROT_READ | PROT_WRITE, MAP_PRIVATE);
  done_values = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  (void)mkdir("/tmp", 0777);
  signal(SIGALRM, on_alarm);
  test_values();
  CHECK(is_intact(read_only) && is_intact(shared));
  test_random(rounds, seed);
  CHECK(is_intact(read_only) && is_intact(shared));
  CHECK(getppid() >= 0);
  return tap_end();
}
