// An open file as something that user spaces map: keeps its inode alive for as long as an area shows it.
#pragma once

#include "kernel/fs/file.hpp"
#include "mm/mapped_file.hpp"

namespace paean {

/// For UserSpace::map(); the caller has the one reference and drops it afterwards. Stores through shared areas are
/// possible if the file was opened for writing. NotSupported for what has no pages; NoAccess if it was not opened for
/// reading; OutOfMemory. The open file may be closed before the areas end.
[[nodiscard]] Result<MappedFile*> map_file(OpenFile& file);

}  // namespace paean
