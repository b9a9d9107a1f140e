// The addresses of vmalloc, and the objects that describe them.
//
// Descriptors lie in whole pages of lowmem, which are given back when nothing in them is used. The oldest page with
// room serves first; trim_descriptors() moves what describes free addresses into older pages, so that the pages which
// remain depend on the live areas alone and not on what has been in between.
#include <new>

#include "arch/address_space.hpp"
#include "kernel/fault.hpp"
#include "kernel/preempt.hpp"
#include "mm/boot_memory.hpp"
#include "mm/lowmem.hpp"
#include "mm/stack_pool.hpp"
#include "mm/vmalloc_area.hpp"

namespace paean {

constinit arch::PageTable* vmalloc_tables[2048]{};
constinit u32 vmalloc_largest_range = 0;

namespace {

FAULT_SITE(vmalloc_space, "addresses of vmalloc");

struct DescriptorPage {
  DescriptorPage* next = nullptr;
  u32 age = 0;  // rises from page to page
  VaSpares unused{};

  static constexpr u32 kObjects = (kPageSize - 16) / sizeof(VmArea);
  static DescriptorPage& of(VaBlock& block) {
    return *reinterpret_cast<DescriptorPage*>(reinterpret_cast<u32>(&block) & ~(kPageSize - 1));
  }
  bool is_unused() const { return unused.count() == kObjects; }
};
static_assert(sizeof(DescriptorPage) <= 16);

class DescriptorPool {
 public:
  u32 available() const { return available_; }

  /// A lowmem page from now on used for descriptors.
  void add_page(void* memory) {
    auto* page = new (memory) DescriptorPage{.age = ++newest_age_};
    auto* objects = reinterpret_cast<VmArea*>(reinterpret_cast<u32>(memory) + kPageSize) - DescriptorPage::kObjects;
    for (u32 i = DescriptorPage::kObjects; i-- != 0;) page->unused.push(*new (objects + i) VmArea);
    available_ += DescriptorPage::kObjects;
    DescriptorPage** end = &pages_;
    while (*end != nullptr) end = &(*end)->next;
    *end = page;
    if (open_ == nullptr) open_ = page;
  }
  /// Precondition: available() != 0.
  VmArea& take() {
    while (open_->unused.count() == 0) open_ = open_->next;
    --available_;
    return *static_cast<VmArea*>(open_->unused.pop());
  }
  void give(VaBlock& block) {
    DescriptorPage& page = DescriptorPage::of(block);
    page.unused.push(block);
    ++available_;
    if (page.age < open_->age) open_ = &page;
  }
  /// Is there room in a page that is older than this object's?
  bool has_older(VaBlock& block) const {
    for (const DescriptorPage* page = open_; page != nullptr && page->age < DescriptorPage::of(block).age;
         page = page->next) {
      if (page->unused.count() != 0) return true;
    }
    return false;
  }
  /// Takes a page out of which nothing is used; nullptr if there is none. One stays for ever.
  void* remove_page() {
    for (DescriptorPage** link = &pages_; *link != nullptr; link = &(*link)->next) {
      DescriptorPage* page = *link;
      if (!page->is_unused() || page == pages_) continue;
      *link = page->next;
      available_ -= DescriptorPage::kObjects;
      open_ = pages_;
      return page;
    }
    return nullptr;
  }

