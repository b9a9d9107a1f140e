#include "kernel/block/queue.hpp"

#include <new>

#include "arch/interrupts.hpp"
#include "kernel/block/bounce.hpp"
#include "kernel/block/dma_pieces.hpp"
#include "mm/kmalloc.hpp"
#include "mm/vmalloc.hpp"

namespace paean {

namespace {

PhysAddr address_of(const Segment& segment) { return to_phys(page_to_pfn(segment.page)) + segment.offset; }

u32 ticks_for(const BlockLimits& limits, BlockOp op) {
  constexpr u32 kFlushFactor = 3;
  const u32 ticks = limits.timeout_ms / (1000 / arch::kTicksPerSecond) + 1;
  return op == BlockOp::Flush ? kFlushFactor * ticks : ticks;
}

/// Everything of the request that is still to be done; false if not all of it fits.
bool add_rest(DmaPieces& pieces, const BlockRequest& request) {
  u32 skip = request.at_byte;
  for (const Segment& segment : request.segments.subspan(request.at_segment)) {
    const u32 wanted = segment.bytes - skip;
    if (pieces.add(address_of(segment) + skip, wanted) != wanted) return false;
    skip = 0;
  }
  return true;
}

void advance(BlockRequest& request, u32 bytes) {
  request.position += bytes >> kSectorShift;
  for (bytes += request.at_byte; bytes != 0 && bytes >= request.segments[request.at_segment].bytes;
       ++request.at_segment)
    bytes -= request.segments[request.at_segment].bytes;
  request.at_byte = bytes;
}

void tell(BlockRequests& done, const Result<>& result) {
  while (!done.empty()) {
    BlockRequest& request = done.front();
    done.pop_front();
    request.done(request, result);
  }
}

}  // namespace

void CommandClock::start(u32 now, u32 ticks) {
  ticks_ = ticks;
  __atomic_store_n(&due_, now + ticks, __ATOMIC_RELAXED);
  __atomic_store_n(&held_, 0u, __ATOMIC_RELEASE);
}

void CommandClock::restart() { start(ticks_now(), ticks_); }

bool CommandClock::is_late(u32 now) const {
  // Not held: then `due_` is at least as new as the restart that let it go.
  if (__atomic_load_n(&held_, __ATOMIC_ACQUIRE) != 0) return false;
  return static_cast<i32>(now - __atomic_load_n(&due_, __ATOMIC_RELAXED)) >= 0;
}

Result<BlockQueue*> BlockQueue::create(BlockDevice& device) {
  BouncePool* pool = TRY(bounce_pool_for(device.limits()));
  void* memory = TRY(kmalloc(sizeof(BlockQueue), AllocFlags::Kernel));
  auto* queue = new (memory) BlockQueue{device, pool};
  const Result<> made = queue->make_slots();
  if (made) return queue;
  kfree(queue);
  return std::unexpected(made.error());
}

Result<> BlockQueue::make_slots() {
  const BlockLimits& limits = device_.limits();
  const u32 slots = limits.queue_depth, pieces = limits.max_segments;
  void* memory = TRY(vmalloc(slots * (sizeof(Slot) + pieces * sizeof(DmaPiece)), AllocFlags::HighUser, "block queue"));
  auto* bytes = static_cast<u8*>(memory);
  slots_ = {new (bytes) Slot[slots], slots};
  auto* room = new (bytes + slots * sizeof(Slot)) DmaPiece[slots * pieces];
  const SpinGuard<IrqSave> guard{lock_};
  for (u32 tag = slots; tag-- != 0;) {
    Slot* slot = &slots_[tag];
    slot->command.tag = tag;
    slot->room = {room + tag * pieces, pieces};
    slot->next_free = free_;
    free_ = slot;
  }
  return {};
}

void BlockQueue::destroy(BlockQueue* queue) {
  { const SpinGuard<IrqSave> last_holder_is_out{queue->lock_}; }
  vfree(queue->slots_.data());
  kfree(queue);
}

void BlockQueue::add(BlockRequests& requests) {
  {
    const SpinGuard<IrqSave> guard{lock_};
    if (!stopped_) {
      const u32 now = ticks_now();
      while (!requests.empty()) {
        BlockRequest& request = requests.front();
        requests.pop_front();
        order_.add(request, now);
      }
      start_commands();
      return;
    }
  }
  tell(requests, std::unexpected(Error::Io));
}

void BlockQueue::add(BlockRequest& request) {
  BlockRequests one;
  one.push_back(request);
  add(one);
}

void BlockQueue::fill(Slot& slot, BlockRequest& first) {
  DmaPieces pieces{device_.limits(), slot.room};
  slot.partial = !add_rest(pieces, first);
  slot.requests.push_back(first);
  if (!slot.partial && !first.alone && first.op != BlockOp::Flush) {
    while (BlockRequest* next = order_.follower(first.op, first.position + (pieces.bytes() >> kSectorShift))) {
      const DmaPieces::Mark mark = pieces.mark();
      if (!add_rest(pieces, *next)) {
        pieces.rewind(mark);
        break;
      }
      order_.take(*next, next->position);
      slot.requests.push_back(*next);
      ++statistics_.merged;
    }
  }
  BlockCommand& command = slot.command;
  command.op = first.op;
  command.sector = first.position;
  command.sectors = pieces.bytes() >> kSectorShift;
  command.pieces = pieces.pieces();
  command.driver_data = nullptr;
}

void BlockQueue::start_commands() {
  const u32 now = ticks_now(), before = running_;
  while (free_ != nullptr && !aborting_) {
    BlockRequest* first = order_.take(now, running_);
    if (first == nullptr) break;
    Slot& slot = *free_;
    free_ = slot.next_free;
    fill(slot, *first);
    slot.command.clock.start(now, ticks_for(device_.limits(), slot.command.op));
    slot.state = State::Running;
    slot.answered = false;
    ++running_;
    note_command_started();
    device_.start(slot.command);
  }
  if (running_ != before) device_.end_of_starts();
}

void BlockQueue::count(const Slot& slot, const Result<>& result) {
  if (!result) {
    ++(result.error() == Error::TimedOut ? statistics_.timeouts : statistics_.errors);
    return;
  }
  switch (slot.command.op) {
    case BlockOp::Read:
      ++statistics_.reads;
      statistics_.sectors_read += slot.command.sectors;
      break;
    case BlockOp::Write:
      ++statistics_.writes;
      statistics_.sectors_written += slot.command.sectors;
      break;
    case BlockOp::Flush: ++statistics_.flushes;
  }
}

/// Leaves in `done` whom to tell of `result`.
void BlockQueue::end_command(Slot& slot, Result<>& result, BlockRequests& done) {
  count(slot, result);
  slot.state = State::Free;
  slot.next_free = free_;
  free_ = &slot;
  --running_;
  note_command_ended();
  if (slot.command.op == BlockOp::Flush) order_.flush_is_done();

  const bool more = result && slot.partial;
  const bool was_merged =
      !result && result.error() != Error::TimedOut && &slot.requests.front() != &slot.requests.back();
  if (more) advance(slot.requests.front(), slot.command.sectors * kSectorBytes);
  if ((!more && !was_merged) || stopped_) {
    if (more) result = std::unexpected(Error::Io);
    done.swap(slot.requests);
  }
  while (!slot.requests.empty()) {
    BlockRequest& request = slot.requests.front();
    slot.requests.pop_front();
    request.alone |= was_merged;
    order_.put_back(request, ticks_now());
  }
  if (stopped_ && running_ == 0) idle_.complete();
}

void BlockQueue::finish(BlockCommand& command, Result<> result) {
  Slot& slot = slots_[command.tag];
  ASSERT(&slot.command == &command);
  BlockRequests done;
  {
    const SpinGuard<IrqSave> guard{lock_};
    if (slot.state == State::Aborting) {
      slot.answer = result;
      slot.answered = true;
      return;
    }
    ASSERT(slot.state == State::Running);  // finished once
    end_command(slot, result, done);
    start_commands();
  }
  tell(done, result);
}

BlockQueue::Slot* BlockQueue::take_late_slot(u32 now) {
  const SpinGuard<IrqSave> guard{lock_};
  for (Slot& slot : slots_) {
    if (slot.state != State::Running || !slot.command.clock.is_late(now)) continue;
    slot.state = State::Aborting;
    aborting_ = true;
    return &slot;
  }
  return nullptr;
}

void BlockQueue::expire(u32 now) {
  while (Slot* slot = take_late_slot(now)) {
    device_.abort(slot->command);
    Result<> result = std::unexpected(Error::TimedOut);
    BlockRequests done;
    {
      const SpinGuard<IrqSave> guard{lock_};
      if (slot->answered) result = slot->answer;
      aborting_ = false;
      end_command(*slot, result, done);
      start_commands();
    }
    tell(done, result);
  }
}

void BlockQueue::stop() {
  BlockRequests refused;
  {
    const SpinGuard<IrqSave> guard{lock_};
    stopped_ = true;
    while (BlockRequest* request = order_.take_any()) refused.push_back(*request);
    if (running_ == 0) idle_.complete();
  }
  tell(refused, std::unexpected(Error::Io));
  while (!idle_.wait_for_ms(100)) expire(ticks_now());  // nobody else looks at the time any more
}

BlockStatistics BlockQueue::statistics() {
  const SpinGuard<IrqSave> guard{lock_};
  return statistics_;
}

void BlockQueue::count_bounced(u32 bytes) {
  const SpinGuard<IrqSave> guard{lock_};
  statistics_.bounced_bytes += bytes;
}

}  // namespace paean
