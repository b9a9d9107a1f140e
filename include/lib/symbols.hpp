// Names of the kernel's functions, from a table that the build links into the image.
// Read-only; any context. Implemented by kernel/base/symbols.cpp.
#pragma once

#include <string_view>

#include "lib/addr.hpp"

namespace paean {

struct Symbol {
  std::string_view name;  // empty: not in the kernel's text
  u32 offset = 0;
  u32 size = 0;
};

Symbol find_symbol(VirtAddr address);
/// Address 0 if there is no such function.
VirtAddr find_symbol_address(std::string_view name);

}  // namespace paean
