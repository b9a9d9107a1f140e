/* Memory that runs out: the process that wants too much ends, the others keep what they have. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tap.h"

enum { PAGE = 4096, OWN = 64 };

static uint32_t *pages_of(size_t bytes) {
  void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return at == MAP_FAILED ? NULL : at;
}

static void fill(uint32_t *pages, uint32_t seed) {
  for (uint32_t i = 0; i < OWN * PAGE / 4; ++i) pages[i] = i * 2654435761u + seed;
}

static int is_filled(const uint32_t *pages, uint32_t seed) {
  for (uint32_t i = 0; i < OWN * PAGE / 4; ++i)
    if (pages[i] != i * 2654435761u + seed) return 0;
  return 1;
}

/* Writes to more and more pages. */
static void eat(void) {
  for (;;) {
    volatile char *piece = (volatile char *)pages_of(16u << 20);
    if (piece == NULL) _exit(9);
    for (unsigned at = 0; at < 16u << 20; at += PAGE) piece[at] = 1;
  }
}

int main(int argc, char **argv) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  const int rounds = argc > 1 ? atoi(argv[1]) : 3;
  int gate[2], status = 0;
  uint32_t *const mine = pages_of(OWN * PAGE);
  fill(mine, 1);
  CHECK(pipe(gate) == 0);
  const pid_t neighbour = fork();
  if (neighbour == 0) {
    uint32_t *const own = pages_of(OWN * PAGE);
    char byte;
    fill(own, 2);
    close(gate[1]);
    _exit(read(gate[0], &byte, 1) == 0 && is_filled(own, 2) && is_filled(mine, 1) ? 4 : 5);
  }
  int killed = 0;
  for (int i = 0; i < rounds; ++i) {
    const pid_t hog = fork();
    if (hog == 0) eat();
    killed += waitpid(hog, &status, 0) == hog && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
  }
  CHECK(killed == rounds);
  CHECK(is_filled(mine, 1));
  close(gate[1]);
  CHECK(waitpid(neighbour, &status, 0) == neighbour && WIFEXITED(status) && WEXITSTATUS(status) == 4);
  uint32_t *const again = pages_of(OWN * PAGE);
  CHECK(again != NULL);
  fill(again, 3);
  CHECK(is_filled(again, 3));
  return tap_end();
}
