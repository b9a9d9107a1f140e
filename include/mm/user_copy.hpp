// Copies between the kernel and the running thread's user space.
//
//   const Timespec when = TRY(get_user<Timespec>(pointer));
//   TRY(copy_to_user(buffer, bytes.data(), bytes.size()));
//
// An address is checked against user_end() first, whatever it is; then the CPU copies, and a page fault on the way is
// handled as the program's own would be (mm/user_space.hpp): it may sleep, read a file or copy a page. Where that
// fails the copy ends: the instruction has a fix-up in an exception table. With SMAP, user memory is reachable only
// inside of these functions (stac, clac).
//
// Context: a thread that may sleep, with no lock of rank UserLayout or above. Where it may not sleep (a KmapAtomic, a
// spin lock), a fault is not handled but ends the copy, so only the _part functions make sense there, with a retry
// outside: DEBUG builds panic in the others. KmapLocal may be held.
// Errors: BadAddress (EFAULT). A front part may have been copied then.
#pragma once

#include <span>

#include "lib/addr.hpp"
#include "lib/result.hpp"

namespace paean {

[[nodiscard]] Result<> copy_from_user(void* to, VirtAddr from, u32 bytes);
[[nodiscard]] Result<> copy_to_user(VirtAddr to, const void* from, u32 bytes);
[[nodiscard]] Result<> clear_user(VirtAddr to, u32 bytes);
/// How many bytes were copied: fewer than asked for if the rest cannot be. Any context.
[[nodiscard]] u32 copy_from_user_part(void* to, VirtAddr from, u32 bytes);
[[nodiscard]] u32 copy_to_user_part(VirtAddr to, const void* from, u32 bytes);

/// A string up to its zero, which is copied too: its length without. NameTooLong if there is none in `into`.
[[nodiscard]] Result<u32> copy_string_from_user(std::span<char> into, VirtAddr from);

/// Any plain object; it need not be aligned.
template <typename T>
[[nodiscard]] Result<T> get_user(VirtAddr from) {
  T value;
  const Result<> result = copy_from_user(&value, from, sizeof(T));
  if (!result) return std::unexpected(result.error());
  return value;
}
template <typename T>
[[nodiscard]] Result<> put_user(VirtAddr to, const T& value) {
  return copy_to_user(to, &value, sizeof(T));
}

/// Atomically: if the word at `at` is `expected`, becomes `desired`. What it was. For futexes. `at` is aligned to 4:
/// InvalidArgument otherwise.
[[nodiscard]] Result<u32> compare_exchange_user(VirtAddr at, u32 expected, u32 desired);

/// Boot, once.
void init_user_copies();

}  // namespace paean
