#include "kernel/block/bounce.hpp"
#include "kernel/block/queue.hpp"
#include "lib/log.hpp"

namespace paean {

extern "C" const BlockDriver __start_block_drivers[], __stop_block_drivers[];

void init_block_devices(const CommandLine& options) {
  if (const Result<> started = start_block_watch(); !started) {
    log_warning("no block devices: {}", error_name(started.error()));
    return;
  }
  init_bounce_pools(options);
  for (const BlockDriver* driver = __start_block_drivers; driver != __stop_block_drivers; ++driver)
    driver->probe(options);
}

}  // namespace paean
