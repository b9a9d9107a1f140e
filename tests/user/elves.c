/* Programs that are none: `elves N SEED FILE` changes fields of FILE's headers, N times, and executes what comes out.
 * It is refused, or runs and ends somehow; the caller lives, and the file itself still works. */
#define _GNU_SOURCE
#include <elf.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tap.h"

enum { MOST = 4 << 20 };
static unsigned char original[MOST], changed[MOST];
static size_t length;

static uint32_t state;
static uint32_t draw(void) {
  state ^= state << 13;
  state ^= state >> 17;
  state ^= state << 5;
  return state;
}

static uint32_t value(uint32_t old) {
  const uint32_t edges[] = {0, 1, 0xfff, 0x1000, 0x7fffffff, 0x80000000, 0xbffff000, 0xc0000000, 0xfffff000, 0xffffffff,
                            (uint32_t)length, (uint32_t)length + 1};
  switch (draw() % 4) {
    case 0: return edges[draw() % (sizeof edges / sizeof *edges)];
    case 1: return old + (draw() % 3 - 1) * 0x1000;
    case 2: return old ^ 1u << draw() % 32;
    default: return draw();
  }
}

static void change_header(Elf32_Ehdr *header) {
  switch (draw() % 10) {
    case 0: header->e_type = (uint16_t)value(header->e_type); break;
    case 1: header->e_machine = (uint16_t)value(header->e_machine); break;
    case 2: header->e_version = value(header->e_version); break;
    case 3: header->e_phoff = value(header->e_phoff); break;
    case 4: header->e_phentsize = (uint16_t)value(header->e_phentsize); break;
    case 5: header->e_phnum = (uint16_t)value(header->e_phnum); break;
    case 6: header->e_ident[draw() % EI_NIDENT] = (unsigned char)draw(); break;
    default: header->e_entry = value(header->e_entry); break;
  }
}

static void change_segment(Elf32_Phdr *segment) {
  switch (draw() % 7) {
    case 0: segment->p_type = draw() % 2 == 0 ? draw() % 8 : value(segment->p_type); break;
    case 1: segment->p_offset = value(segment->p_offset); break;
    case 2: segment->p_vaddr = value(segment->p_vaddr); break;
    case 3: segment->p_filesz = value(segment->p_filesz); break;
    case 4: segment->p_memsz = value(segment->p_memsz); break;
    case 5: segment->p_flags = value(segment->p_flags); break;
    default: segment->p_align = value(segment->p_align); break;
  }
}

/* One to three fields; sometimes the file is also cut. Its new length. */
static size_t change(void) {
  memcpy(changed, original, length);
  Elf32_Ehdr *const header = (Elf32_Ehdr *)changed;
  Elf32_Phdr *const segments = (Elf32_Phdr *)(changed + header->e_phoff);
  const unsigned count = header->e_phnum;
  for (unsigned times = 1 + draw() % 3; times > 0; --times) {
    if (draw() % 3 == 0)
      change_header(header);
    else
      change_segment(&segments[draw() % count]);
  }
  return draw() % 8 == 0 ? draw() % length : length;
}

static int write_file(const char *path, const unsigned char *bytes, size_t count) {
  const int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0755);
  if (file < 0) return 0;
  const int good = write(file, bytes, count) == (ssize_t)count;
  close(file);
  return good;
}

/* 0: refused; otherwise what became of it, as wait reports, plus one. -1: not even that. */
static int run(const char *path) {
  int status = 0;
  const pid_t child = fork();
  if (child == 0) {
    alarm(1);
    close(1);
    close(2);
    execl(path, path, NULL);
    _exit(errno == 0 ? 98 : 97);
  }
  if (child < 0 || waitpid(child, &status, 0) != child) return -1;
  return WIFEXITED(status) && WEXITSTATUS(status) == 97 ? 0 : status + 1;
}

int main(int argc, char **argv) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  const int rounds = argc > 1 ? atoi(argv[1]) : 500;
  state = argc > 2 ? (uint32_t)atol(argv[2]) : 2463534242u;
  const char *const source = argc > 3 ? argv[3] : "/bin/hello";
  const int file = open(source, O_RDONLY);
  for (ssize_t got; file >= 0 && (got = read(file, original + length, MOST - length)) > 0;) length += (size_t)got;
  close(file);
  CHECK(length > sizeof(Elf32_Ehdr));
  int refused = 0, ran = 0, lost = 0, unwritten = 0;
  for (int i = 0; i < rounds; ++i) {
    const size_t bytes = change();
    unwritten += !write_file("/tmp/changed", changed, bytes);
    const int result = run("/tmp/changed");
    refused += result == 0;
    ran += result > 0;
    lost += result < 0;
    if (i % 50 == 49) printf("# %d\n", i + 1);
  }
  printf("# %d refused, %d ran\n", refused, ran);
  CHECK(unwritten == 0 && lost == 0);
  CHECK(refused > rounds / 8 && ran > rounds / 8);
  CHECK(write_file("/tmp/changed", original, length) && run("/tmp/changed") == 1);
  CHECK(unlink("/tmp/changed") == 0);
  return tap_end();
}
