// In which order the requests of one device are carried out.
//
//   arrivals   A  B  C  Flush  D  Flush  E            in the order of submit()
//   sorted    {B, A, C}                               by sector: what may be started now
//
// One-way elevator: the request behind the last one is next, and from the end back to the first. A request that has
// waited for kPatienceTicks goes first, so a stream of requests at one place delays others by so much and no more. A
// flush is a barrier: it is started when all that came before it is done, and nothing that came later is sorted in
// before it is done.
//
// Pure; the caller locks. Adding and taking cost O(log n).
// Source: C-SCAN; the deadline as in the schedulers of BSD and Linux.
#pragma once

#include <boost/intrusive/set.hpp>

#include "kernel/block/request.hpp"

namespace paean {

class RequestOrder {
 public:
  static constexpr u32 kPatienceTicks = 50;  // half a second

  /// `request.position` is set.
  void add(BlockRequest& request, u32 now);
  /// One that was taken but is not done, or not completely, with its new position. It waits as if it came now, but no
  /// flush is started before it.
  void put_back(BlockRequest& request, u32 now);

  /// Takes the next one; nullptr if there is none, or if it has to wait for the `running` ones.
  BlockRequest* take(u32 now, u32 running);
  /// One of the same kind that begins at `position` and may be merged; it stays. nullptr if there is none.
  BlockRequest* follower(BlockOp op, Sector position);
  void take(BlockRequest& request, Sector end);
  /// The flush that take() gave is done.
  void flush_is_done();

  bool empty() const { return arrivals_.empty(); }
  /// Takes any, for a device that goes.
  BlockRequest* take_any();

 private:
  struct PositionOf {
    using type = Sector;  // NOLINT(readability-identifier-naming): Boost wants that name
    Sector operator()(const BlockRequest& request) const { return request.position; }
  };
  using Sorted = boost::intrusive::multiset<
      BlockRequest,
      boost::intrusive::member_hook<BlockRequest, boost::intrusive::set_member_hook<>, &BlockRequest::by_sector>,
      boost::intrusive::key_of_value<PositionOf>>;

  BlockRequest& choose(u32 now);
  void remove(BlockRequest& request);

  BlockRequests arrivals_;
  Sorted sorted_;
  Sector head_ = 0;       // behind what was started last
  bool barrier_ = false;  // a flush waits or runs: what arrives is not sorted in
};

}  // namespace paean
