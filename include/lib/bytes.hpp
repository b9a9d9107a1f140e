// Any object's bytes, or what lies behind it, as numbers or as text. Both may alias everything.
#pragma once

#include "lib/types.hpp"

namespace paean {

inline char* chars_at(void* place) { return static_cast<char*>(place); }
inline const char* chars_at(const void* place) { return static_cast<const char*>(place); }
inline u8* bytes_at(void* place) { return static_cast<u8*>(place); }
inline const u8* bytes_at(const void* place) { return static_cast<const u8*>(place); }

}  // namespace paean
