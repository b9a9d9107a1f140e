// The whole address space as a list of named regions, from 0 to the last byte, without gaps: what the boot log prints,
// and what ptdump, vtop and showmappings call an address. Made from the plan and the fixed map when asked for.
//
//   user | lowmem | vmalloc | lowmem | ... | vmalloc | frame words | ukva | block windows | pkmap | kernel | fixmap
//
// Pure; any context.
#pragma once

#include <string_view>

#include "mm/layout_plan.hpp"

namespace paean {

enum class RegionKind : u8 {
  User,
  Lowmem,   // RAM shown at physical + page_offset
  Vmalloc,  // a hole in between, or the top
  Unused,   // left over because RAM ends early
  Fixed,    // the same on every machine but for its size
};

struct AddressRegion {
  RegionKind kind = RegionKind::User;
  std::string_view name{};
  VirtAddr first{}, last{};  // both inclusive, so that the last page of 4 GiB fits

  u64 bytes() const { return u64{last - first} + 1; }
};

/// fn(const AddressRegion&) in address order.
template <typename Fn>
void for_each_address_region(const LayoutPlan& plan, Fn fn) {
  AddressRegion open{RegionKind::User, "user", VirtAddr{0}, VirtAddr{0}};
  const auto begin = [&](RegionKind kind, std::string_view name, VirtAddr first) {
    if (first != open.first) {
      open.last = first - 1;
      fn(open);
    }
    open = {kind, name, first, first};  // one that began here was empty
  };
  VirtAddr low = plan.page_offset;
  for (const VaRange& hole : plan.holes()) {
    begin(RegionKind::Lowmem, "lowmem", low);
    begin(RegionKind::Vmalloc, "vmalloc", hole.begin);
    low = hole.end;
  }
  begin(RegionKind::Lowmem, "lowmem", low);
  begin(RegionKind::Unused, "unused", plan.low_end_address());
  begin(RegionKind::Vmalloc, "vmalloc", plan.vmalloc_start);
  begin(RegionKind::Fixed, "frame words", plan.frame_window);
  begin(RegionKind::Fixed, "ukva", arch::kUkvaOtherStart);
  begin(RegionKind::Fixed, "block windows", arch::kBlockWindowStart);
  begin(RegionKind::Fixed, "pkmap", arch::kPkmapStart);
  begin(RegionKind::Fixed, "kernel", arch::kImageStart);
  begin(RegionKind::Fixed, "fixmap", arch::kFixmapStart);
  begin(RegionKind::Unused, "never mapped", arch::kFixmapEnd);
  open.last = VirtAddr{0xffffffff};
  fn(open);
}

/// The region that holds an address.
inline AddressRegion address_region(const LayoutPlan& plan, VirtAddr va) {
  AddressRegion found;
  for_each_address_region(plan, [&](const AddressRegion& region) {
    if (region.first <= va && va <= region.last) found = region;
  });
  return found;
}

}  // namespace paean
