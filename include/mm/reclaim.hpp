// Reclaim for a request: before an allocation fails, everybody who can give pages back is asked, in one order.
//
//   no page --> kmap slots --> lent lowmem --> cached pages --> parked frames --> shrinkers --> swap --> it fails
//               (table in mm/reclaim.cpp: a line for each; cheap and quick ones first, a disk's time and a life last)
//
// Each of them is asked until it has nothing more for this request; after each success the zones are looked at again.
// Context: any. Who cannot wait says so by its flags or is seen by its context; each giver looks at may_wait().
// Source: Linux's direct reclaim, as one table.
#pragma once

#include "mm/page_alloc.hpp"

namespace paean {

/// Pages that somebody wants and the zones up to flags.zone() do not have above their watermarks.
struct ReclaimRequest {
  AllocFlags flags;
  Order order;

  /// Not Atomic, preemption and interrupts on.
  bool may_wait() const;
  /// Also for a disk.
  bool may_start_io() const { return may_wait() && !flags.has(AllocFlags::NoIo); }
};

/// One request's way through the givers.
class Reclaim {
 public:
  Reclaim(AllocFlags flags, Order order) : request_{flags, order} {}
  /// Asks the next one who may help. True: a look at the zones is worth while, and then call again if that was not
  /// enough. False: everybody has been asked.
  bool ask_next();

 private:
  ReclaimRequest request_;
  u32 giver_ = 0;  // in the table
  bool stalled_ = false;
};

}  // namespace paean
