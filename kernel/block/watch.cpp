// The thread that aborts commands which take too long.
#include "kernel/block/queue.hpp"
#include "kernel/wait.hpp"

namespace paean {

namespace {

// How late a time-out may be noticed; the shortest is a thousand times what a disk needs.
constexpr u32 kPeriodMs = 100;

constinit u32 commands_running = 0;
constinit WaitQueue work;

void look(void*, BlockDevice& device) {
  if (device.is_whole()) device.queue()->expire(ticks_now());
}

void watch(void*) {
  while (true) {
    work.wait([] { return __atomic_load_n(&commands_running, __ATOMIC_SEQ_CST) != 0; });
    thread_sleep_ms(kPeriodMs);
    for_each_block_device(look, nullptr);
  }
}

}  // namespace

void note_command_started() {
  if (__atomic_fetch_add(&commands_running, 1, __ATOMIC_SEQ_CST) == 0 && work.waiting() != 0) work.wake_one();
}

void note_command_ended() { __atomic_fetch_sub(&commands_running, 1, __ATOMIC_SEQ_CST); }

Result<> start_block_watch() {
  TRY(thread_create("blockwatch", watch, nullptr, {.priority = Priority::High, .detach = Detach::Yes}));
  return {};
}

}  // namespace paean
