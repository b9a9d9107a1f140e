// Partitions as devices of their own: hda1, ram0p1. They have the queue of their device.
#pragma once

#include "kernel/block/device.hpp"

namespace paean {

/// Reads the table of a registered device and registers what is in it. A table that cannot be read, or memory that is
/// missing, costs the partitions and a line in the log. May sleep.
void add_partitions(BlockDevice& whole);
/// A chain that the registry has given back.
void free_partitions(BlockDevice* first);

}  // namespace paean
