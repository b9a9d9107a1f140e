// Between page_alloc.cpp and bad_free.cpp: a free that is not the usual one.
#pragma once

#include "mm/page.hpp"

namespace paean {

/// Drops cached maps of the block and frees it; or, if the free is illegal, panics with the frame's story.
[[gnu::cold]] void bad_free(Page* page, Order order);

}  // namespace paean
