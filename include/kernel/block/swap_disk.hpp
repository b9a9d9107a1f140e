// Swap on disks and partitions: who turns it on and off. kernel/block/swap_disk.cpp is the store, mm/swap.hpp the rest.
//
// Context: threads that may sleep. Paths are those of Linux, `/dev/vda2`, or the name alone.
#pragma once

#include <string_view>

#include "lib/result.hpp"

namespace paean {

/// NotFound: no such device. InvalidArgument: no swap area on it, as mkswap makes it. Busy: it is in use already.
/// ReadOnly, Io, OutOfMemory, NoSpace.
Result<> swap_on(std::string_view path);
/// Everything comes back from it first: that may take long. NotFound: no such device; InvalidArgument: no swap.
/// OutOfMemory, Io, Busy: it goes on.
Result<> swap_off(std::string_view path);

}  // namespace paean
