#include "mm/vmalloc.hpp"

#include "arch/tlb_checker.hpp"
#include "kernel/fault.hpp"
#include "mm/vmalloc_cache.hpp"

namespace paean {

constinit LeafBits vmalloc_read_write;

namespace {

constexpr u32 kMostAlign = 4 * kMiB;

constinit LeafBits shown_read_write;  // vmalloc_read_write with the present bit

FAULT_SITE(vmalloc_frames, "frames for an area of vmalloc");

/// Puts a frame into each entry, hidden, and shows them when all are there. Without memory nothing was ever shown, so
/// what was taken goes back at once.
Result<> fill(const VmArea& area, AllocFlags flags, const LeafBits& leaf) {
  const auto entry_at = [&](u32 i) -> arch::Pte& { return vmalloc_entry(area.start() + i * kPageSize); };
  const auto keep = [&](u32 i, const Page* page) { write_entry(entry_at(i), page, leaf); };
  const LedgerRow row{flags.zone(), Owner::Vmalloc};
  u32 done = flags.has(AllocFlags::Zero) ? 0 : PageFast::pop_most(row, area.used, keep);
  for (; done < area.used; ++done) {
    const Result<Page*> page =
        must_fail(fault_vmalloc_frames) ? std::unexpected(Error::OutOfMemory) : alloc_page(flags, Owner::Vmalloc);
    if (!page) [[unlikely]] {
      while (done-- != 0) {
        free_page(pfn_to_page(frame_in(entry_at(done))));
        entry_at(done).clear();
      }
      return std::unexpected(page.error());
    }
    keep(done, *page);
  }
  arch::check_reuse(area.start(), area.used);
  for_each_entry(area, [](arch::Pte& entry) { entry.show(); });
  return {};
}

/// The same for a few pages that are all at hand. False, and nothing is done, if they are not.
[[gnu::always_inline]] inline bool fill_at_once(const VmArea& area, u32 pages, AllocFlags flags) {
  if (flags.has(AllocFlags::Zero)) return false;
  const auto show = [&area, entries = area.entries](u32 i, const Page* page) {
    arch::check_reuse(area.start() + i * kPageSize, 1);
    write_entry(entries[i], page, shown_read_write);
  };
  return PageFast::pop_all(LedgerRow{flags.zone(), Owner::Vmalloc}, pages, show);
}

/// A request for more than there is would take everything away from everybody before it fails.
bool can_ever_succeed(u32 pages) {
  const MemoryTotals low = low_totals(), high = high_totals();
  return pages <= (low.free + high.free).count();
}

Result<VmArea*> take_filled_area(const VmallocRequest& request, u32 pages) {
  constexpr u32 kFew = 64;
  if (pages > kFew && !can_ever_succeed(pages)) return std::unexpected(Error::OutOfMemory);
  VmArea* area = TRY(take_area(pages, request.align));
  const Result<> filled = fill(*area, request.flags, LeafBits{request.protection});
  if (filled) return area;
  return_area(*area);
  return std::unexpected(filled.error());
}

[[gnu::noinline]] Result<void*> allocate_slowly(const VmallocRequest& request, const void* caller) {
  if (request.bytes == 0 || request.align < kPageSize || request.align > kMostAlign ||
      (request.align & (request.align - 1)) != 0) {
    return std::unexpected(Error::InvalidArgument);
  }
  const u32 pages = pages_for(request.bytes).count();
  if (pages >= vmalloc_largest_range) return std::unexpected(Error::TooLarge);
  Result<VmArea*> area = take_filled_area(request, pages);
  if (!area && make_room()) area = take_filled_area(request, pages);
  if (!area) return std::unexpected(area.error());
  publish(**area, VmKind::Vmalloc, request.owner, caller);
  return (*area)->data();
}

[[gnu::always_inline]] inline Result<void*> allocate(u32 bytes, AllocFlags flags, const char* owner,
                                                     const void* caller) {
  const u32 pages = ((bytes - 1) >> kPageShift) + 1;
  if (pages <= kCachedSizes) [[likely]] {
    if (VmArea* area = this_cpu_areas().take(pages)) [[likely]] {
      if (fill_at_once(*area, pages, flags)) [[likely]] {
        publish(*area, VmKind::Vmalloc, owner, caller);
        return area->data();
      }
      return_area(*area);
    }
  }
  return allocate_slowly({.bytes = bytes, .flags = flags, .owner = owner}, caller);
}

}  // namespace

void init_vmalloc() {
  vmalloc_read_write = shown_read_write = LeafBits{arch::Protection::ReadWrite};
  shown_read_write.low |= static_cast<u32>(arch::pte_bits::kPresent);
  init_vmalloc_space();
  init_vmalloc_cache(vmalloc_space_counts().free);
}

Result<void*> vmalloc_as(const VmallocRequest& request) {
  return allocate_slowly(request, __builtin_return_address(0));
}

Result<void*> vmalloc(u32 bytes, AllocFlags flags, const char* owner) {
  return allocate(bytes, flags, owner, __builtin_return_address(0));
}

Result<void*> vzalloc(u32 bytes, AllocFlags flags, const char* owner) {
  return allocate(bytes, flags | AllocFlags::Zero, owner, __builtin_return_address(0));
}

void vfree(const void* at) {
  if (at == nullptr) return;
  VmArea* area = claim_area(at, VmKind::Vmalloc, "vfree", __builtin_return_address(0));
  if (area == nullptr) return;
  for_each_entry(*area, [](arch::Pte& entry) { entry.hide(); });
  CpuAreas& cpu = this_cpu_areas();
  if (cpu.park(*area)) cpu.purge_some();
}

Page* vmalloc_to_page(const void* at) {
  if (!is_vmalloc_addr(at)) return nullptr;
  const arch::Pte& entry = vmalloc_entry(VirtAddr{reinterpret_cast<u32>(at)});
  if ((entry.own_low() & arch::pte_bits::kPresent) == 0) return nullptr;
  const Pfn frame = frame_in(entry);
  return frame < frame_limit() ? pfn_to_page(frame) : nullptr;
}

u32 vmalloc_size(const void* at) {
  const VmArea* area = live_area_at(at);
  if (area == nullptr) {
    vmalloc_misuse(at, "vmalloc_size", __builtin_return_address(0));
    return 0;
  }
  return area->used * kPageSize;
}

}  // namespace paean
