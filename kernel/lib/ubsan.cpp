// What -fsanitize=undefined calls when it finds undefined behaviour: a panic that names the kind and the place.
// Only in UBSAN=1 builds. Source: the handler names and the first member of their data are the interface that g++ and
// clang share.
#ifdef PAEAN_UBSAN

#include "lib/assert.hpp"

namespace paean {

namespace {

/// Every handler's data begins with the place.
struct Place {
  const char* file;
  u32 line;
  u32 column;
};

[[noreturn]] void report(const Place* place, const char* what) {
  const FormatArg args[] = {FormatArg{what}};
  panic_at(SourceLine{place->file, place->line}, "undefined behaviour: {}", FormatArgs{args});
}

}  // namespace

#define PAEAN_UBSAN_HANDLER(name, what) \
  extern "C" [[gnu::used]] void __ubsan_handle_##name(const Place* place) { report(place, what); }

PAEAN_UBSAN_HANDLER(add_overflow, "signed addition overflow")
PAEAN_UBSAN_HANDLER(sub_overflow, "signed subtraction overflow")
PAEAN_UBSAN_HANDLER(mul_overflow, "signed multiplication overflow")
PAEAN_UBSAN_HANDLER(negate_overflow, "negation overflow")
PAEAN_UBSAN_HANDLER(divrem_overflow, "division by zero or overflow")
PAEAN_UBSAN_HANDLER(shift_out_of_bounds, "shift out of bounds")
PAEAN_UBSAN_HANDLER(out_of_bounds, "index out of bounds")
PAEAN_UBSAN_HANDLER(load_invalid_value, "invalid bool or enum value")
PAEAN_UBSAN_HANDLER(pointer_overflow, "pointer arithmetic overflow")
PAEAN_UBSAN_HANDLER(builtin_unreachable, "unreachable code reached")
PAEAN_UBSAN_HANDLER(missing_return, "function ended without a value")
PAEAN_UBSAN_HANDLER(vla_bound_not_positive, "array size not positive")
PAEAN_UBSAN_HANDLER(nonnull_arg, "null argument")
PAEAN_UBSAN_HANDLER(invalid_builtin, "invalid argument of a builtin")
PAEAN_UBSAN_HANDLER(type_mismatch_v1, "object too small for its type")

}  // namespace paean

#endif  // PAEAN_UBSAN