 private:
  DescriptorPage* pages_ = nullptr;  // oldest first
  DescriptorPage* open_ = nullptr;   // none before it has room
  u32 newest_age_ = 0, available_ = 0;
};

constinit SpinLock lock{LockRank::VmallocSpace};
constinit VaSpace space GUARDED_BY(lock);
constinit DescriptorPool pool GUARDED_BY(lock);

VaSpares take_spares() REQUIRES(lock) {
  VaSpares spares;
  while (spares.count() < VaSpace::kSparesNeeded) spares.push(pool.take());
  return spares;
}

void give_spares(VaSpares& spares) REQUIRES(lock) {
  while (VaBlock* block = spares.pop()) pool.give(*block);
}

/// Moves what describes free addresses into older pages. False if there is less than a page of room in all of them.
bool make_pages_unused() {
  const SpinGuard<IrqSave> guard{lock};
  if (pool.available() < DescriptorPage::kObjects) return false;
  for (VaBlock* block = space.first(); block != nullptr; block = space.next(*block)) {
    if (!block->is_free() || !pool.has_older(*block)) continue;
    VmArea& moved = pool.take();
    space.replace(*block, moved);
    pool.give(*block);
    block = &moved;
  }
  return true;
}

void* take_unused_page() {
  const SpinGuard<IrqSave> guard{lock};
  return pool.remove_page();
}

Result<> add_descriptors() {
  const AllocFlags flags = in_atomic_context() ? AllocFlags::Atomic | AllocFlags::NoWarn : AllocFlags::Kernel;
  const VirtAddr page = TRY(__get_free_pages(flags, Order{0}, Owner::Vmalloc));
  const SpinGuard<IrqSave> guard{lock};
  pool.add_page(reinterpret_cast<void*>(page.raw()));
  return {};
}

/// The page tables were made with the direct map, all of them in lowmem.
void find_tables(VirtAddr start, VirtAddr end) {
  for (VirtAddr at = start; at < end; at += kLargePageSize) {
    const std::optional<LowPfn> table = to_low(to_pfn(arch::walk_current(at).pt_page));
    ASSERT(table);
    vmalloc_tables[at.raw() >> kLargePageShift] = static_cast<arch::PageTable*>(table->pointer());
  }
}

/// The first page of a range guards what lies before it.
void add_range(VirtAddr start, VirtAddr end) {
  ASSERT(start.is_aligned(kLargePageSize) && end.is_aligned(kLargePageSize));
  find_tables(start, end);
  const u32 pages = ((end - start) >> kPageShift) - 1;
  if (pages > vmalloc_largest_range) vmalloc_largest_range = pages;
  const SpinGuard<IrqSave> guard{lock};
  space.add_range(start + kPageSize, pages, pool.take());
}

/// The window of the thread stacks, which begins with a guard page of its own; one more follows it.
void take_stack_window(VirtAddr start, VirtAddr end) {
  const SpinGuard<IrqSave> guard{lock};
  VaSpares spares = take_spares();
  auto* area = static_cast<VmArea*>(space.allocate_at(start + kPageSize, (end - start) >> kPageShift, spares));
  give_spares(spares);
  ASSERT(area != nullptr);
  area->kind = VmKind::Stacks;
  area->has_name = true;
  area->owner = "thread_stacks";
  area->state = VmState::Live;
}

VmAreaInfo info_of(const VmArea& area) {
  VmAreaInfo info{.start = area.start(), .end = area.end(), .kind = area.kind};
  info.state = area.is_free() ? VmState::Free : area.state.load(std::memory_order_relaxed);
  info.pages = area.used;
  if (area.has_name)
    info.name = static_cast<const char*>(area.owner);
  else
    info.caller = VirtAddr{reinterpret_cast<u32>(area.owner)};
  if (info.state == VmState::Live) info.first = to_phys(frame_in(vmalloc_entry(area.start())));
  return info;
}

}  // namespace

void init_vmalloc_space() {
  const LayoutPlan& plan = layout();
  {
    const SpinGuard<IrqSave> guard{lock};
    space.init();
  }
  if (!add_descriptors()) panic("no memory for the areas of vmalloc");
  for (const VaRange& range : plan.vmalloc_ranges()) add_range(range.begin, range.end);
  take_stack_window(plan.vmalloc_start, stack_window_end());
}

Result<VmArea*> take_addresses(u32 pages, u32 align) {
  if (must_fail(fault_vmalloc_space)) return std::unexpected(Error::OutOfMemory);
  for (;;) {
    {
      const SpinGuard<IrqSave> guard{lock};
      if (pool.available() >= VaSpace::kSparesNeeded) {
        VaSpares spares = take_spares();
        auto* area = static_cast<VmArea*>(space.allocate(pages + 1, align, spares));
        give_spares(spares);
        if (area == nullptr) return std::unexpected(Error::OutOfMemory);
        area->state.store(VmState::Cached, std::memory_order_relaxed);
        area->used = pages;
        const VirtAddr before = area->start() - kPageSize;
        const bool one_table = arch::pt_index(before) + pages < arch::kEntriesPerTable;
        area->entries = one_table ? &vmalloc_entry(area->start()) : nullptr;
        return area;
      }
    }
    TRY(add_descriptors());
  }
}

void give_addresses(VmAreaStack& areas) {
  constexpr u32 kPiece = 32;  // so that interrupts are not off for long
  while (!areas.empty()) {
    const SpinGuard<IrqSave> guard{lock};
    VaSpares spares;
    for (u32 i = 0; i < kPiece && !areas.empty(); ++i) {
      VmArea& area = *areas.pop();
      area.state.store(VmState::Free, std::memory_order_relaxed);
      space.free(area, spares);
    }
    give_spares(spares);
  }
}

u32 trim_descriptors() {
  if (!make_pages_unused()) return 0;
  u32 pages = 0;
  while (void* unused = take_unused_page()) {
    free_pages_at(VirtAddr{reinterpret_cast<u32>(unused)}, Order{0});
    ++pages;
  }
  return pages;
}

std::optional<VmAreaInfo> describe_address(VirtAddr at) {
  const SpinGuard<IrqSave> guard{lock};
  const VaBlock* block = space.find(at);
  if (block == nullptr) return std::nullopt;
  return info_of(static_cast<const VmArea&>(*block));
}

std::optional<VmAreaInfo> vmalloc_area_from(VirtAddr from) {
  const SpinGuard<IrqSave> guard{lock};
  for (VaBlock* block = space.from(from); block != nullptr; block = space.next(*block)) {
    if (!block->is_free()) return info_of(static_cast<VmArea&>(*block));
  }
  return std::nullopt;
}

VaSpaceCounts vmalloc_space_counts() {
  const SpinGuard<IrqSave> guard{lock};
  return {space.total_pages(), space.free_pages(), space.largest_free()};
}

}  // namespace paean
