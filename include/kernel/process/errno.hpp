// Answers of system calls: a value, or an error number of Linux on i386, negated.
#pragma once

#include "lib/result.hpp"

namespace paean {

/// What a call puts into EAX. Addresses are answers too: -4095 to -1 alone are errors.
using Answer = i32;

namespace err {
inline constexpr Answer kPerm = -1, kNoEntry = -2, kNoProcess = -3, kInterrupted = -4, kIo = -5, kTooBig = -7;
inline constexpr Answer kNoExec = -8, kBadFile = -9, kNoChild = -10, kAgain = -11, kNoMemory = -12, kAccess = -13;
inline constexpr Answer kFault = -14, kBusy = -16, kExists = -17, kCrossDevice = -18, kNoDevice = -19;
inline constexpr Answer kNotDirectory = -20, kIsDirectory = -21, kInvalid = -22, kManyFiles = -24, kNotTerminal = -25;
inline constexpr Answer kFileTooBig = -27, kNoSpace = -28, kSeek = -29, kReadOnly = -30, kManyLinks = -31, kPipe = -32;
inline constexpr Answer kRange = -34, kNameTooLong = -36, kNoCall = -38, kNotEmpty = -39, kLoop = -40;
inline constexpr Answer kTimedOut = -110, kCorrupt = -117;
/// Inside the kernel: interrupted by a signal, begins again unless the handler says otherwise.
inline constexpr Answer kRestart = -512;
/// The same, but a handler always ends it: interrupted.
inline constexpr Answer kRestartUnlessHandled = -514;
}  // namespace err

constexpr Answer answer_of(Error error) {
  switch (error) {
    case Error::OutOfMemory: return err::kNoMemory;
    case Error::InvalidArgument: return err::kInvalid;
    case Error::NotFound: return err::kNoEntry;
    case Error::Busy: return err::kBusy;
    case Error::TooLarge: return err::kFileTooBig;
    case Error::NotSupported: return err::kInvalid;
    case Error::Corrupt: return err::kCorrupt;
    case Error::Io: return err::kIo;
    case Error::TimedOut: return err::kTimedOut;
    case Error::NoSpace: return err::kNoSpace;
    case Error::ReadOnly: return err::kReadOnly;
    case Error::Exists: return err::kExists;
    case Error::NotDirectory: return err::kNotDirectory;
    case Error::IsDirectory: return err::kIsDirectory;
    case Error::NotEmpty: return err::kNotEmpty;
    case Error::NameTooLong: return err::kNameTooLong;
    case Error::CrossDevice: return err::kCrossDevice;
    case Error::TooManyLinks: return err::kManyLinks;
    case Error::BadAddress: return err::kFault;
    case Error::NoAccess: return err::kAccess;
    case Error::NotPermitted: return err::kPerm;
  }
  return err::kInvalid;
}

constexpr Answer answer_of(const Result<>& result) { return result ? 0 : answer_of(result.error()); }

/// The value of a Result, or the end of the call with its error.
#define CALL_TRY(expression)                                                      \
  ({                                                                              \
    auto&& paean_call_result = (expression);                                      \
    if (!paean_call_result) return ::paean::answer_of(paean_call_result.error()); \
    *std::move(paean_call_result);                                                \
  })

}  // namespace paean
