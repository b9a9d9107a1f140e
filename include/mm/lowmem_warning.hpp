// What is said before lowmem runs out: who has it.
#pragma once

#include <string_view>

#include "lib/format.hpp"
#include "mm/zone.hpp"

namespace paean {

/// Somebody who has lowmem: a row of the ledger, or one cache of objects in the place of the row of them all.
struct LowmemHolder {
  std::string_view name;
  PageCount pages{};
};
/// The n-th largest holder now, from 0; no pages if there are not so many.
LowmemHolder largest_lowmem_holder(u32 n);
/// The largest ones, one a line, with their share of lowmem.
void print_lowmem_holders(Sink& out, u32 count);

/// Says `lowmem: dentry holds 61 %`, with what is free, unless that was said lately. May sleep.
void warn_of_lowmem();

}  // namespace paean
