/* Checks of the programs here, printed as KTAP. */
#ifndef TAP_H
#define TAP_H
#include <errno.h>
#include <stdio.h>

static int tap_number, tap_failed;

#define CHECK(condition)                                                                            \
  do {                                                                                              \
    int tap_errno = 0, tap_good = (errno = 0, (condition) != 0);                                    \
    tap_errno = errno;                                                                              \
    if (!tap_good) ++tap_failed;                                                                    \
    printf("%sok %d %s\n", tap_good ? "" : "not ", ++tap_number, #condition);                       \
    if (!tap_good) printf("# %s:%d errno %d\n", __FILE__, __LINE__, tap_errno);                     \
  } while (0)

/* The last thing in main(). */
static inline int tap_end(void) {
  printf("1..%d\n# Totals: pass:%d fail:%d skip:0\n", tap_number, tap_number - tap_failed, tap_failed);
  fflush(stdout);
  return tap_failed != 0;
}
#endif
