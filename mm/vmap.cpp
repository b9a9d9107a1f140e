// Areas whose frames are somebody else's: vmap and ioremap.
#include "arch/cpu.hpp"
#include "arch/tlb.hpp"
#include "arch/tlb_checker.hpp"
#include "kernel/fault.hpp"
#include "kernel/preempt.hpp"
#include "lib/symbols.hpp"
#include "mm/region_allocator.hpp"
#include "mm/vmalloc_cache.hpp"

namespace paean {

namespace {

FAULT_SITE(vmap_area, "addresses for vmap and ioremap");

Result<VmArea*> take_area_or_purge(u32 pages) {
  if (must_fail(fault_vmap_area)) return std::unexpected(Error::OutOfMemory);
  Result<VmArea*> area = take_area(pages, kPageSize);
  if (!area && make_room()) area = take_area(pages, kPageSize);
  if (area) arch::check_reuse((*area)->start(), pages);
  return area;
}

const char* complaint_of_head(const Page* head) {
  if (head == nullptr) return "a free page";
  return head->type() == PageType::Parked ? "a page that is freed and parked" : nullptr;
}

/// What is mapped anywhere must not be free: its next owner would share it without knowing.
void check_allocated(Page* page, const void* caller) {
  const char* complaint = nullptr;
  if (page < frame_words || page_to_pfn(page) >= frame_limit())
    complaint = "no page";
  else if (page->type() == PageType::Hole)
    complaint = "a frame without memory";
  else if (page->type() != PageType::Reserved)
    complaint = complaint_of_head(block_head(page));
  if (complaint == nullptr) return;
  const Symbol at = find_symbol(VirtAddr{reinterpret_cast<u32>(caller)});
  panic("vmap of {} ({:#x}, called from {}+{:#x})", complaint, page_to_pfn(page), at.name, at.offset);
}

/// Ends an area that is not parked: afterwards no CPU reaches its frames, whose owner may do with them as he likes.
void end_area(const void* at, VmKind kind, const char* what, const void* caller) {
  might_sleep(what);
  VmArea* area = claim_area(at, kind, what, caller);
  if (area == nullptr) return;
  for_each_entry(*area, [](arch::Pte& entry) { entry.clear(); });
  arch::tlb_shootdown(area->start(), area->used);
  return_area(*area);
}

/// Frames that the allocator has, or has given to somebody, or that the kernel took at boot, are reached as memory and
/// not as registers.
bool is_memory(PhysAddr start, u32 pages) {
  for (u32 i = 0; i < pages; ++i) {
    const Pfn frame = to_pfn(start) + PageCount{i};
    if (!pfn_valid(frame)) continue;
    const Page* page = pfn_to_page(frame);
    if (page->type() != PageType::Reserved) return true;
    const auto reason = static_cast<BootReason>(page->detail());
    if (reason != BootReason::Firmware && reason != BootReason::AcpiTables) return true;
  }
  return false;
}

}  // namespace

Result<void*> vmap(std::span<Page* const> pages, arch::Protection protection, const char* owner) {
  const void* caller = __builtin_return_address(0);
  if (pages.empty()) return std::unexpected(Error::InvalidArgument);
  if (pages.size() >= vmalloc_largest_range) return std::unexpected(Error::TooLarge);
  for (Page* page : pages) check_allocated(page, caller);
  VmArea* area = TRY(take_area_or_purge(static_cast<u32>(pages.size())));
  VirtAddr at = area->start();
  for (const Page* page : pages) {
    vmalloc_entry(at).set(make_leaf(to_phys(page_to_pfn(page)), protection));
    at += kPageSize;
  }
  publish(*area, VmKind::Vmap, owner, caller);
  return area->data();
}

void vunmap(const void* at) {
  if (at != nullptr) end_area(at, VmKind::Vmap, "vunmap", __builtin_return_address(0));
}

Result<void*> ioremap(PhysAddr start, u32 bytes, arch::Caching caching, const char* owner) {
  const PhysAddr last = start + (bytes - 1);
  if (bytes == 0 || last < start || last >= kPfnLimit || last.raw() >> arch::cpu_features().physical_bits != 0)
    return std::unexpected(Error::InvalidArgument);
  const PhysAddr first = start.align_down(kPageSize);
  const u32 pages = pages_for(last - first + 1).count();
  if (pages >= vmalloc_largest_range) return std::unexpected(Error::TooLarge);
  if (is_memory(first, pages)) return std::unexpected(Error::InvalidArgument);
  VmArea* area = TRY(take_area_or_purge(pages));
  PhysAddr from = first;
  for_each_entry(*area, [&](arch::Pte& entry) {
    entry.set(make_leaf(from, arch::Protection::ReadWrite, caching));
    from += kPageSize;
  });
  publish(*area, VmKind::Ioremap, owner, __builtin_return_address(0));
  return static_cast<u8*>(area->data()) + start.page_offset();
}

void iounmap(const void* at) {
  if (at == nullptr) return;
  const VirtAddr page = VirtAddr{reinterpret_cast<u32>(at)}.align_down(kPageSize);
  end_area(reinterpret_cast<const void*>(page.raw()), VmKind::Ioremap, "iounmap", __builtin_return_address(0));
}

}  // namespace paean
