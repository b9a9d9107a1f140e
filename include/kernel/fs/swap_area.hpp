// Swap on disks, partitions and files: who turns it on and off. kernel/fs/swap_area.cpp is the store, mm/swap.hpp the
// rest.
//
// A file is used as the blocks that it lies on, past the page cache and its file system, which nothing needs memory
// for. So it must have all of them (no holes), and meanwhile nobody may change it: it can be read, but not opened for
// writing, cut, or lose its name, and its file system stays mounted. What it held before is gone, as on a partition.
//
// Context: threads that may sleep. Devices are named as in Linux, `/dev/vda2`, or by the name alone; other paths that
// begin with a slash name files.
// Source: the swap files of Linux.
#pragma once

#include <string_view>

#include "lib/result.hpp"

namespace paean {

/// NotFound: no such device or file. InvalidArgument: no swap area on it, as mkswap makes it, or a file with holes.
/// Busy: it is in use already, for files by anybody. ReadOnly, Io, OutOfMemory, NoSpace, NotSupported: the file is on
/// no disk.
Result<> swap_on(std::string_view path);
/// Everything comes back from it first: that may take long. NotFound: no such device or file; InvalidArgument: no
/// swap. OutOfMemory, Io, Busy: it goes on.
Result<> swap_off(std::string_view path);

}  // namespace paean
