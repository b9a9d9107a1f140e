// The user side of the comparison: one static i386 program, the same file on Linux (as its first process) and on Paean.
//
//     init boot       reads the clock and how much memory there is
//     init counts     loads the module, then user (Linux; `init linux MODE` there)
//     init smp        loads the module with smp=1 (Linux)
//     init user       what system calls, faults, fork, exec, files and pipes cost
//     init crowd      lowmem that a GiB of page cache, an open file and a process take; idle processes until one dies
//
// Under -icount the time stamp counter counts guest instructions.
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <unistd.h>

enum { kPage = 4096, kFaults = 16384, kForkPages = 4096, kForks = 10, kChunk = 65536, kChunks = 256, kTrips = 2000 };
enum { kFiles = 200, kOpeners = 10, kSettled = 1000, kMostProcesses = 32000 };

static const char *self;
static int is_linux;

static uint64_t now(void) {
  uint32_t low, high;
  asm volatile("lfence; rdtsc" : "=a"(low), "=d"(high) : : "memory");
  return (uint64_t)high << 32 | low;
}

static void report(const char *name, uint64_t begin, int operations) {
  printf("BENCH %s %.2f insn/op\n", name, (double)(now() - begin) / operations);
  fflush(stdout);
}

static void must(int is_true, const char *what) {
  if (is_true) return;
  perror(what);
  fflush(stdout);
  if (is_linux) reboot(RB_POWER_OFF);
  _exit(1);
}

