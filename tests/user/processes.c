/* fork, exec, wait, pipes, descriptors, signals, threads. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "tap.h"

static volatile sig_atomic_t handled, last_signal;
static void *volatile fault_address;
static sigjmp_buf back;

static void on_signal(int signal) {
  ++handled;
  last_signal = signal;
}

static void on_fault(int signal, siginfo_t *info, void *context) {
  (void)context;
  last_signal = signal;
  fault_address = info->si_addr;
  siglongjmp(back, 1);
}

static void test_fork(void) {
  int status = 0, value = 1;
  pid_t child = fork();
  if (child == 0) {
    value = 2;
    _exit(value + 40);
  }
  CHECK(child > 0);
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 42);
  CHECK(value == 1);
  CHECK(waitpid(-1, &status, 0) == -1 && errno == ECHILD);
}

static void test_exec(char *self) {
  int status = 0, ends[2];
  CHECK(pipe(ends) == 0);
  pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], 1);
    close(ends[0]);
    close(ends[1]);
    execl(self, self, "echo", "one", "two words", NULL);
    _exit(99);
  }
  close(ends[1]);
  char text[64] = "";
  size_t length = 0;
  for (ssize_t got; (got = read(ends[0], text + length, sizeof text - 1 - length)) > 0;) length += got;
  CHECK(strcmp(text, "one|two words|") == 0);
  CHECK(waitpid(child, &status, 0) == child && status == 0);
  close(ends[0]);
  CHECK(execl("/none", "none", NULL) == -1 && errno == ENOENT);
  CHECK(execl("/bad", "bad", NULL) == -1 && errno == ENOEXEC);
  child = vfork();
  if (child == 0) {
    execl(self, self, "exit", "7", NULL);
    _exit(99);
  }
  CHECK(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 7);
}

static void test_pipe(void) {
  static char block[100000], copy[100000];
  int ends[2], status = 0;
  for (unsigned i = 0; i < sizeof block; ++i) block[i] = (char)(i * 31 >> 3);
  CHECK(pipe(ends) == 0);
  pid_t child = fork();
  if (child == 0) {
    close(ends[0]);
    _exit(write(ends[1], block, sizeof block) == sizeof block ? 0 : 1);
  }
  close(ends[1]);
  size_t length = 0;
  for (ssize_t got; (got = read(ends[0], copy + length, sizeof copy - length)) > 0;) length += got;
  CHECK(length == sizeof block && memcmp(block, copy, sizeof block) == 0);
  CHECK(waitpid(child, &status, 0) == child && status == 0);
  close(ends[0]);
  CHECK(pipe2(ends, O_NONBLOCK) == 0);
  CHECK(read(ends[0], copy, 1) == -1 && errno == EAGAIN);
  CHECK(write(ends[0], copy, 1) == -1 && errno == EBADF);
  close(ends[0]);
  signal(SIGPIPE, on_signal);
  handled = 0;
  CHECK(write(ends[1], copy, 1) == -1 && errno == EPIPE);
  CHECK(handled == 1 && last_signal == SIGPIPE);
  close(ends[1]);
}

static void test_signals(void) {
  int status = 0;
  handled = 0;
  signal(SIGUSR1, on_signal);
  CHECK(raise(SIGUSR1) == 0 && handled == 1 && last_signal == SIGUSR1);
  sigset_t set, pending;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
  CHECK(kill(getpid(), SIGUSR1) == 0 && handled == 1);
  CHECK(sigpending(&pending) == 0 && sigismember(&pending, SIGUSR1) == 1);
  CHECK(sigprocmask(SIG_UNBLOCK, &set, NULL) == 0 && handled == 2);
  signal(SIGALRM, on_signal);
  alarm(1);
  CHECK(pause() == -1 && errno == EINTR && last_signal == SIGALRM);
  pid_t child = fork();
  if (child == 0) {
    for (;;) pause();
  }
  CHECK(kill(child, SIGTERM) == 0);
  CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
  child = fork();
  if (child == 0) {
    for (;;) {}
  }
  CHECK(kill(child, SIGKILL) == 0);
  CHECK(waitpid(child, &status, 0) == child && WTERMSIG(status) == SIGKILL);
  CHECK(kill(child, 0) == -1 && errno == ESRCH);
}

static void test_faults(void) {
  int status = 0;
  struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
  sigaction(SIGSEGV, &action, NULL);
  sigaction(SIGFPE, &action, NULL);
  sigaction(SIGILL, &action, NULL);
  char *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (sigsetjmp(back, 1) == 0) *(volatile char *)(page + 5) = 1;
  CHECK(last_signal == SIGSEGV && fault_address == page + 5);
  if (sigsetjmp(back, 1) == 0) *(volatile char *)8 = 1;
  CHECK(fault_address == (void *)8);
  if (sigsetjmp(back, 1) == 0) *(volatile char *)0xf0000000 = 1;
  CHECK(fault_address == (void *)0xf0000000);
  last_signal = 0;
  if (sigsetjmp(back, 1) == 0) __asm__ volatile("cli");
  CHECK(last_signal == SIGSEGV);
  if (sigsetjmp(back, 1) == 0) __asm__ volatile("ud2");
  CHECK(last_signal == SIGILL);
  if (sigsetjmp(back, 1) == 0) __asm__ volatile("divl %0" ::"r"(0), "a"(1), "d"(0));
  CHECK(last_signal == SIGFPE);
  last_signal = 0;
  if (sigsetjmp(back, 1) == 0) __asm__ volatile("int $0x20");
  CHECK(last_signal == SIGSEGV);
  pid_t child = fork();
  if (child == 0) {
    signal(SIGSEGV, SIG_DFL);
    *(volatile char *)0 = 1;
  }
  CHECK(waitpid(child, &status, 0) == child && WTERMSIG(status) == SIGSEGV);
}

/* What a handler writes into the saved flags must not become a right. */
static void on_flags(int signal, siginfo_t *info, void *context) {
  (void)signal, (void)info;
  ((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL] |= 3 << 12 | 1 << 17; /* I/O privilege, virtual 8086 mode */
}

static void test_return_from_signal(void) {
  struct sigaction action = {.sa_sigaction = on_flags, .sa_flags = SA_SIGINFO};
  unsigned flags = ~0u;
  sigaction(SIGUSR2, &action, NULL);
  CHECK(raise(SIGUSR2) == 0);
  __asm__ volatile("pushfl\n popl %0" : "=r"(flags));
  CHECK((flags & (3u << 12 | 1u << 17)) == 0 && (flags & 1u << 9) != 0);
}

/* Selectors that are nobody's, and floating point that must survive both signals and switches. */
static void test_registers(void) {
  int status = 0;
  unsigned selector = 0x7b;
  __asm__ volatile("movw %%ds, %w0" : "=r"(selector));
  CHECK((selector & 3) == 3);
  pid_t child = fork();
  volatile double sum = 0;
  for (int i = 1; i <= 300000; ++i) sum += (child == 0 ? 1.0 : 2.0) / i;
  volatile double wanted = 0;
  for (int i = 1; i <= 300000; ++i) wanted += (child == 0 ? 1.0 : 2.0) / i;
  if (child == 0) _exit(sum == wanted ? 0 : 1);
  CHECK(sum == wanted);
  CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int counter;
static __thread int own = 5;

static void *count(void *argument) {
  own += *(int *)argument;
  for (int i = 0; i < 2000; ++i) {
    pthread_mutex_lock(&mutex);
    ++counter;
    pthread_mutex_unlock(&mutex);
  }
  return (void *)(long)own;
}

static void test_threads(void) {
  pthread_t threads[4];
  int arguments[4], made = 0, sum = 0;
  for (int i = 0; i < 4; ++i) {
    arguments[i] = i;
    made += pthread_create(&threads[i], NULL, count, &arguments[i]) == 0;
  }
  CHECK(made == 4);
  for (int i = 0; i < made; ++i) {
    void *result = NULL;
    pthread_join(threads[i], &result);
    sum += (int)(long)result;
  }
  CHECK(sum == 4 * 5 + 0 + 1 + 2 + 3);
  CHECK(counter == 8000 && own == 5);
}

static void test_time(void) {
  struct timespec before, after, nap = {0, 30000000};
  CHECK(clock_gettime(CLOCK_MONOTONIC, &before) == 0);
  CHECK(nanosleep(&nap, NULL) == 0);
  CHECK(clock_gettime(CLOCK_MONOTONIC, &after) == 0);
  long long passed = (after.tv_sec - before.tv_sec) * 1000000000LL + after.tv_nsec - before.tv_nsec;
  CHECK(passed >= 30000000);
  CHECK(time(NULL) > 1700000000);
}

int main(int argc, char **argv) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  if (argc > 2 && strcmp(argv[1], "exit") == 0) return atoi(argv[2]);
  if (argc > 1 && strcmp(argv[1], "echo") == 0) {
    for (int i = 2; i < argc; ++i) printf("%s|", argv[i]);
    return 0;
  }
  test_fork();
  test_exec(argv[0]);
  test_pipe();
  test_signals();
  test_faults();
  test_return_from_signal();
  test_registers();
  test_threads();
  test_time();
  return tap_end();
}
