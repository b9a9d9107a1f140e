// The sizes of kmalloc(): 8 16 32 64 96 128 192 256 ... 6144 8192, from 64 on two for each doubling. Pure.
#pragma once

#include <bit>

#include "lib/types.hpp"

namespace paean {

inline constexpr u32 kKmallocClasses = 18;
inline constexpr u32 kKmallocLimit = 8 * kKiB;  // beyond it, whole pages

/// The class that serves 1 <= size <= kKmallocLimit.
constexpr u32 kmalloc_class(u32 size) {
  if (size <= 8) return 0;
  const u32 bits = static_cast<u32>(std::bit_width(size - 1));  // the next power of two is 1 << bits
  if (size <= 64) return bits - 3;
  return 2 * bits - 9 - (size <= (3u << (bits - 2)) ? 1 : 0);
}
constexpr u32 kmalloc_class_size(u32 index) {
  if (index < 4) return 8u << index;
  return (index % 2 == 0 ? 3u : 4u) << (index / 2 + 3);
}

static_assert(kmalloc_class_size(kmalloc_class(64)) == 64 && kmalloc_class_size(kmalloc_class(65)) == 96);
static_assert(kmalloc_class_size(kmalloc_class(97)) == 128 && kmalloc_class_size(kmalloc_class(8192)) == 8192);

}  // namespace paean
