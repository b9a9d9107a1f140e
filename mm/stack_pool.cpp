#include "mm/stack_pool.hpp"

#include <algorithm>

#include "arch/address_space.hpp"
#include "arch/tlb.hpp"
#include "arch/tlb_checker.hpp"
#include "kernel/fault.hpp"
#include "kernel/preempt.hpp"
#include "kernel/spinlock.hpp"
#include "kernel/thread.hpp"
#include "mm/boot_memory.hpp"
#include "mm/direct_stacks.hpp"
#include "mm/lowmem.hpp"
#include "mm/page_alloc.hpp"
#include "mm/zone.hpp"

namespace paean {

namespace {

constexpr u32 kAreaForOthers = 60 * kMiB;
constexpr u32 kStackPages = kThreadStackBytes / kPageSize;
constexpr u32 kObjectsPerPage = kPageSize / sizeof(ThreadCell);
constexpr u16 kNone = 0xffff;
static_assert(kStackSlotBytes == kThreadStackBytes + kPageSize);
static_assert(kMostStackSlots < kNone);

struct StackSlot {
  Page* pages[kStackPages];
  u16 next;  // in whichever list it is
};

/// The objects of eight slots share a page, which is there while one of the slots has a stack.
struct ObjectGroup {
  ThreadCell* cells;
  u32 slots_with_stack;
};

class StackPool final : public ThreadMemory {
 public:
  void init();
  Result<ThreadPlace> take() override;
  Result<VirtAddr> take_for_ever();
  void give_back_cpu_stack(VirtAddr top);
  void give_back(void* object) override;
  void trim();
  StackPoolCounts counts();
  StackLimits set_limits(StackLimits limits);
  VirtAddr start() const { return base_; }
  VirtAddr end() const { return base_ + slot_count_ * kStackSlotBytes; }
  bool is_in_window(VirtAddr va) const { return va >= start() && va < end(); }

 private:
  VirtAddr stack_of(u32 slot) const { return base_ + slot * kStackSlotBytes + kPageSize; }
  u16 slot_of(VirtAddr stack) const { return static_cast<u16>((stack - kPageSize - base_) / kStackSlotBytes); }
  u16 pop(u16& list) REQUIRES(lock_);
  void push(u16& list, u16 slot) REQUIRES(lock_);
  u16 pop_empty() REQUIRES(lock_);
  Result<u16> take_empty();
  u16 take_empty_below_limit();
  void drop_empty(u16 slot);
  Result<> add_objects(u16 slot);
  Result<> add_stack(u16 slot);
  void note_unmapped(u16 slot, u32 pages, u32 generation) const;
  void remove_stack(u16 slot, u32 pages);
  ThreadPlace place_of(u16 slot) REQUIRES(lock_);

