/* Programs that ask for more memory than there is. What must survive them is looked at from outside. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/swap.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB (1024u * 1024)
#define PAGE 4096u

static char *map_mib(unsigned mib) {
  char *at = mmap(NULL, (size_t)mib * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) {
    perror("mmap");
    exit(2);
  }
  return at;
}

/* Every word of a page differs from every word of any other. */
static void fill(char *at, unsigned page, unsigned seed) {
  uint32_t *words = (uint32_t *)(at + (size_t)page * PAGE);
  for (unsigned i = 0; i < PAGE / 4; ++i) words[i] = (page * 1024 + i) * 2654435761u ^ seed;
}

static int is_filled(const char *at, unsigned page, unsigned seed) {
  const uint32_t *words = (const uint32_t *)(at + (size_t)page * PAGE);
  for (unsigned i = 0; i < PAGE / 4; ++i)
    if (words[i] != ((page * 1024 + i) * 2654435761u ^ seed)) return 0;
  return 1;
}

/* touch MIB: until somebody ends it, or all of it is there. */
static int touch(unsigned mib) {
  char *at = map_mib(mib);
  for (unsigned page = 0; page < mib * (MIB / PAGE); ++page) at[(size_t)page * PAGE] = 1;
  printf("touched %u MiB\n", mib);
  return 0;
}

/* victim SMALL BIG: a child with BIG MiB asks for ever more; the parent has SMALL, and they must stay as they are. */
static int victim(unsigned small, unsigned big) {
  char *mine = map_mib(small);
  for (unsigned page = 0; page < small * (MIB / PAGE); ++page) fill(mine, page, 1);
  pid_t child = fork();
  if (child == 0) exit(touch(big));
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child) return 3;
  for (unsigned page = 0; page < small * (MIB / PAGE); ++page)
    if (!is_filled(mine, page, 1)) return 4;
  if (WIFSIGNALED(status)) printf("child ended by signal %d, parent has its %u MiB\n", WTERMSIG(status), small);
  return WIFSIGNALED(status) ? 0 : 5;
}

/* crowd MIB ROUNDS: three children hold MIB each, more in all than one program can have; then ROUNDS others, one after
 * the other, ask for all that one can have. Each of those must end, and nobody else; what the three hold stays as it
 * is. */
static int hold(unsigned mib, unsigned seed, int ready, int end) {
  const unsigned pages = mib * (MIB / PAGE);
  char *at = map_mib(mib), byte = 1;
  for (unsigned page = 0; page < pages; ++page) *(uint32_t *)(at + (size_t)page * PAGE) = page ^ seed;
  if (write(ready, &byte, 1) != 1 || read(end, &byte, 1) != 0) return 3;
  for (unsigned page = 0; page < pages; ++page)
    if (*(uint32_t *)(at + (size_t)page * PAGE) != (page ^ seed)) return 4;
  return 0;
}

static int crowd(unsigned mib, unsigned rounds) {
  enum { HOLDERS = 3, LARGEST_MIB = 2900 };
  int ready[2], end[2], status = 0;
  char byte;
  if (pipe(ready) != 0 || pipe(end) != 0) return 2;
  for (unsigned i = 0; i < HOLDERS; ++i) {
    if (fork() != 0) continue;
    close(end[1]);
    _exit(hold(mib, i, ready[1], end[0]));
  }
  for (unsigned i = 0; i < HOLDERS; ++i)
    if (read(ready[0], &byte, 1) != 1) return 3;
  for (unsigned round = 0; round < rounds; ++round) {
    const pid_t child = fork();
    if (child == 0) _exit(touch(LARGEST_MIB));
    if (child < 0 || waitpid(-1, &status, 0) != child || !WIFSIGNALED(status)) return 4;
    printf("round %u: %d ended by signal %d\n", round, child, WTERMSIG(status));
  }
  close(end[1]);
  for (unsigned i = 0; i < HOLDERS; ++i)
    if (wait(&status) < 0 || status != 0) return 5;
  printf("%u rounds, %u MiB are as they were written\n", rounds, HOLDERS * mib);
  return 0;
}

