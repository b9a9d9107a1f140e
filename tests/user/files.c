/* Files by system calls: what the console's commands do, from ring 3. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tap.h"

static void test_contents(void) {
  static char block[20000], copy[20000];
  for (unsigned i = 0; i < sizeof block; ++i) block[i] = (char)(i * 7 >> 2);
  int file = open("/tmp/file", O_RDWR | O_CREAT | O_TRUNC, 0640);
  CHECK(file >= 0);
  CHECK(write(file, block, sizeof block) == sizeof block);
  CHECK(lseek(file, 0, SEEK_SET) == 0);
  CHECK(read(file, copy, sizeof copy) == sizeof copy && memcmp(block, copy, sizeof copy) == 0);
  CHECK(read(file, copy, 1) == 0);
  CHECK(pread(file, copy, 100, 5000) == 100 && memcmp(copy, block + 5000, 100) == 0);
  struct iovec parts[2] = {{copy, 10}, {copy + 100, 20}};
  CHECK(lseek(file, 100, SEEK_SET) == 100 && readv(file, parts, 2) == 30);
  CHECK(memcmp(copy, block + 100, 10) == 0 && memcmp(copy + 100, block + 110, 20) == 0);
  struct stat status;
  CHECK(fstat(file, &status) == 0 && status.st_size == sizeof block && S_ISREG(status.st_mode));
  CHECK((status.st_mode & 0777) == 0640);
  CHECK(ftruncate(file, 5000) == 0 && stat("/tmp/file", &status) == 0 && status.st_size == 5000);
  char *map = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  CHECK(map != MAP_FAILED && memcmp(map, block, 5000) == 0);
  if (map != MAP_FAILED) {
    map[10] = 'x';
    CHECK(pread(file, copy, 1, 10) == 1 && copy[0] == 'x');
    CHECK(munmap(map, 8192) == 0);
  }
  CHECK(close(file) == 0 && close(file) == -1 && errno == EBADF);
}

/* Calls whose memory ends in the middle, begins anywhere, or is a map of the file itself. */
static void test_memory_of_calls(void) {
  enum { kPage = 4096, kPages = 20 };
  void *volatile nowhere = NULL;
  int file = open("/tmp/file", O_RDWR | O_CREAT | O_TRUNC, 0600);
  char *memory = mmap(NULL, (kPages + 1) * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(file >= 0 && memory != MAP_FAILED && munmap(memory + kPages * kPage, kPage) == 0);
  CHECK(pwrite(file, memory, kPages * kPage, 0) == kPages * kPage); /* not touched before */
  char *end = memory + kPages * kPage;
  int same = 0;
  for (int at = 0; at < 100; ++at) {
    size_t bytes = 3000 + (unsigned)at * 611;
    char *from = memory + at * 37;
    for (size_t i = 0; i < bytes; ++i) from[i] = (char)(i * 31 + (unsigned)at);
    same += pwrite(file, from, bytes, at * 53) == (ssize_t)bytes;
    memset(memory, 1, kPages * kPage);
    same += pread(file, from, bytes, at * 53) == (ssize_t)bytes;
    for (size_t i = 0; i < bytes; ++i) same -= from[i] != (char)(i * 31 + (unsigned)at);
  }
  CHECK(same == 200);
  CHECK(pwrite(file, end - 6000, 9000, 70) == 6000);
  CHECK(pwrite(file, end, 10, 70) == -1 && errno == EFAULT);
  CHECK(lseek(file, 10, SEEK_SET) == 10 && read(file, nowhere, 10) == -1 && errno == EFAULT);
  CHECK(write(file, nowhere, 10) == -1 && errno == EFAULT && lseek(file, 0, SEEK_CUR) == 10);
  CHECK(pread(file, end - 5000, 9000, 0) == 5000);
  CHECK(pread(file, end, 10, 0) == -1 && errno == EFAULT);
  CHECK(pread(file, (void *)0xfffff000, 10, 0) == -1 && errno == EFAULT);
  CHECK(mprotect(memory, kPage, PROT_READ) == 0);
  CHECK(pread(file, memory, 10, 0) == -1 && errno == EFAULT && pwrite(file, memory, 10, 0) == 10);
  char *map = mmap(NULL, kPages * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  for (int i = 0; i < 2 * kPage; ++i) map[i] = (char)(i * 13);
  CHECK(pwrite(file, map, 5000, kPage) == 5000 && memcmp(map + kPage, map, kPage) == 0);
  CHECK(pread(file, map + 3 * kPage + 5, 4000, 0) == 4000 && memcmp(map, map + 3 * kPage + 5, 4000) == 0);
  CHECK(munmap(map, kPages * kPage) == 0 && munmap(memory, kPages * kPage) == 0);
  CHECK(close(file) == 0 && unlink("/tmp/file") == 0);
}

/* A map whose pages come several at once: what each shows, that a write stays private, where the file ends. */
static void test_pages_around(void) {
  enum { kPage = 4096, kPages = 40 };
  static char all[kPages * kPage], page[kPage];
  int file = open("/tmp/file", O_RDWR | O_CREAT | O_TRUNC, 0600), good = kPages;
  for (int i = 0; i < kPages; ++i) memset(all + i * kPage, i + 1, kPage);
  /* At once, so that what the cache keeps together reaches over the new end. */
  CHECK(write(file, all, sizeof all) == sizeof all && ftruncate(file, (kPages - 3) * kPage) == 0);
  char *map = mmap(NULL, kPages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 2 * kPage);
  CHECK(map != MAP_FAILED);
  for (int i = 0, from = 17; i < kPages - 5; ++i) good -= map[((i + from) % (kPages - 5)) * kPage] == (i + from) % 35 + 3;
  CHECK(good == 5);
  for (int i = 0; i < 20; ++i) map[i * kPage] = 99;
  CHECK(pread(file, page, 1, 2 * kPage) == 1 && page[0] == 3 && map[0] == 99 && map[1] == 3);
  CHECK(pwrite(file, "z", 1, 30 * kPage) == 1 && map[28 * kPage] == 'z');
  CHECK(write(1, map + (kPages - 5) * kPage, 1) == -1 && errno == EFAULT); /* behind the end of the file */
  CHECK(munmap(map, kPages * kPage) == 0 && close(file) == 0 && unlink("/tmp/file") == 0);
}

static void test_names(void) {
  char text[256];
  struct stat status;
  CHECK(mkdir("/tmp/folder", 0755) == 0 && mkdir("/tmp/folder", 0755) == -1 && errno == EEXIST);
  CHECK(chdir("/tmp/folder") == 0 && getcwd(text, sizeof text) != NULL && strcmp(text, "/tmp/folder") == 0);
  CHECK(rename("../file", "moved") == 0 && access("moved", F_OK) == 0);
  CHECK(access("/tmp/file", F_OK) == -1 && errno == ENOENT);
  CHECK(symlink("moved", "link") == 0 && readlink("link", text, sizeof text) == 5);
  CHECK(lstat("link", &status) == 0 && S_ISLNK(status.st_mode));
  CHECK(stat("link", &status) == 0 && S_ISREG(status.st_mode));
  DIR *folder = opendir(".");
  int seen = 0;
  for (struct dirent *entry; folder != NULL && (entry = readdir(folder)) != NULL;)
    seen += strcmp(entry->d_name, "moved") == 0 || strcmp(entry->d_name, "link") == 0;
  if (folder != NULL) closedir(folder);
  CHECK(seen == 2);
  CHECK(rmdir("/tmp/folder") == -1 && errno == ENOTEMPTY);
  CHECK(unlink("moved") == 0 && unlink("link") == 0 && chdir("..") == 0);
  CHECK(getcwd(text, sizeof text) != NULL && strcmp(text, "/tmp") == 0);
  CHECK(rmdir("folder") == 0);
}

static void test_descriptors(void) {
  int file = open("/tmp", O_RDONLY | O_DIRECTORY);
  CHECK(file >= 0 && fcntl(file, F_GETFD) == 0);
  CHECK(dup2(file, 77) == 77 && fcntl(77, F_SETFD, FD_CLOEXEC) == 0 && fcntl(77, F_GETFD) == FD_CLOEXEC);
  int inside = openat(77, "at", O_CREAT | O_RDWR, 0600);
  CHECK(inside >= 0 && access("/tmp/at", F_OK) == 0 && unlinkat(77, "at", 0) == 0);
  close(inside);
  close(77);
  CHECK(write(file, "x", 1) == -1 && errno == EBADF);
  close(file);
  CHECK(isatty(1) == 1);
  int last = -1, count = 0;
  while ((file = dup(1)) >= 0) last = file, ++count;
  const int why = errno;
  CHECK(why == EMFILE && count > 200);
  for (; count > 0; --count) close(last--);
}

int main(void) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  (void)mkdir("/tmp", 0777);
  test_memory_of_calls();
  test_pages_around();
  test_contents();
  test_names();
  test_descriptors();
  return tap_end();
}
