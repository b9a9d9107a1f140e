// Lowmem: the frames that have an address for ever.
//
// The direct map shows physical [0, low_end) at page_offset. A LowPfn is the proof that a frame is in it, and the only
// thing that turns into an address without a map guard. Fixed at boot; any context.
#pragma once

#include <optional>

#include "lib/addr.hpp"
#include "lib/result.hpp"

namespace paean {

/// Set once by the boot code (mm/boot_memory.cpp).
struct DirectMap {
  VirtAddr page_offset{};
  Pfn end{};
};
extern DirectMap direct_map;

class LowPfn {
 public:
  Pfn pfn() const { return pfn_; }
  VirtAddr address() const { return VirtAddr{direct_map.page_offset.raw() + (pfn_.raw() << kPageShift)}; }
  void* pointer() const { return reinterpret_cast<void*>(address().raw()); }

 private:
  friend std::optional<LowPfn> to_low(Pfn pfn);
  friend Result<LowPfn> low_frame_at(VirtAddr va);
  constexpr explicit LowPfn(Pfn pfn) : pfn_(pfn) {}
  Pfn pfn_;
};

/// nullopt for highmem.
inline std::optional<LowPfn> to_low(Pfn pfn) {
  if (pfn < direct_map.end) [[likely]]
    return LowPfn{pfn};
  return std::nullopt;
}

/// The frame behind a direct-map address; NotFound outside of it.
inline Result<LowPfn> low_frame_at(VirtAddr va) {
  const u32 offset = va - direct_map.page_offset;
  if (va < direct_map.page_offset || Pfn{offset >> kPageShift} >= direct_map.end)
    return std::unexpected(Error::NotFound);
  return LowPfn{Pfn{offset >> kPageShift}};
}

}  // namespace paean
