#include "mm/user_copy.hpp"

#include "arch/traps.hpp"
#include "arch/user_access.hpp"
#include "kernel/preempt.hpp"
#include "mm/user_space.hpp"

namespace paean {

namespace {

bool handle_copy_fault(VirtAddr address, u32 error) {
  UserSpace* space = UserSpace::current();
  if (space == nullptr || address >= user_end()) return false;
  const UserAccess access = (error & arch::kPageFaultWrite) != 0 ? UserAccess::Write : UserAccess::Read;
  return space->handle_fault(address, access) == FaultResult::Handled;
}

/// In DEBUG builds: a copy that must be whole must be able to sleep.
void check_may_fault() {
#ifdef PAEAN_DEBUG
  might_sleep("a copy to or from user memory");
#endif
}

Result<> all_of(u32 copied, u32 bytes) {
  if (copied == bytes) return {};
  return std::unexpected(Error::BadAddress);
}

}  // namespace

u32 copy_from_user_part(void* to, VirtAddr from, u32 bytes) {
  if (!is_user_range(from, bytes) || UserSpace::current() == nullptr) return 0;
  return bytes - arch::user_copy_in(to, from.raw(), bytes);
}

u32 copy_to_user_part(VirtAddr to, const void* from, u32 bytes) {
  if (!is_user_range(to, bytes) || UserSpace::current() == nullptr) return 0;
  return bytes - arch::user_copy_out(to.raw(), from, bytes);
}

Result<> copy_from_user(void* to, VirtAddr from, u32 bytes) {
  check_may_fault();
  return all_of(copy_from_user_part(to, from, bytes), bytes);
}

Result<> copy_to_user(VirtAddr to, const void* from, u32 bytes) {
  check_may_fault();
  return all_of(copy_to_user_part(to, from, bytes), bytes);
}

Result<> clear_user(VirtAddr to, u32 bytes) {
  check_may_fault();
  if (!is_user_range(to, bytes) || UserSpace::current() == nullptr) return std::unexpected(Error::BadAddress);
  return all_of(bytes - arch::user_fill_zero(to.raw(), bytes), bytes);
}

Result<u32> copy_string_from_user(std::span<char> into, VirtAddr from) {
  check_may_fault();
  for (u32 done = 0; done < into.size();) {
    // Not past the page: the string may end in it, with nothing behind.
    const u32 room = kPageSize - from.page_offset(), left = into.size() - done;
    const u32 part = room < left ? room : left;
    const u32 got = copy_from_user_part(into.data() + done, from, part);
    for (u32 i = 0; i < got; ++i) {
      if (into[done + i] == '\0') return done + i;
    }
    if (got != part) return std::unexpected(Error::BadAddress);
    done += part;
    from += part;
  }
  return std::unexpected(Error::NameTooLong);
}

Result<u32> compare_exchange_user(VirtAddr at, u32 expected, u32 desired) {
  check_may_fault();
  if (!at.is_aligned(sizeof(u32))) return std::unexpected(Error::InvalidArgument);
  if (!is_user_range(at, sizeof(u32)) || UserSpace::current() == nullptr) return std::unexpected(Error::BadAddress);
  if (arch::user_compare_exchange(at.raw(), &expected, desired) != 0) return std::unexpected(Error::BadAddress);
  return expected;
}

void init_user_copies() { arch::set_user_fault_handler(handle_copy_fault); }

}  // namespace paean
