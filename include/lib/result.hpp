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
  Io,               // the device failed, or says that it cannot
  TimedOut,         // the device does not answer
  NoSpace,          // the file system is full
  ReadOnly,         // file system, device or file may not be written
  Exists,           // there is a thing of this name already
  NotDirectory,     // a part of the path is a file
  IsDirectory,      // only a file will do
  NotEmpty,         // a directory with names in it
  NameTooLong,      // more than a directory entry can hold
  CrossDevice,      // source and target lie in different file systems
  TooManyLinks,     // names of one file, or symbolic links in one path
  BadAddress,       // a pointer of a program's that is none
  NotPermitted,     // not for this caller
  NoAccess,         // what the file was opened for does not cover it
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
    case Error::Io: return "input/output error";
    case Error::TimedOut: return "timed out";
    case Error::NoSpace: return "no space left";
    case Error::ReadOnly: return "read-only";
    case Error::Exists: return "already exists";
    case Error::NotDirectory: return "not a directory";
    case Error::IsDirectory: return "is a directory";
    case Error::NotEmpty: return "directory not empty";
    case Error::NameTooLong: return "name too long";
    case Error::CrossDevice: return "on another file system";
    case Error::TooManyLinks: return "too many links";
    case Error::BadAddress: return "bad address";
    case Error::NotPermitted: return "not permitted";
    case Error::NoAccess: return "no access";
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