static char *map(int pages) {
  char *memory = mmap(NULL, (size_t)pages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  must(memory != MAP_FAILED, "mmap");
  return memory;
}

static void touch(char *memory, int pages) {
  for (int i = 0; i < pages; ++i) *(volatile char *)(memory + i * kPage) = 1;
}

static void wait_for(pid_t child) {
  int status;
  must(child > 0 && waitpid(child, &status, 0) == child && status == 0, "child");
}

static void count_memory(void) {
  uint64_t begin = now();
  for (int i = 0; i < 20000; ++i) syscall(SYS_getppid);
  report("syscall", begin, 20000);
  for (int round = 0; round < 2; ++round) {  // the first one fills the allocator's per-CPU stacks
    char *memory = map(kFaults);
    madvise(memory, (size_t)kFaults * kPage, MADV_NOHUGEPAGE);  // where there is no such thing this fails, rightly
    begin = now();
    touch(memory, kFaults);
    if (round == 1) report("anon_fault", begin, kFaults);
    begin = now();
    must(munmap(memory, (size_t)kFaults * kPage) == 0, "munmap");
    if (round == 1) report("munmap_page", begin, kFaults);
  }
}

static void count_processes(void) {
  char *memory = map(kForkPages);
  madvise(memory, (size_t)kForkPages * kPage, MADV_NOHUGEPAGE);
  touch(memory, kForkPages);
  uint64_t begin = now();
  for (int i = 0; i < kForks; ++i) {
    pid_t child = fork();
    if (child == 0) _exit(0);
    wait_for(child);
  }
  report("fork_exit_wait_16M", begin, kForks);
  begin = now();
  for (int i = 0; i < kForks; ++i) {
    pid_t child = fork();
    if (child == 0) {
      touch(memory, kForkPages);
      _exit(0);
    }
    wait_for(child);
  }
  report("fork_cow_page", begin, kForks * kForkPages);
  begin = now();
  for (int i = 0; i < kForks; ++i) {
    pid_t child = vfork();
    if (child == 0) {
      execl(self, self, "nothing", NULL);
      _exit(1);
    }
    wait_for(child);
  }
  report("exec", begin, kForks);
}

static void count_files(void) {
  static char chunk[kChunk];
  memset(chunk, 7, sizeof chunk);
  int file = open("/tmp/peer", O_RDWR | O_CREAT | O_TRUNC, 0600);
  must(file >= 0, "/tmp/peer");
  int pages = kChunks * (kChunk / kPage);
  uint64_t begin = now();
  for (int i = 0; i < kChunks; ++i) must(write(file, chunk, kChunk) == kChunk, "write");
  report("file_write_page", begin, pages);
  must(lseek(file, 0, SEEK_SET) == 0, "lseek");
  begin = now();
  for (int i = 0; i < kChunks; ++i) must(read(file, chunk, kChunk) == kChunk, "read");
  report("file_read_page", begin, pages);
  char *mapped = mmap(NULL, (size_t)pages * kPage, PROT_READ, MAP_SHARED, file, 0);
  must(mapped != MAP_FAILED, "mmap of a file");
  begin = now();
  for (int i = 0; i < pages; ++i) (void)*(volatile char *)(mapped + i * kPage);
  report("file_map_touch_page", begin, pages);
  munmap(mapped, (size_t)pages * kPage);
  close(file);
  unlink("/tmp/peer");
}

static void count_pipe(void) {
  int there[2], back[2];
  char byte = 0;
  must(pipe(there) == 0 && pipe(back) == 0, "pipe");
  pid_t child = fork();
  // Each keeps its own ends alone: whoever is left over then ends too, and does not wait for a dead one for ever.
  close(child == 0 ? there[1] : there[0]);
  close(child == 0 ? back[0] : back[1]);
  if (child == 0) {
    for (int i = 0; i < kTrips; ++i)
      if (read(there[0], &byte, 1) != 1 || write(back[1], &byte, 1) != 1) _exit(1);
    _exit(0);
  }
  uint64_t begin = now();
  for (int i = 0; i < kTrips; ++i) must(write(there[1], &byte, 1) == 1 && read(back[0], &byte, 1) == 1, "pipe");
  report("pipe_roundtrip", begin, kTrips);
  wait_for(child);
}

static void count_user(void) {
  count_memory();
  count_processes();
  count_files();
  count_pipe();
}

enum memory { kLowTotal, kLowFree, kTotal };

// In kB. sysinfo has what /proc/meminfo prints, and needs no /proc.
static long memory_kb(enum memory which) {
  struct sysinfo info;
  must(sysinfo(&info) == 0, "sysinfo");
  unsigned long units = which == kTotal      ? info.totalram
                        : which == kLowTotal ? info.totalram - info.totalhigh
                                             : info.freeram - info.freehigh;
  return (long)((unsigned long long)units * info.mem_unit / 1024);
}

static void report_memory(void) {
  printf("BENCH MemTotal %ld kB\n", memory_kb(kTotal));
  printf("BENCH LowTotal %ld kB\n", memory_kb(kLowTotal));
  printf("BENCH LowFree %ld kB\n", memory_kb(kLowFree));
}

static void fill_page_cache(void) {
  static char chunk[kChunk];
  int file = open("/tmp/large", O_RDWR | O_CREAT | O_TRUNC, 0600);
  must(file >= 0, "/tmp/large");
  long before = memory_kb(kLowFree);
  for (int i = 0; i < (1 << 30) / kChunk; ++i) must(write(file, chunk, kChunk) == kChunk, "write");
  printf("BENCH lowmem_per_cache_gib %ld kB\n", before - memory_kb(kLowFree));
  close(file);
  unlink("/tmp/large");
}

struct opener_pipes {
  int orders[2], answers[2], end[2];  // a byte for each of them; a byte from each; closed at the end
};

// Says that it is there, opens its files when it is told to, and keeps them to the end.
static void open_when_told(const struct opener_pipes *pipes) {
  char byte = 0;
  close(pipes->end[1]);
  int is_well = write(pipes->answers[1], &byte, 1) == 1 && read(pipes->orders[0], &byte, 1) == 1;
  for (int i = 0; i < kFiles && is_well; ++i) is_well = open("/init", O_RDONLY) >= 0;
  is_well = is_well && write(pipes->answers[1], &byte, 1) == 1 && read(pipes->end[0], &byte, 1) == 0;
  _exit(is_well ? 0 : 1);
}

// In several processes, because not every kernel lets one have so many.
static void open_files(void) {
  struct opener_pipes pipes;
  char bytes[kOpeners] = {0};
  pid_t openers[kOpeners];
  must(pipe(pipes.orders) == 0 && pipe(pipes.answers) == 0 && pipe(pipes.end) == 0, "pipe");
  for (int i = 0; i < kOpeners; ++i)
    if ((openers[i] = fork()) == 0) open_when_told(&pipes);
  for (int i = 0; i < kOpeners; ++i) must(read(pipes.answers[0], bytes, 1) == 1, "an opener");
  long before = memory_kb(kLowFree);
  must(write(pipes.orders[1], bytes, kOpeners) == kOpeners, "orders");
  for (int i = 0; i < kOpeners; ++i) must(read(pipes.answers[0], bytes, 1) == 1, "an opener's files");
  printf("BENCH lowmem_per_open_file %.2f kB\n", (double)(before - memory_kb(kLowFree)) / (kOpeners * kFiles));
  for (int i = 0; i < 2; ++i) close(pipes.orders[i]), close(pipes.answers[i]), close(pipes.end[i]);
  for (int i = 0; i < kOpeners; ++i) wait_for(openers[i]);
}

static void write_setting(const char *path, const char *value) {
  if (!is_linux) return;  // these are Linux's limits, and its choice of whom to kill
  int file = open(path, O_WRONLY);
  must(file >= 0 && write(file, value, strlen(value)) > 0, path);
  close(file);
}

// A byte for each process, because the maker may be killed before it could say how many there are.
static void make_processes(const int *news) {
  char byte = 0;
  for (int i = 0; i < kMostProcesses; ++i) {
    pid_t child = fork();
    if (child == 0) {
      close(news[0]), close(news[1]);
      for (;;) pause();
    }
    if (child < 0 || write(news[1], &byte, 1) != 1) break;
  }
  _exit(0);
}

// Idle processes, until one cannot be made. Linux would rather kill others, one by one for minutes, while the maker waits
// for memory: told to kill who asks for it, it ends the making at once.
static void gather_crowd(void) {
  int news[2], alive = 0;
  char byte;
  write_setting("/proc/sys/kernel/threads-max", "200000");
  write_setting("/proc/sys/kernel/pid_max", "32768");
  write_setting("/proc/sys/vm/oom_kill_allocating_task", "1");
  must(pipe(news) == 0, "pipe");
  long before = memory_kb(kLowFree);
  pid_t maker = fork();
  must(maker >= 0, "fork");
  if (maker == 0) make_processes(news);
  close(news[1]);
  while (read(news[0], &byte, 1) == 1) {
    if (++alive != kSettled) continue;
    printf("BENCH lowmem_per_process %.2f kB\n", (double)(before - memory_kb(kLowFree)) / kSettled);
    fflush(stdout);
  }
  printf("BENCH idle_processes %d processes\n", alive);
}

static void load_module(const char *parameters) {
  int file = open("/peerbench.ko", O_RDONLY);
  must(file >= 0, "/peerbench.ko");
  klogctl(8, NULL, 7);  // `quiet` holds back what the module prints
  // It measures and does not want to stay.
  if (syscall(SYS_finit_module, file, parameters, 0) == 0) must(0, "the module stayed");
  close(file);
}

static void start_linux(uint64_t start) {
  must(mount("proc", "/proc", "proc", 0, NULL) == 0, "mount /proc");
  must(mount("tmpfs", "/tmp", "tmpfs", 0, "size=90%") == 0, "mount /tmp");
  printf("BENCH boot %llu insn/op\n", (unsigned long long)start);
}

static void run(const char *mode) {
  if (strcmp(mode, "counts") == 0) load_module("");
  if (strcmp(mode, "smp") == 0) load_module("smp=1");
  if (strcmp(mode, "counts") == 0 || strcmp(mode, "user") == 0) count_user();
  if (strcmp(mode, "crowd") == 0) {
    fill_page_cache();
    open_files();
    gather_crowd();
  }
}

int main(int count, char **arguments) {
  uint64_t start = now();
  self = arguments[0];
  // Linux puts words of its own command line that it does not know before these.
  is_linux = count > 2 && strcmp(arguments[count - 2], "linux") == 0;
  const char *mode = count > 1 ? arguments[count - 1] : "user";
  if (strcmp(mode, "nothing") == 0) return 0;
  setvbuf(stdout, NULL, _IOLBF, 0);
  mkdir("/tmp", 0777);
  if (is_linux) {
    mkdir("/proc", 0755);
    start_linux(start);
  }
  report_memory();
  run(mode);
  puts("PEER complete");
  fflush(stdout);
  if (is_linux) reboot(RB_POWER_OFF);
  return 0;
}
