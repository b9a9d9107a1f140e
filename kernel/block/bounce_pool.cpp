#include <algorithm>
#include <new>

#include "kernel/block/bounce.hpp"
#include "kernel/fault.hpp"
#include "mm/vmalloc.hpp"

namespace paean {

namespace {

FAULT_SITE(bounce_pool, "a page of a bounce pool");

PhysAddr end_of(const Page* page) { return to_phys(page_to_pfn(page)) + (kPageSize - 1); }

}  // namespace

// All in one area of highmem: records, the pages' words, a byte of marks for each.
Result<> BouncePool::fill(u32 pages, AllocFlags flags, PhysAddr highest) {
  const u32 table_at = kRecords * sizeof(BounceRecord), marks_at = table_at + pages * sizeof(Page*);
  void* memory = TRY(vmalloc(marks_at + pages, AllocFlags::HighUser, "bounce records"));
  auto* bytes = static_cast<u8*>(memory);
  auto* records = new (bytes) BounceRecord[kRecords];
  auto* table = new (bytes + table_at) Page*[pages];
  u8* marks = bytes + marks_at;
  u32 got = 0;
  while (got < pages && !must_fail(fault_bounce_pool)) {
    const Result<Page*> page = alloc_page(flags | AllocFlags::NoWarn, Owner::Bounce);
    if (!page) break;
    if (end_of(*page) > highest) {
      free_page(*page);
      break;
    }
    table[got++] = *page;
  }
  if (got == 0) {
    vfree(memory);
    return std::unexpected(Error::OutOfMemory);
  }
  const SpinGuard<IrqSave> guard{lock_};
  memory_ = memory;
  pages_ = {table, got};
  sectors_ = BounceSectors{{marks, got}};
  capacity_ = unreserved_ = sectors_.capacity();
  for (u32 i = kRecords; i-- != 0;) {
    records[i].pool = this;
    records[i].next_free = free_records_;
    free_records_ = &records[i];
  }
  return {};
}

void BouncePool::drain() {
  {
    const SpinGuard<IrqSave> guard{lock_};
    ASSERT(unreserved_ == capacity_ && first_ == nullptr);
    capacity_ = unreserved_ = 0;
    free_records_ = nullptr;
  }
  for (Page* page : pages_) free_page(page);
  pages_ = {};
  vfree(memory_);
}

BounceRecord* BouncePool::grant(u32 sectors) {
  BounceRecord* record = free_records_;
  free_records_ = record->next_free;
  unreserved_ -= sectors;
  record->pieces = 0;
  record->reserved = sectors;
  statistics_.most_used = std::max(statistics_.most_used, capacity_ - unreserved_);
  return record;
}

BounceRecord& BouncePool::reserve(u32 sectors) {
  ASSERT(sectors <= most_sectors());
  might_sleep("bounce memory");
  Waiter waiter;
  waiter.sectors = sectors;
  {
    const SpinGuard<IrqSave> guard{lock_};
    ++statistics_.parts;
    if (first_ == nullptr && can_grant(sectors)) return *grant(sectors);
    (first_ == nullptr ? first_ : last_->next) = &waiter;
    last_ = &waiter;
    ++statistics_.waiting;
    ++statistics_.waits;
  }
  waiter.granted.wait();
  return *waiter.record;
}

/// Whoever waits first is served first, also if there is enough for somebody behind him.
void BouncePool::serve_waiters() {
  while (first_ != nullptr && can_grant(first_->sectors)) {
    Waiter& waiter = *first_;
    first_ = waiter.next;
    --statistics_.waiting;
    waiter.record = grant(waiter.sectors);
    waiter.granted.complete();  // it may be gone now
  }
}

u32 BouncePool::add_bounced(BounceRecord& record, Page* page, u32 offset, u32 bytes) {
  const SpinGuard<IrqSave> guard{lock_};
  const BounceSectors::Run run = sectors_.take(std::min(bytes >> kSectorShift, record.reserved));
  record.reserved -= run.count;
  const u32 taken = run.count << kSectorShift;
  record.segments[record.pieces] = {pages_[run.page], run.first << kSectorShift, taken};
  record.targets[record.pieces] = {page, offset, run.page};
  ++record.pieces;
  return taken;
}

void BouncePool::give_rest(BounceRecord& record) {
  const SpinGuard<IrqSave> guard{lock_};
  unreserved_ += record.reserved;
  record.reserved = 0;
  serve_waiters();
}

void BouncePool::release(BounceRecord& record) {
  const SpinGuard<IrqSave> guard{lock_};
  unreserved_ += record.reserved;
  for (u32 i = 0; i < record.pieces; ++i) {
    if (record.targets[i].page == nullptr) continue;
    const Segment& piece = record.segments[i];
    const u32 count = piece.bytes >> kSectorShift;
    sectors_.give({record.targets[i].pool_page, piece.offset >> kSectorShift, count});
    unreserved_ += count;
  }
  record.next_free = free_records_;
  free_records_ = &record;
  serve_waiters();
}

void BouncePool::count(BlockOp op, u32 sectors) {
  const SpinGuard<IrqSave> guard{lock_};
  (op == BlockOp::Read ? statistics_.sectors_read : statistics_.sectors_written) += sectors;
}

BounceStatistics BouncePool::statistics() {
  const SpinGuard<IrqSave> guard{lock_};
  BounceStatistics now = statistics_;
  now.pages = static_cast<u32>(pages_.size());
  now.sectors = capacity_;
  now.free = unreserved_;
  return now;
}

}  // namespace paean
