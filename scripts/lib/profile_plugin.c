// Counts how often each instruction of the kernel ran while a window was open. A plugin of QEMU's for scripts/profile:
//
//     -plugin FILE,windows=FILE,counts=FILE
//
// windows: one line `text BEGIN END`, and lines `open ADDRESS` and `close ADDRESS`. Running the instruction at such an
// address opens the window or closes it; doing that twice changes nothing. counts, written when QEMU ends: lines
// `ADDRESS COUNT`; `elsewhere COUNT` for what ran outside of the text: programs, firmware, the kernel before paging;
// `windows COUNT`, how often one was opened.
//
// Each instruction adds 1 to a number of its own by code that QEMU compiles in. That happens always; a window takes the
// difference. Exact with one CPU under -icount. An instruction that faults counts each time that it is tried.
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// The part of QEMU's plugin interface, version 1, that is used here; Debian has no package with its header.
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef uint64_t qemu_plugin_id_t;
struct qemu_info;
enum { kNoRegisters = 0, kAddU64 = 0 };
#define EXPORT __attribute__((visibility("default")))

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *, void (*)(unsigned, void *), int flags, void *);
void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *, int op, void *number, uint64_t addend);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, void *), void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *);
EXPORT int qemu_plugin_version = 1;

enum mark { kNothing, kOpen, kClose };

static uint64_t text_begin, text_end;
// By offset in the text; the last one is `elsewhere`.
static uint64_t *ran, *counted;
static size_t numbers;
// Marks are few, but not all of them lie in the text.
static struct { uint64_t address; enum mark mark; } marks[4096];
static size_t mark_count;
static int is_open;
static uint64_t windows;
static const char *counts_path;

static void open_window(unsigned cpu, void *unused) {
  (void)cpu, (void)unused;
  if (is_open) return;
  is_open = 1;
  ++windows;
  for (size_t i = 0; i < numbers; ++i) counted[i] -= ran[i];
}

static void close_window(unsigned cpu, void *unused) {
  (void)cpu, (void)unused;
  if (!is_open) return;
  is_open = 0;
  for (size_t i = 0; i < numbers; ++i) counted[i] += ran[i];
}

static enum mark mark_at(uint64_t address) {
  for (size_t i = 0; i < mark_count; ++i)
    if (marks[i].address == address) return marks[i].mark;
  return kNothing;
}

static void translate(qemu_plugin_id_t id, struct qemu_plugin_tb *block) {
  (void)id;
  for (size_t i = 0; i < qemu_plugin_tb_n_insns(block); ++i) {
    struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(block, i);
    const uint64_t address = qemu_plugin_insn_vaddr(instruction);
    const int is_text = address >= text_begin && address < text_end;
    const enum mark mark = mark_at(address);
    // QEMU runs callbacks before it adds: the instruction that opens is in the window, the one that closes is not.
    void (*const act)(unsigned, void *) = mark == kOpen ? open_window : close_window;
    if (mark != kNothing) qemu_plugin_register_vcpu_insn_exec_cb(instruction, act, kNoRegisters, NULL);
    uint64_t *number = &ran[is_text ? address - text_begin : numbers - 1];
    qemu_plugin_register_vcpu_insn_exec_inline(instruction, kAddU64, number, 1);
  }
}

static void write_counts(qemu_plugin_id_t id, void *unused) {
  (void)id, (void)unused;
  close_window(0, NULL);
  FILE *file = fopen(counts_path, "w");
  if (file == NULL) return perror(counts_path);
  for (size_t i = 0; i + 1 < numbers; ++i)
    if (counted[i] != 0) fprintf(file, "%" PRIx64 " %" PRIu64 "\n", text_begin + i, counted[i]);
  fprintf(file, "elsewhere %" PRIu64 "\nwindows %" PRIu64 "\n", counted[numbers - 1], windows);
  fclose(file);
}

static int read_windows(const char *path) {
  char line[80];
  FILE *file = fopen(path, "r");
  if (file == NULL) return 0;
  while (fgets(line, sizeof line, file) != NULL) {
    uint64_t address;
    if (sscanf(line, "text %" SCNx64 " %" SCNx64, &text_begin, &text_end) == 2) continue;
    const enum mark mark = strncmp(line, "open ", 5) == 0 ? kOpen : kClose;
    if (sscanf(line, "%*s %" SCNx64, &address) != 1 || mark_count == sizeof marks / sizeof *marks) return 0;
    marks[mark_count].address = address;
    marks[mark_count++].mark = mark;
  }
  fclose(file);
  numbers = text_end - text_begin + 1;
  ran = calloc(numbers, sizeof *ran);
  counted = calloc(numbers, sizeof *counted);
  return text_end > text_begin && ran != NULL && counted != NULL;
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info *info, int count, char **arguments) {
  (void)info;
  const char *windows_path = NULL;
  for (int i = 0; i < count; ++i) {
    if (strncmp(arguments[i], "windows=", 8) == 0) windows_path = arguments[i] + 8;
    if (strncmp(arguments[i], "counts=", 7) == 0) counts_path = arguments[i] + 7;
  }
  if (windows_path == NULL || counts_path == NULL || !read_windows(windows_path)) {
    fprintf(stderr, "profile: no windows or too many of them in %s\n", windows_path ? windows_path : "windows=");
    return 1;
  }
  qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
  qemu_plugin_register_atexit_cb(id, write_counts, NULL);
  return 0;
}
