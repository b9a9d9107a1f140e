#include "mm/stack_pool.hpp"

#include <algorithm>

#include "arch/address_space.hpp"
#include "arch/tlb.hpp"
#include "kernel/preempt.hpp"
#include "kernel/spinlock.hpp"
#include "kernel/thread.hpp"
#include "mm/boot_memory.hpp"
#include "mm/lowmem.hpp"
#include "mm/page_alloc.hpp"

namespace paean {

namespace {

constexpr u32 kStackPages = kThreadStackBytes / kPageSize;
constexpr u32 kObjectStride = 512;
constexpr u32 kObjectsPerPage = kPageSize / kObjectStride;
constexpr u32 kGroups = kStackSlots / kObjectsPerPage;
constexpr u16 kNone = 0xffff;
static_assert(kStackSlotBytes == kThreadStackBytes + kPageSize);

/// What lies in the pool: the thread's object, and which slot it is.
struct ObjectCell {
  u8 object[kThreadObjectBytes];
  u32 slot;
};
static_assert(sizeof(ObjectCell) == kObjectStride);

struct StackSlot {
  Page* pages[kStackPages];
  u16 next;  // in whichever list it is
};

/// The objects of eight slots share a page, which is there while one of the slots has a stack.
struct ObjectGroup {
  ObjectCell* cells;
  u32 slots_with_stack;
};

class StackPool final : public ThreadMemory {
 public:
  void init();
  Result<ThreadPlace> take() override;
  void give_back(void* object) override;
  void trim();
  StackPoolCounts counts();
  VirtAddr start() const { return base_; }
  VirtAddr end() const { return base_ + slot_count_ * kStackSlotBytes; }

 private:
  VirtAddr stack_of(u32 slot) const { return base_ + slot * kStackSlotBytes + kPageSize; }
  u16 pop(u16& list) REQUIRES(lock_);
  void push(u16& list, u16 slot) REQUIRES(lock_);
  Result<u16> take_empty();
  void drop_empty(u16 slot);
  Result<> add_objects(u16 slot);
  Result<> add_stack(u16 slot);
  void remove_stack(u16 slot, u32 pages);
  ThreadPlace place_of(u16 slot) REQUIRES(lock_);

  SpinLock lock_{LockRank::StackPool};
  VirtAddr base_{};
  u32 slot_count_ = 0;
  u32 used_ GUARDED_BY(lock_) = 0;
  u32 cached_count_ GUARDED_BY(lock_) = 0;
  u16 cached_ GUARDED_BY(lock_) = kNone;  // with pages, mapped
  u16 empty_ GUARDED_BY(lock_) = kNone;
  StackSlot slots_[kStackSlots]{};
  ObjectGroup groups_[kGroups] GUARDED_BY(lock_){};
};

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

void StackPool::init() {
  base_ = layout().vmalloc_start;
  // A small dynamic area is shared half and half.
  slot_count_ = std::min(kStackSlots, (layout().vmalloc_end() - base_) / 2 / kStackSlotBytes);
  const SpinGuard<IrqSave> guard{lock_};
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

Result<u16> StackPool::take_empty() {
  const SpinGuard<IrqSave> guard{lock_};
  const u16 slot = pop(empty_);
  if (slot == kNone) return std::unexpected(Error::TooLarge);
  ++groups_[slot / kObjectsPerPage].slots_with_stack;
  return slot;
}

/// Its stack is gone; with the last one of a group the objects go too.
void StackPool::drop_empty(u16 slot) {
  ObjectCell* cells = nullptr;
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
      group.cells = reinterpret_cast<ObjectCell*>(page.raw());
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
    change_entry(stack_of(slot) + i * kPageSize, make_leaf(to_phys(page_to_pfn(*page)), arch::Protection::ReadWrite));
  }
  return {};
}

/// Of a stack that was never used, so that there is hardly a translation to wait for.
void StackPool::remove_stack(u16 slot, u32 pages) {
  for (u32 i = 0; i < pages; ++i) change_entry(stack_of(slot) + i * kPageSize, arch::PteValue{});
  if (pages != 0) arch::tlb_wait_for_generation(arch::tlb_new_generation());
  for (u32 i = 0; i < pages; ++i) free_page(slots_[slot].pages[i]);
}

ThreadPlace StackPool::place_of(u16 slot) {
  ++used_;
  ObjectCell& cell = groups_[slot / kObjectsPerPage].cells[slot % kObjectsPerPage];
  cell.slot = slot;
  return ThreadPlace{cell.object, stack_of(slot) + kThreadStackBytes};
}

Result<ThreadPlace> StackPool::take() {
  {
    const SpinGuard<IrqSave> guard{lock_};
    if (const u16 slot = pop(cached_); slot != kNone) {
      --cached_count_;
      return place_of(slot);
    }
  }
  const u16 slot = TRY(take_empty());
  Result<> made = add_objects(slot);
  if (made) made = add_stack(slot);
  if (!made) {
    drop_empty(slot);
    return std::unexpected(made.error());
  }
  const SpinGuard<IrqSave> guard{lock_};
  return place_of(slot);
}

void StackPool::give_back(void* object) {
  const u32 slot = static_cast<ObjectCell*>(object)->slot;
  ASSERT(slot < slot_count_);
  const SpinGuard<IrqSave> guard{lock_};
  --used_;
  ++cached_count_;
  push(cached_, static_cast<u16>(slot));
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
  arch::tlb_wait_for_generation(arch::tlb_new_generation());  // no CPU may reach the frames once they are free
  while (list != kNone) {
    const u16 slot = list;
    list = slots_[slot].next;
    for (Page* page : slots_[slot].pages) free_page(page);
    drop_empty(slot);
  }
}

StackPoolCounts StackPool::counts() {
  const SpinGuard<IrqSave> guard{lock_};
  return {slot_count_, used_, cached_count_};
}

}  // namespace

void init_stack_pool() {
  pool.init();
  set_thread_memory(pool);
}

VirtAddr stack_window_end() { return pool.end(); }

std::optional<VirtAddr> guard_page_below(VirtAddr inside) {
  if (inside < pool.start() || inside >= pool.end()) return std::nullopt;
  return inside - (inside - pool.start()) % kStackSlotBytes;
}

void trim_stack_pool() { pool.trim(); }
StackPoolCounts stack_pool_counts() { return pool.counts(); }

}  // namespace paean
