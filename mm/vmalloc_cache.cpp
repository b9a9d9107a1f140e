#include "mm/vmalloc_cache.hpp"

#include "arch/address_space.hpp"
#include "arch/tlb_checker.hpp"
#include "kernel/preempt.hpp"
#include "mm/free_batch.hpp"
#include "mm/vcompound.hpp"

namespace paean {

constinit CpuAreas cpu_areas[arch::kMaxCpus];

namespace {

constexpr u32 kRefill = 4;
constexpr u32 kAtomicPages = 2 * kBatchPages;  // at a time, so that interrupts are not held up for long

constinit std::atomic<u32> newest_stamp{0}, waits{0}, purges{0};
constinit u32 parked_pages_of_all = 0;  // more than that by all CPUs together, and whoever may wait does

u32 parked_limit() { return parked_pages_of_all / arch::online_cpus(); }

[[gnu::noinline]] void end_vcompound(const VmArea& area) {
  for_each_entry(area, [](const arch::Pte& entry) { leave_vcompound(pfn_to_page(frame_in(entry))); });
}

void free_frames(const VmAreaStack& areas) {
  constexpr u32 kAtOnce = 32;
  Page* frames[kAtOnce];
  u32 count = 0;
  areas.for_each([&](const VmArea& area) {
    if (area.kind == VmKind::Compound) [[unlikely]]
      end_vcompound(area);
    for_each_entry(area, [&](arch::Pte& entry) {
      if (count == kAtOnce) [[unlikely]] {
        free_each_page({frames, count});
        count = 0;
      }
      frames[count] = pfn_to_page(frame_in(entry));
      ++count;
      entry.clear();
    });
  });
  free_each_page({frames, count});
}

/// For the checker of debug builds: frames and addresses belong to nobody until every CPU has flushed.
void note_stamped(const VmAreaStack& areas, u32 stamp) {
#ifdef PAEAN_DEBUG
  areas.for_each([stamp](const VmArea& area) {
    arch::note_unmapped(area.start(), area.used, stamp);
    for_each_entry(area, [stamp](const arch::Pte& entry) { arch::note_frame_unmapped(frame_in(entry), stamp); });
  });
#else
  (void)areas, (void)stamp;
#endif
}

void note_frames_shot_down(const VmAreaStack& areas) {
#ifdef PAEAN_DEBUG
  areas.for_each([](const VmArea& area) {
    for_each_entry(area, [](const arch::Pte& entry) { arch::note_frame_shot_down(frame_in(entry)); });
  });
#else
  (void)areas;
#endif
}

void wait_for(u32 stamp) {
  waits.fetch_add(1, std::memory_order_relaxed);
  arch::tlb_wait_for_generation(stamp);
}

/// One flush for all that is parked, of the range that it lies in or, if that is large, of everything. Waits for the
/// other CPUs.
void flush_parked() {
  AreaSpan span;
  u32 stamps[arch::kMaxCpus];
  for (u32 i = 0; i < arch::kMaxCpus; ++i) stamps[i] = cpu_areas[i].stamp(span);
  if (span.empty()) return;
  waits.fetch_add(1, std::memory_order_relaxed);
  arch::tlb_shootdown(span.start(), span.pages());
  if (span.pages() > arch::kTlbRangeLimit) return;  // a flush of everything: their generations say that they are done
  for (u32 i = 0; i < arch::kMaxCpus; ++i) cpu_areas[i].note_shot_down(stamps[i]);
}

/// Gives back all that is parked, with one flush, and all that is cached. False if that was nothing.
bool purge_all() {
  VmallocStatistics sum{};
  for (CpuAreas& cpu : cpu_areas) cpu.add_to(sum);
  if (sum.parked == 0 && sum.cached == 0) return false;
  purges.fetch_add(1, std::memory_order_relaxed);
  flush_parked();
  for (CpuAreas& cpu : cpu_areas) cpu.purge_done();
  for (CpuAreas& cpu : cpu_areas) cpu.drop_cached();
  return true;
}

/// On the way through the slow path: flushes this CPU if it is behind, so that nobody has to interrupt it; and looks
/// after CPUs whose interrupts free more than their threads purge.
void pass_by() {
  const u32 stamp = newest_stamp.load(std::memory_order_relaxed);
  if (static_cast<i32>(arch::tlb_cpu_generation(arch::this_cpu()) - stamp) < 0) arch::flush_tlb_all();
  this_cpu_areas().purge_done();
  for (u32 cpu = 0; cpu < arch::online_cpus(); ++cpu) {
    if (cpu_areas[cpu].has_too_much()) cpu_areas[cpu].purge_some();
  }
}

}  // namespace

void init_vmalloc_cache(u32 address_pages) {
  const u32 memory = (low_totals().total + high_totals().total).count() / 32;
  const u32 addresses = address_pages / 4;  // with a guard page behind each page half of the space, at most
  parked_pages_of_all = memory < addresses ? memory : addresses;
}

/// Into the youngest batch if there are too many.
void CpuAreas::stamp_open() {
  if (open_.areas.empty()) return;
  open_.stamp = arch::tlb_new_generation();
  newest_stamp.store(open_.stamp, std::memory_order_relaxed);
  note_stamped(open_.areas, open_.stamp);
  stamped_pages_ += open_.pages;
  ++batches_;
  if (stamped_count_ == kBatches) {
    Batch& youngest = stamped_[kBatches - 1];
    youngest.areas.take_from(open_.areas);
    youngest.pages += open_.pages;
    youngest.stamp = open_.stamp;
    youngest.is_shot_down = false;
  } else {
    stamped_[stamped_count_++] = open_;
  }
  open_ = Batch{};
}

void CpuAreas::stamp() {
  const SpinGuard<IrqSave> guard{lock_};
  stamp_open();
}

u32 CpuAreas::stamp(AreaSpan& span) {
  const SpinGuard<IrqSave> guard{lock_};
  stamp_open();
  for (u32 i = 0; i < stamped_count_; ++i) {
    const Batch& batch = stamped_[i];
    if (!batch.is_done() && !batch.areas.all_of([&](const VmArea& area) { return span.add(area); })) break;
  }
  return arch::tlb_newest_generation();  // what is stamped later has a younger one
}

void CpuAreas::note_shot_down(u32 stamp) {
  const SpinGuard<IrqSave> guard{lock_};
  for (u32 i = 0; i < stamped_count_; ++i) {
    Batch& batch = stamped_[i];
    if (static_cast<i32>(batch.stamp - stamp) > 0) return;
    if (batch.is_done()) continue;
    batch.is_shot_down = true;
    note_frames_shot_down(batch.areas);
  }
}

/// The oldest batch, or as much of it as may be purged at a time, if no CPU can reach its areas any more; otherwise an
/// empty one.
CpuAreas::Batch CpuAreas::take_done(u32 most_pages) {
  const SpinGuard<IrqSave> guard{lock_};
  if (stamped_count_ == 0 || !stamped_[0].is_done()) return Batch{};
  if (stamped_[0].pages > most_pages) return take_part(stamped_[0], most_pages);
  const Batch done = stamped_[0];
  --stamped_count_;
  for (u32 i = 0; i < stamped_count_; ++i) stamped_[i] = stamped_[i + 1];
  stamped_pages_ -= done.pages;
  return done;
}

CpuAreas::Batch CpuAreas::take_part(Batch& batch, u32 most_pages) {
  Batch part{.stamp = batch.stamp, .is_shot_down = batch.is_shot_down};
  while (VmArea* area = batch.areas.pop()) {
    if (part.pages + area->used > most_pages) {
      batch.areas.push(*area);
      break;
    }
    part.areas.push(*area);
    part.pages += area->used;
  }
  batch.pages -= part.pages;
  stamped_pages_ -= part.pages;
  return part;
}

void CpuAreas::purge_done(u32 most_batches) {
  const u32 most_pages = in_atomic_context() ? kAtomicPages : ~0u;
  for (u32 i = 0; i < most_batches; ++i) {
    Batch done = take_done(most_pages);
    if (done.areas.empty()) return;
    free_frames(done.areas);
    settle(done.areas);
  }
}

void CpuAreas::purge_some() {
  bool is_crowded = false;
  {
    const SpinGuard<IrqSave> guard{lock_};
    stamp_open();
    arch::flush_tlb_all();
    is_crowded = stamped_count_ > kBatches / 2;
  }
  // As many as were parked, or a little more: all the frames that another CPU's flush releases at once would be more
  // than the page stacks hold, and go to the buddy and back.
  purge_done(has_too_much() ? kBatches : is_crowded ? 2 : 1);
  if (!has_too_much()) return;
  const bool may_wait = !in_atomic_context();
  u32 stamp = 0;
  {
    const SpinGuard<IrqSave> guard{lock_};
    if (stamped_count_ == 0) return;
    stamp = stamped_[stamped_count_ - 1].stamp;
    if (!may_wait && !arch::tlb_generation_is_done(requested_)) return;  // they have been asked already
    requested_ = stamp;
  }
  if (!may_wait) return arch::tlb_request_generation(stamp);
  wait_for(stamp);
  purge_done();
}

bool CpuAreas::has_too_much() const { return stamped_pages_ >= parked_limit(); }

void CpuAreas::note_live(i32 change) {
  const SpinGuard<IrqSave> guard{lock_};
  live_ += static_cast<u32>(change);
}

void CpuAreas::settle(VmAreaStack& areas) {
  VmAreaStack rest;
  {
    const SpinGuard<IrqSave> guard{lock_};
    const u32 most = parked_limit() / 2;
    while (VmArea* area = areas.pop()) {
      area->state.store(VmState::Cached, std::memory_order_relaxed);
      if (area->used > kCachedSizes || area->entries == nullptr || cached_pages_ >= most) {
        rest.push(*area);
        continue;
      }
      cached_pages_ += area->used;
      cached_[area->used - 1].push(*area);
    }
  }
  give_addresses(rest);
}

void CpuAreas::drop_cached() {
  VmAreaStack all;
  {
    const SpinGuard<IrqSave> guard{lock_};
    for (VmAreaStack& cached : cached_) all.take_from(cached);
    cached_pages_ = 0;
  }
  give_addresses(all);
}

void CpuAreas::add_to(VmallocStatistics& sum) {
  const SpinGuard<IrqSave> guard{lock_};
  sum.live += live_;
  sum.batches += batches_;
  sum.parked += open_.areas.count();
  sum.parked_pages += open_.pages + stamped_pages_;
  for (u32 i = 0; i < stamped_count_; ++i) sum.parked += stamped_[i].areas.count();
  for (const VmAreaStack& cached : cached_) sum.cached += cached.count();
}

Result<VmArea*> take_area(u32 pages, u32 align) {
  const bool may_be_cached = pages <= kCachedSizes && align == kPageSize;
  if (may_be_cached) {
    if (VmArea* area = this_cpu_areas().take(pages)) return area;
  }
  pass_by();
  VmArea* const area = TRY(take_addresses(pages, align));
  this_cpu_areas().note_live(+1);
  if (!may_be_cached) return area;
  VmAreaStack more;
  while (more.count() != kRefill - 1) {
    const Result<VmArea*> one = take_addresses(pages, align);
    if (!one) break;
    more.push(**one);
  }
  this_cpu_areas().settle(more);
  return area;
}

void return_area(VmArea& area) {
  VmAreaStack one;
  one.push(area);
  CpuAreas& cpu = this_cpu_areas();
  cpu.note_live(-1);
  cpu.settle(one);
}

bool make_room() { return !in_atomic_context() && purge_all(); }

bool give_back_parked() {
  u32 parked = 0;
  for (const CpuAreas& cpu : cpu_areas) parked += cpu.parked_pages();
  if (parked == 0) return false;
  if (in_atomic_context()) {
    for (CpuAreas& cpu : cpu_areas) cpu.stamp();
    arch::flush_tlb_all();
  } else {
    flush_parked();
  }
  for (CpuAreas& cpu : cpu_areas) cpu.purge_done();
  return true;
}

void vmalloc_purge() {
  (void)purge_all();
  (void)trim_descriptors();
}

VmallocStatistics vmalloc_statistics() {
  const VaSpaceCounts counts = vmalloc_space_counts();
  VmallocStatistics sum{};
  sum.total_pages = counts.total;
  sum.free_pages = counts.free;
  sum.largest_free_pages = counts.largest_free;
  sum.waits = waits.load();
  sum.purges = purges.load();
  sum.parked_limit = parked_limit();
  for (CpuAreas& cpu : cpu_areas) cpu.add_to(sum);
  return sum;
}

}  // namespace paean
