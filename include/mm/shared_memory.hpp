// Memory that several user spaces share and that no file stands behind: shared anonymous areas.
//
// Its pages are cached pages of a file without a name, in highmem, never clean and so never evicted; they end with the
// last area. Context: threads that may sleep. Errors: OutOfMemory.
#pragma once

#include "mm/mapped_file.hpp"

namespace paean {

/// Zeros, `bytes` long. The caller has the one reference.
[[nodiscard]] Result<MappedFile*> make_shared_memory(u64 bytes);
/// Boot, once, after the object caches.
void init_shared_memory();

}  // namespace paean
