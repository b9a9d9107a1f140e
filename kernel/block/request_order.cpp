#include "kernel/block/request_order.hpp"

namespace paean {

void RequestOrder::add(BlockRequest& request, u32 now) {
  request.arrived = now;
  arrivals_.push_back(request);
  if (request.op == BlockOp::Flush) barrier_ = true;
  if (!barrier_) sorted_.insert(request);
}

void RequestOrder::put_back(BlockRequest& request, u32 now) {
  request.arrived = now;
  arrivals_.push_back(request);
  sorted_.insert(request);
}

BlockRequest& RequestOrder::choose(u32 now) {
  BlockRequest& oldest = arrivals_.front();
  const bool is_flush = !oldest.by_sector.is_linked();  // then nothing more is sorted in, so nobody can be delayed
  if (!is_flush && now - oldest.arrived >= kPatienceTicks) return oldest;
  const auto next = sorted_.lower_bound(head_);
  return next == sorted_.end() ? *sorted_.begin() : *next;
}

void RequestOrder::remove(BlockRequest& request) {
  arrivals_.erase(arrivals_.iterator_to(request));
  if (request.by_sector.is_linked()) sorted_.erase(sorted_.iterator_to(request));
}

BlockRequest* RequestOrder::take(u32 now, u32 running) {
  if (arrivals_.empty()) return nullptr;
  if (sorted_.empty()) {
    BlockRequest& flush = arrivals_.front();
    // Without a barrier everything is sorted in; while a flush runs, others stand in front.
    if (running != 0 || flush.op != BlockOp::Flush) return nullptr;
    remove(flush);
    return &flush;
  }
  BlockRequest& chosen = choose(now);
  remove(chosen);
  head_ = chosen.position;
  return &chosen;
}

BlockRequest* RequestOrder::follower(BlockOp op, Sector position) {
  for (auto at = sorted_.lower_bound(position); at != sorted_.end() && at->position == position; ++at) {
    if (at->op == op && !at->alone) return &*at;
  }
  return nullptr;
}

void RequestOrder::take(BlockRequest& request, Sector end) {
  remove(request);
  head_ = end;
}

void RequestOrder::flush_is_done() {
  barrier_ = false;
  for (BlockRequest& request : arrivals_) {
    if (request.op == BlockOp::Flush) {
      barrier_ = true;
      return;
    }
    sorted_.insert(request);
  }
}

BlockRequest* RequestOrder::take_any() {
  if (arrivals_.empty()) return nullptr;
  BlockRequest& request = arrivals_.front();
  remove(request);
  return &request;
}

}  // namespace paean