/* forks: as many children as there can be, which sleep until their pipe closes. Prints how many. */
static int forks(unsigned most) {
  int ends[2];
  unsigned count = 0;
  if (pipe(ends) != 0) return 2;
  while (count < most) {
    pid_t child = fork();
    if (child < 0) break;
    if (child == 0) {
      char byte;
      close(ends[1]);
      (void)!read(ends[0], &byte, 1);
      _exit(0);
    }
    ++count;
  }
  const int error = errno;
  close(ends[1]);
  unsigned ended = 0;
  while (wait(NULL) > 0) ++ended;
  printf("%u children, then %s; %u waited for\n", count, count == most ? "enough" : strerror(error), ended);
  return count == ended ? 0 : 3;
}

/* swap MIB ROUNDS: fills, reads all back in another order, changes every third page, forks, and both read all again. */
static int check_all(const char *at, unsigned pages, unsigned round) {
  unsigned wrong = 0;
  for (unsigned i = 0; i < pages; ++i) {
    const unsigned page = (unsigned)((uint64_t)i * 7919 % pages);
    const unsigned seed = page % 3 == 0 ? round : 0;
    if (!is_filled(at, page, seed) && wrong++ < 3) printf("page %u is wrong in round %u\n", page, round);
  }
  return wrong == 0;
}

static int swap(unsigned mib, unsigned rounds) {
  const unsigned pages = mib * (MIB / PAGE) - 1; /* not a multiple of the stride */
  char *at = map_mib(mib);
  for (unsigned page = 0; page < pages; ++page) fill(at, page, 0);
  for (unsigned round = 1; round <= rounds; ++round) {
    for (unsigned page = 0; page < pages; page += 3) fill(at, page, round);
    if (!check_all(at, pages, round)) return 4;
    printf("round %u\n", round);
  }
  pid_t child = fork();
  if (child < 0) return 5;
  if (child == 0) {
    for (unsigned page = 0; page < pages; page += 3) fill(at, page, rounds + 7);
    _exit(check_all(at, pages, rounds + 7) ? 0 : 6);
  }
  int status = 0;
  if (!check_all(at, pages, rounds)) return 7;
  if (waitpid(child, &status, 0) != child || status != 0) {
    printf("child: status %x\n", status);
    return 8;
  }
  if (!check_all(at, pages, rounds)) return 9;
  printf("%u MiB are as they were written, %u rounds and a fork\n", mib, rounds);
  return 0;
}

/* swapoff MIB BIG: MIB that a child of BIG pushes out come back when the swap is turned off, and are what they were. */
static int turn_off(unsigned mib, unsigned big) {
  const unsigned pages = mib * (MIB / PAGE);
  char *at = map_mib(mib);
  for (unsigned page = 0; page < pages; ++page) fill(at, page, 5);
  pid_t child = fork();
  if (child == 0) exit(touch(big));
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child || status != 0) return 3;
  if (swapoff("/dev/none") != -1 || errno != ENOENT) return 4;
  if (swapoff("/dev/vdb") != 0) {
    perror("swapoff");
    return 5;
  }
  for (unsigned page = 0; page < pages; ++page)
    if (!is_filled(at, page, 5)) return 6;
  if (swapon("/dev/vda", 0) != -1 || errno != EBUSY) return 7; /* the mounted file system owns it */
  if (swapon("/dev/vdb", 0) != 0 || swapon("/dev/vdb", 0) != -1 || errno != EBUSY) return 8;
  printf("%u MiB came back\n", mib);
  return 0;
}

int main(int argc, char **argv) {
  const unsigned a = argc > 2 ? (unsigned)atoi(argv[2]) : 0, b = argc > 3 ? (unsigned)atoi(argv[3]) : 0;
  setvbuf(stdout, NULL, _IOLBF, 0);
  if (argc > 2 && strcmp(argv[1], "touch") == 0) return touch(a);
  if (argc > 3 && strcmp(argv[1], "victim") == 0) return victim(a, b);
  if (argc > 3 && strcmp(argv[1], "crowd") == 0) return crowd(a, b);
  if (argc > 2 && strcmp(argv[1], "forks") == 0) return forks(a);
  if (argc > 3 && strcmp(argv[1], "swap") == 0) return swap(a, b);
  if (argc > 3 && strcmp(argv[1], "swapoff") == 0) return turn_off(a, b);
  fprintf(stderr, "usage: exhaust touch MIB | victim MIB MIB | crowd MIB ROUNDS | forks MOST | swap MIB ROUNDS |\n"
                  "               swapoff MIB MIB\n");
  return 1;
}
