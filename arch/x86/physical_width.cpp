// How wide physical addresses are on CPUs whose CPUID does not say.
//
// PAE meant 36 bits before there was a leaf for it, but small models of emulators take 32 and treat the rest of an
// entry as reserved. So one entry beyond 4 GiB is tried: whether there is memory behind it does not matter for the
// answer.
#include "arch/cpu.hpp"
#include "arch/fixmap.hpp"
#include "arch/traps.hpp"

namespace paean::arch {

u8 probe_physical_bits(u8 assumed) {
  const FixWindow window{PhysAddr{u64{1} << (assumed - 1)}};
  const bool reserved = !probe_read(VirtAddr{reinterpret_cast<u32>(window.bytes())});
  return reserved ? u8{32} : assumed;
}

}  // namespace paean::arch
