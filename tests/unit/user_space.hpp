// What the tests of user address spaces share: the test's thread on a space of its own.
#pragma once

#include "kernel/test/ktest.hpp"
#include "mm/user_copy.hpp"
#include "mm/user_space.hpp"

namespace paean {

inline constexpr UserAccess kUserRw = UserAccess::Read | UserAccess::Write;

/// The running thread uses a new space for a scope.
class InSpace {
 public:
  InSpace() {
    if (Result<UserSpace*> made = UserSpace::create()) {
      space_ = *made;
      UserSpace::switch_to(space_);
    }
  }
  /// The thread's reference goes last, so that the space ends as a process' does.
  ~InSpace() {
    if (space_ == nullptr) return;
    if (UserSpace::current() == space_) space_->put();
    UserSpace::switch_to(nullptr);
  }
  InSpace(const InSpace&) = delete;
  InSpace& operator=(const InSpace&) = delete;
  explicit operator bool() const { return space_ != nullptr; }
  UserSpace* operator->() const { return space_; }
  UserSpace& operator*() const { return *space_; }

 private:
  UserSpace* space_ = nullptr;
};

/// Anonymous memory at a given place, or anywhere.
inline Result<VirtAddr> map_anonymous(UserSpace& space, u32 pages, VirtAddr at = {}, UserAccess access = kUserRw,
                                      MapFlag flags = MapFlag::None) {
  if (at != VirtAddr{}) flags = flags | MapFlag::Fixed;
  return space.map({.at = at, .bytes = pages * kPageSize, .access = access, .flags = flags});
}

inline u32 user_word(VirtAddr at) { return get_user<u32>(at).value_or(0xbadbad); }
inline bool set_user_word(VirtAddr at, u32 value) { return put_user(at, value).has_value(); }

}  // namespace paean
