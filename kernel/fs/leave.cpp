// The end of all mounted file systems, in bounded time.
#include "kernel/fs/mount_table.hpp"
#include "kernel/sync.hpp"
#include "kernel/thread.hpp"
#include "lib/log.hpp"

namespace paean {

namespace {

constinit Completion left;

}  // namespace

void leave_file_systems() {
  // A thread of its own, because it may be held up by a disk for ever.
  const auto leave = [](void* /*unused*/) {
    MountTable::leave_all();
    left.complete();
  };
  const bool started = thread_create("leave", leave, nullptr, {.detach = Detach::Yes}).has_value();
  if (!started || !left.wait_for_ms(kLeaveMs)) log_warning("file systems are left as they are");
}

}  // namespace paean
