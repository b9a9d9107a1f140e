#include "arch/pte.hpp"

#include "arch/cpu.hpp"
#include "arch/fixmap.hpp"
#include "lib/assert.hpp"

namespace paean::arch {

using namespace pte_bits;

constinit u64 leaf_flags_rw = kPresent | kWritable | kAccessed | kDirty;

PteValue make_leaf(PhysAddr addr, Protection protection, Caching caching) {
  ASSERT(addr.raw() >> cpu_features().physical_bits == 0);
  u64 bits = addr.raw() | kPresent | kAccessed | kDirty;
  if (cpu_features().pge) bits |= kGlobal;
  if (protection == Protection::ReadWrite) bits |= kWritable;
  if (protection != Protection::ReadExecute && cpu_features().nx) bits |= kNoExecute;
  if (caching != Caching::WriteBack) bits |= kWriteThrough;
  if (caching == Caching::Uncached) bits |= kCacheDisable;
  return PteValue{bits};
}

PteValue make_table(PhysAddr table) {
  ASSERT(table.raw() >> cpu_features().physical_bits == 0);
  return PteValue{table.raw() | kPresent | kWritable | kAccessed};
}

}  // namespace paean::arch
