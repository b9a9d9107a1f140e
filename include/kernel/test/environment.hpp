// What the in-kernel tests run in: the live kernel's zones, ledger, fixmap and locks.
//
// Around each test the runner compares, exactly:
//   for each zone   free blocks of each order (after this CPU's page stacks were drained), free pages, pages managed
//   for each owner  its pages in the zone, so that a page that changed hands is a difference too
//   for this CPU    live fixmap windows, lock ranks held, interrupts on or off
#pragma once

namespace paean {

/// Tells the test runner about this machine. Boot CPU, once, after init_memory().
void init_test_environment();

}  // namespace paean
