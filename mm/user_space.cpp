#include "mm/user_space.hpp"

#include <new>

#include "kernel/fault.hpp"
#include "kernel/thread.hpp"
#include "mm/shared_memory.hpp"
#include "mm/slab.hpp"
#include "mm/user_copy.hpp"
#include "mm/user_swap.hpp"

namespace paean {

namespace {

FAULT_SITE(user_area, "a description of an area of a user space");

constinit ObjectCache spaces, areas;
PER_CPU(UserSpace*, current_space){nullptr};

void count_file(MappedFile& file, i32 change) { change > 0 ? file.get() : file.put(); }

constexpr UserAccess kReadWrite = UserAccess::Read | UserAccess::Write;

}  // namespace

Result<> take_areas(AreaSpares& spares, u32 count) {
  while (spares.count() < count) {
    if (must_fail(fault_user_area)) return std::unexpected(Error::OutOfMemory);
    spares.push(*new (TRY(take_object(areas, AllocFlags::Kernel))) Area);
  }
  return {};
}

void give_areas(AreaSpares& spares) {
  while (spares.count() != 0) {
    Area& area = spares.pop();
    if (area.file != nullptr) area.file->put();
    give_object(areas, &area);
  }
}

UserSpace::UserSpace() : areas_(count_file) {}

Result<UserSpace*> UserSpace::create() {
  auto* space = new (TRY(take_object(spaces, AllocFlags::Kernel))) UserSpace;
  if (const Result<> made = space->tables_.create(); !made) {
    space->~UserSpace();
    give_object(spaces, space);
    return std::unexpected(made.error());
  }
  UserSpaceList::add(*space);
  return space;
}

UserSpace* UserSpace::current() { return current_space.get(); }

void UserSpace::load(UserSpace* space, arch::IrqsOff off) {
  current_space.set(space);
  current_tables.set(space != nullptr ? &space->tables_ : nullptr);
  if (space != nullptr)
    arch::load_user_tlb(space->tables_.tlb(), off);
  else
    arch::make_user_tlb_lazy(off);
}

void switch_user_space(Thread* to, arch::IrqsOff off) {
  UserSpace* space = thread_user_space(to);
  if (space != current_space.get()) UserSpace::load(space, off);
}

void UserSpace::switch_to(UserSpace* space) {
  UserSpace* old = current();
  if (old == space) return;
  if (space != nullptr) space->get();
  // The last user: its pages go while the window shows their entries.
  if (old != nullptr && old->references_.load(std::memory_order_acquire) == 1) old->clear();
  {
    const arch::IrqsOffGuard off;
    UserSpaceList::note_use(space, off.token());
    load(space, off.token());
  }
  if (old != nullptr) old->put();
}

void UserSpace::get() { references_.fetch_add(1, std::memory_order_relaxed); }

void UserSpace::put() {
  might_sleep("UserSpace::put");
  if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1) end();
}

UserSize UserSpace::rough_size() const NO_THREAD_SAFETY_ANALYSIS {
  return UserSize{.space = this,
                  .mapped = areas_.pages(),
                  .anonymous = anonymous_,
                  .file = file_,
                  .swapped = swapped_,
                  .tables = tables_.table_pages(),
                  .areas = areas_.count(),
                  .users = references_.load(std::memory_order_relaxed)};
}

void UserSpace::end() {
  UserSpaceList::remove(*this);
  arch::drop_user_tlb(tables_.tlb());
  clear();
  ASSERT(anonymous_ == 0 && file_ == 0 && swapped_ == 0);
  wait_for_movers();
  tables_.destroy();
  this->~UserSpace();
  give_object(spaces, this);
}

void UserSpace::clear() {
  Spares spares;
  const WriteGuard guard{layout_};
  {
    // With no reference but the caller's there is no thread that could use what the TLBs still know.
    const bool mine = references_.load(std::memory_order_acquire) <= 1;
    PageGather gather{tables_.tlb(), mine ? PageGather::Users::NoMore : PageGather::Users::Some};
    while (Area* area = areas_.first()) {
      zap(*area, area->start, area->end, gather);
      areas_.remove(*area);
      spares.removed.push(*area);
    }
  }
  break_start_ = break_ = VirtAddr{};
}

void UserSpace::place_break(VirtAddr start) {
  const WriteGuard guard{layout_};
  break_start_ = break_ = start;
}

VirtAddr UserSpace::move_break(VirtAddr wanted, Spares& spares) {
  if (wanted < break_start_ || wanted > user_end() || break_start_ == VirtAddr{}) return break_;
  const VirtAddr old_end = break_.align_up(kPageSize), new_end = wanted.align_up(kPageSize);
  if (new_end < old_end) {
    if (!unmap_locked(new_end, old_end, spares)) return break_;
  } else if (new_end > old_end) {
    if (old_end < kLowestUser || new_end > user_end() || !areas_.is_free(old_end, new_end)) return break_;
    if (areas_.count() >= kMostAreas) return break_;
    Area like;
    like.access = kReadWrite;
    (void)add_area(old_end, new_end, like, spares);
  }
  return break_ = wanted;
}

VirtAddr UserSpace::set_break(VirtAddr wanted) {
  Spares spares;
  const bool have = spares.take(2).has_value();
  const WriteGuard guard{layout_};
  return have ? move_break(wanted, spares) : break_;
}

bool UserSpace::grow_stack(VirtAddr page) {
  const WriteGuard guard{layout_};
  Area* area = areas_.at_or_above(page);
  if (area == nullptr) return false;
  if (area->start <= page) return true;  // another thread was faster
  if (!area->grows() || area->end - page > kStackLimit) return false;
  if (const Area* below = areas_.previous(*area); below != nullptr && !below->grows()) {
    if (page < below->end || page - below->end < kStackGap) return false;
  }
  areas_.extend_down(*area, page);
  return true;
}

UserCounters UserSpace::counters() {
  const ReadGuard layout{layout_};
  const SpinGuard<NoIrq> guard{entries_};
  return UserCounters{.anonymous = anonymous_,
                      .file = file_,
                      .swapped = swapped_,
                      .tables = tables_.table_pages(),
                      .areas = areas_.count(),
                      .mapped = areas_.pages(),
                      .faults = faults_.load(),
                      .copies = copies_.load(),
                      .reused = reused_.load()};
}

void UserSpace::check_counts() {
  const SpinGuard<NoIrq> guard{entries_};
  ASSERT(anonymous_ + file_ + swapped_ == tables_.entries());
}

void UserSpace::print(Sink& out) {
  const ReadGuard guard{layout_};
  for (Area* area = areas_.first(); area != nullptr; area = areas_.next(*area)) {
    const auto letter = [&](UserAccess bit, char c) { return has(area->access, bit) ? c : '-'; };
    format_to(out, "{:08x}-{:08x} {}{}{}{} {:08x} {}\n", area->start, area->end, letter(UserAccess::Read, 'r'),
              letter(UserAccess::Write, 'w'), letter(UserAccess::Execute, 'x'), area->is_shared() ? 's' : 'p',
              area->first_page,
              area->file != nullptr ? area->file->name()
              : area->grows()       ? "[stack]"
                                    : "");
  }
}

void init_user_spaces(const CommandLine& options) {
  init_user_tables(options);
  init_shared_memory();
  init_user_copies();
  ASSERT(spaces.init({.name = "user_space", .size = sizeof(UserSpace), .align = alignof(UserSpace)}).has_value());
  ASSERT(areas.init({.name = "user_area", .size = sizeof(Area), .align = alignof(Area)}).has_value());
}

}  // namespace paean
