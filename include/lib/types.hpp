// Fixed-width integer names used everywhere in Paean.
//
// `usize` is the size of an object in memory: 32 bits in the kernel and in the -m32 host tests.
// Never use it for a physical size or address; those are 64 bits wide, see lib/addr.hpp.
#pragma once

#include <cstddef>
#include <cstdint>

namespace paean {

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using i8 = std::int8_t;
using i16 = std::int16_t;
using i32 = std::int32_t;
using i64 = std::int64_t;
using usize = std::size_t;

inline constexpr u32 kKiB = 1024;
inline constexpr u32 kMiB = 1024 * kKiB;
inline constexpr u64 kGiB = 1024ull * kMiB;
inline constexpr u64 kTiB = 1024ull * kGiB;

}  // namespace paean