  SpinLock lock_{LockRank::StackPool};
  VirtAddr base_{};
  u32 slot_count_ = 0;
  u32 limit_ GUARDED_BY(lock_) = 0;
  u32 used_ GUARDED_BY(lock_) = 0;
  u32 cached_count_ GUARDED_BY(lock_) = 0;
  u16 cached_ GUARDED_BY(lock_) = kNone;  // with pages, mapped
  u16 empty_ GUARDED_BY(lock_) = kNone;
  StackSlot* slots_ = nullptr;
  ObjectGroup* groups_ GUARDED_BY(lock_) = nullptr;
  DirectStacks direct_;
};

FAULT_SITE(stack_slot, "a thread's stack");
constinit StackPool pool;

void set_entry(arch::Pte& pte, u64 bits) {
  const arch::PteValue value{bits};
  value.present() ? pte.set(value) : pte.clear();
}

/// The tables of the dynamic area exist since boot. Preemption is off while the window on them is live.
void change_entry(VirtAddr va, arch::PteValue value) {
  const PreemptGuard guard;
  ASSERT(arch::with_pte(va, set_entry, value.raw()));
}

/// Half of the top of the dynamic area, or all of it but what other areas need; of small machines a quarter of memory.
u32 slots_for(u32 window_bytes) {
  const u32 for_others = std::min(window_bytes / 2, kAreaForOthers);
  u32 pages = 0;
  for (const ZoneId id : kAllZones) pages += zone(id).managed.count();
  const u32 most = std::min(kMostStackSlots, pages / 4 / kStackPages);
  return std::min(most, (window_bytes - for_others) / kStackSlotBytes);
}

template <typename T>
T* boot_array(u32 count) {
  u32 order = 0;
  while ((kPageSize << order) < count * sizeof(T)) ++order;
  const Result<VirtAddr> block = __get_free_pages(AllocFlags::Kernel | AllocFlags::Zero, Order{order}, Owner::Stack);
  if (!block) panic("no memory for the table of {} stacks", count);
  return reinterpret_cast<T*>(block->raw());
}

void StackPool::init() {
  base_ = layout().vmalloc_start;
  slot_count_ = slots_for(layout().vmalloc_end() - base_);
  slots_ = boot_array<StackSlot>(slot_count_);
  auto* const groups = boot_array<ObjectGroup>((slot_count_ + kObjectsPerPage - 1) / kObjectsPerPage);
  direct_.init(slot_count_);
  const SpinGuard<IrqSave> guard{lock_};
  groups_ = groups;
  limit_ = slot_count_;
  for (u32 slot = slot_count_; slot-- != 0;) push(empty_, static_cast<u16>(slot));
}

u16 StackPool::pop(u16& list) {
  const u16 slot = list;
  if (slot != kNone) list = slots_[slot].next;
  return slot;
}

void StackPool::push(u16& list, u16 slot) {
  slots_[slot].next = list;
  list = slot;
}

u16 StackPool::pop_empty() {
  const u16 slot = pop(empty_);
  if (slot != kNone) ++groups_[slot / kObjectsPerPage].slots_with_stack;
  return slot;
}

Result<u16> StackPool::take_empty() {
  const SpinGuard<IrqSave> guard{lock_};
  const u16 slot = pop_empty();
  if (slot == kNone) return std::unexpected(Error::TooLarge);
  return slot;
}

/// Its stack is gone; with the last one of a group the objects go too.
void StackPool::drop_empty(u16 slot) {
  ThreadCell* cells = nullptr;
  {
    const SpinGuard<IrqSave> guard{lock_};
    ObjectGroup& group = groups_[slot / kObjectsPerPage];
    if (--group.slots_with_stack == 0) std::swap(cells, group.cells);
    push(empty_, slot);
  }
  if (cells != nullptr) free_pages_at(VirtAddr{reinterpret_cast<u32>(cells)}, Order{0});
}

Result<> StackPool::add_objects(u16 slot) {
  ObjectGroup& group = [&]() NO_THREAD_SAFETY_ANALYSIS -> ObjectGroup& { return groups_[slot / kObjectsPerPage]; }();
  {
    const SpinGuard<IrqSave> guard{lock_};
    if (group.cells != nullptr) return {};
  }
  const VirtAddr page = TRY(get_zeroed_page(AllocFlags::Kernel, Owner::Stack));
  {
    const SpinGuard<IrqSave> guard{lock_};
    if (group.cells == nullptr) {
      group.cells = reinterpret_cast<ThreadCell*>(page.raw());
      return {};
    }
  }
  free_pages_at(page, Order{0});  // somebody else was faster
  return {};
}

Result<> StackPool::add_stack(u16 slot) {
  for (u32 i = 0; i < kStackPages; ++i) {
    const Result<Page*> page = alloc_page(AllocFlags::HighUser, Owner::Stack);
    if (!page) {
      remove_stack(slot, i);
      return std::unexpected(page.error());
    }
    slots_[slot].pages[i] = *page;
    arch::check_reuse(stack_of(slot) + i * kPageSize, 1);
    change_entry(stack_of(slot) + i * kPageSize, make_leaf(to_phys(page_to_pfn(*page)), arch::Protection::ReadWrite));
  }
  return {};
}

/// For the checker: the frames too, because a thread that is not quite gone would still write to them.
void StackPool::note_unmapped(u16 slot, u32 pages, u32 generation) const {
  arch::note_unmapped(stack_of(slot), pages, generation);
  for (u32 i = 0; i < pages; ++i) arch::note_frame_unmapped(page_to_pfn(slots_[slot].pages[i]), generation);
}

/// Of a stack that was never used, so that there is hardly a translation to wait for.
void StackPool::remove_stack(u16 slot, u32 pages) {
  for (u32 i = 0; i < pages; ++i) change_entry(stack_of(slot) + i * kPageSize, arch::PteValue{});
  const u32 generation = arch::tlb_new_generation();
  note_unmapped(slot, pages, generation);
  if (pages != 0) arch::tlb_wait_for_generation(generation);
  for (u32 i = 0; i < pages; ++i) free_page(slots_[slot].pages[i]);
}

ThreadPlace StackPool::place_of(u16 slot) {
  ++used_;
  ThreadCell& cell = groups_[slot / kObjectsPerPage].cells[slot % kObjectsPerPage];
  cell.stack = stack_of(slot);
  return ThreadPlace{cell.object, cell.stack + kThreadStackBytes};
}

/// An empty one; kNone if it is the direct map's turn.
u16 StackPool::take_empty_below_limit() {
  const SpinGuard<IrqSave> guard{lock_};
  return used_ < limit_ ? pop_empty() : kNone;
}

Result<ThreadPlace> StackPool::take() {
  {
    const SpinGuard<IrqSave> guard{lock_};
    if (const u16 slot = used_ < limit_ ? pop(cached_) : kNone; slot != kNone) {
      --cached_count_;
      return place_of(slot);
    }
  }
  if (must_fail(fault_stack_slot)) return std::unexpected(Error::TooLarge);
  const u16 slot = take_empty_below_limit();
  if (slot == kNone) return direct_.take();
  Result<> made = add_objects(slot);
  if (made) made = add_stack(slot);
  if (!made) {
    drop_empty(slot);
    return std::unexpected(made.error());
  }
  const SpinGuard<IrqSave> guard{lock_};
  return place_of(slot);
}

Result<VirtAddr> StackPool::take_for_ever() {
  const u16 slot = TRY(take_empty());
  if (const Result<> made = add_stack(slot); !made) {
    drop_empty(slot);
    return std::unexpected(made.error());
  }
  const SpinGuard<IrqSave> guard{lock_};
  ++used_;
  return stack_of(slot) + kThreadStackBytes;
}

void StackPool::give_back_cpu_stack(VirtAddr top) {
  const u16 slot = slot_of(top - kThreadStackBytes);
  remove_stack(slot, kStackPages);
  drop_empty(slot);
  const SpinGuard<IrqSave> guard{lock_};
  --used_;
}

void StackPool::give_back(void* object) {
  auto& cell = *static_cast<ThreadCell*>(object);
  if (!is_in_window(cell.stack)) return direct_.give_back(cell);
  const SpinGuard<IrqSave> guard{lock_};
  --used_;
  ++cached_count_;
  push(cached_, slot_of(cell.stack));
}

void StackPool::trim() {
  u16 list = kNone;
  {
    const SpinGuard<IrqSave> guard{lock_};
    std::swap(list, cached_);
    cached_count_ = 0;
  }
  if (list == kNone) return;
  for (u16 slot = list; slot != kNone; slot = slots_[slot].next) {
    for (u32 i = 0; i < kStackPages; ++i) change_entry(stack_of(slot) + i * kPageSize, arch::PteValue{});
  }
  const u32 generation = arch::tlb_new_generation();
  for (u16 slot = list; slot != kNone; slot = slots_[slot].next) note_unmapped(slot, kStackPages, generation);
  arch::tlb_wait_for_generation(generation);  // no CPU may reach the frames once they are free
  while (list != kNone) {
    const u16 slot = list;
    list = slots_[slot].next;
    for (Page* page : slots_[slot].pages) free_page(page);
    drop_empty(slot);
  }
}

StackPoolCounts StackPool::counts() {
  const SpinGuard<IrqSave> guard{lock_};
  return {slot_count_, used_, cached_count_, direct_.limit(), direct_.used()};
}

StackLimits StackPool::set_limits(StackLimits limits) {
  const SpinGuard<IrqSave> guard{lock_};
  const StackLimits before{limit_, direct_.limit()};
  limit_ = limits.window;
  direct_.set_limit(limits.direct);
  return before;
}

}  // namespace

void init_stack_pool() {
  pool.init();
  set_thread_memory(pool);
}

VirtAddr stack_window_end() { return pool.end(); }

std::optional<VirtAddr> guard_page_below(VirtAddr inside) {
  if (!pool.is_in_window(inside)) return std::nullopt;
  return inside - (inside - pool.start()) % kStackSlotBytes;
}

Result<VirtAddr> take_cpu_stack() { return pool.take_for_ever(); }
void give_back_cpu_stack(VirtAddr top) { pool.give_back_cpu_stack(top); }
void trim_stack_pool() { pool.trim(); }
StackPoolCounts stack_pool_counts() { return pool.counts(); }
StackLimits set_stack_limits(StackLimits limits) { return pool.set_limits(limits); }

}  // namespace paean
