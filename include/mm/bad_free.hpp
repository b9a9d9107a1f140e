// Between page_alloc.cpp and bad_free.cpp: the end of an illegal free.
#pragma once

#include "mm/page.hpp"

namespace paean {

/// Panics with the frame's story.
[[gnu::cold]] void bad_free(Page* page, Order order);

}  // namespace paean
