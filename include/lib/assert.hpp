// What must be true. ASSERT is always on; DASSERT only in DEBUG=1 builds but always type-checked.
//
// A failed assertion ends in panic(): on the kernel it prints message, file:line, backtrace, page walk and ledger
// (kernel/base/panic.cpp); in host tests it aborts so that the sanitizers show the stack.
#pragma once

#include "lib/format.hpp"

namespace paean {

struct SourceLine {
  const char* file;
  u32 line;
};

/// Stops this machine with a message. Any context; never returns, never allocates.
[[noreturn]] void panic_at(SourceLine where, const char* format, FormatArgs args);

template <typename... Args>
[[noreturn, gnu::cold, gnu::noinline]] void panic_formatted(SourceLine where,
                                                            FormatString<std::type_identity_t<Args>...> format,
                                                            const Args&... args) {
  const FormatArg packed[] = {FormatArg{args}..., FormatArg{}};
  panic_at(where, format.text, FormatArgs{packed, sizeof...(Args)});
}

[[noreturn]] void assert_failed(SourceLine where, const char* condition);

}  // namespace paean

#define panic(...) ::paean::panic_formatted(::paean::SourceLine{__FILE__, __LINE__}, __VA_ARGS__)

#define ASSERT(condition)                                                          \
  do {                                                                             \
    if (!(condition)) [[unlikely]]                                                 \
      ::paean::assert_failed(::paean::SourceLine{__FILE__, __LINE__}, #condition); \
  } while (false)

#ifdef PAEAN_DEBUG
#define DASSERT(condition) ASSERT(condition)
#else
#define DASSERT(condition) \
  do { (void)sizeof((condition) ? 1 : 0); } while (false)
#endif
