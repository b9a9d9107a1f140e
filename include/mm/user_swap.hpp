// Between the files of the swap: user spaces as the clock sees them.
#pragma once

#include "mm/linked_list.hpp"
#include "mm/swap.hpp"
#include "mm/user_gather.hpp"

namespace paean {

/// Pages of one space that the clock has chosen: write-protected, and held by one reference more until they are freed
/// or let go.
struct OldPages {
  static constexpr u32 kMost = 32;
  u32 count = 0;
  VirtAddr at[kMost];
  arch::PteValue seen[kMost];  // the entry as it was left
  Page* pages[kMost];
  arch::PteValue gone[kMost];  // the entry that names where it was written
  u32 written = 0;             // bit i: pages[i] was

  bool is_full() const { return count == kMost; }
  void add(VirtAddr va, arch::PteValue value, Page* page);
};

/// All spaces, in the order in which the clock comes by. Taken out only when nobody has them pinned.
class UserSpaceList {
 public:
  using List = LinkedList<UserSpace, &UserSpace::listed_before_, &UserSpace::listed_behind_>;

  static void add(UserSpace& space);
  /// Waits for those who have it pinned. May sleep.
  static void remove(UserSpace& space);
  /// The one whose turn it is; nullptr if there is none. It stays until unpin(), though its program may end meanwhile.
  static UserSpace* pin_first();
  static UserSpace* pin_next(UserSpace* previous);  // nullptr: the first one; lets the previous one go
  static void unpin(UserSpace& space);
  static void move_to_back(UserSpace& space);
  static u32 count();
  /// From now on the running thread's.
  static void note_use(UserSpace* space, arch::IrqsOff off);
};

/// Brings everything of an area back, in all spaces, until `is_empty(area)`. It is the caller's turn.
Result<> swap_in_everything(u32 area, bool (*is_empty)(u32 area));

}  // namespace paean
