// Failing is normal: a function that can fail returns Result<T>, and its caller looks at it.
//
//   Result<Page*> page = alloc_page(AllocFlags::kernel());
//   if (!page) return std::unexpected(page.error());
// or, the same in one line:
//   Page* page = TRY(alloc_page(AllocFlags::kernel()));
//
// Out of memory is a Result like any other. There are no sentinel values and no out-parameters.
// Source: std::expected (C++23); TRY as in SerenityOS.
#pragma once

#include <expected>
#include <string_view>
#include <utility>

#include "lib/types.hpp"

namespace paean {

enum class Error : u8 {
  OutOfMemory,      // no frame, or no address space, that satisfies the request
  InvalidArgument,  // the caller's words are off; nothing was changed
  NotFound,         // no such name, range or device
  Busy,             // in use; may work later
  TooLarge,         // beyond a fixed limit of this kernel or this machine
  NotSupported,     // this CPU or device lacks it
  Corrupt,          // a checksum or a structure is wrong
};

/// One or two words for a person.
constexpr std::string_view error_name(Error error) {
  switch (error) {
    case Error::OutOfMemory: return "out of memory";
    case Error::InvalidArgument: return "invalid argument";
    case Error::NotFound: return "not found";
    case Error::Busy: return "busy";
    case Error::TooLarge: return "too large";
    case Error::NotSupported: return "not supported";
    case Error::Corrupt: return "corrupt";
  }
  return "unknown error";
}

template <typename T = void>
using Result = std::expected<T, Error>;

// GNU statement expression: both compilers we use have it, and it is what makes TRY an expression.
#define TRY(expression)                                                      \
  ({                                                                         \
    auto&& paean_try_result = (expression);                                  \
    if (!paean_try_result) return std::unexpected(paean_try_result.error()); \
    *std::move(paean_try_result);                                            \
  })

}  // namespace paean
