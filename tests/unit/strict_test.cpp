// Rules of PAE that QEMU's TCG does not model. Where the CPU is one of those the tests say so and are skipped; on Bochs
// none may be (tests/boot/bochs.py).
#include "arch/cpu.hpp"
#include "arch/traps.hpp"
#include "private_slot.hpp"

namespace paean {

namespace {

using arch::probe_read;
using arch::PteValue;
using namespace arch::pte_bits;

/// A table to load in place of the kernel's, for a few instructions with interrupts off.
struct alignas(32) OwnPdpt {
  volatile u64 slots[arch::kPdptSlots];
};
constinit OwnPdpt own_pdpt{};

u32 own_address() { return number(address_of(&own_pdpt)) - arch::kImageOffset; }

void copy_kernel_slots() {
  own_pdpt.slots[0] = 0;
  for (u32 slot = 1; slot < arch::kPdptSlots; ++slot) {
    own_pdpt.slots[slot] = arch::walk_current(VirtAddr{slot << 30}).pdpte & ~kAccessed;
  }
}

/// True if the CPU took the value.
bool load_cr3(u32 value) {
  u32 refused;
  asm volatile(
      "1: movl %1, %%cr3\n"
      "xorl %0, %0\n"
      "jmp 3f\n"
      "2: movl $1, %0\n"
      "3:\n"
      ".pushsection fixups, \"a\"\n"
      ".long 1b, 2b\n"
      ".popsection"
      : "=&r"(refused)
      : "r"(value)
      : "memory");
  return refused == 0;
}

}  // namespace

KTEST(strict, global_entries_outlive_a_load_of_cr3) {
  if (!arch::cpu_features().pge) SKIP("this CPU has no global entries");
  const PrivateSlot slot;
  REQUIRE(slot.valid());
  constexpr u32 kPages = 64;  // whatever else is touched in between takes the places of some in the TLB
  u32 before = 0, outlived = 0, after = 0;
  {
    const arch::IrqsOffGuard off;
    for (u32 i = 0; i < kPages; ++i) slot.show(i, slot.leaf());
    for (u32 i = 0; i < kPages; ++i) before += probe_read(PrivateSlot::at(i)) ? 1 : 0;
    for (u32 i = 0; i < kPages; ++i) slot.show(i, PteValue{});
    arch::write_cr3(arch::read_cr3());
    for (u32 i = 0; i < kPages; ++i) outlived += probe_read(PrivateSlot::at(i)) ? 1 : 0;
    arch::flush_tlb_all();
    for (u32 i = 0; i < kPages; ++i) after += probe_read(PrivateSlot::at(i)) ? 1 : 0;
  }
  EXPECT_EQ(before, kPages);
  EXPECT_EQ(after, 0u);
  test.note("{} of {} outlived it", outlived, kPages);
  if (outlived == 0) SKIP("this CPU drops global entries at every load of CR3, as QEMU does");
}

KTEST(strict, directory_pointers_are_read_at_loads_of_cr3_alone) {
  const PrivateSlot slot;
  REQUIRE(slot.valid());
  for (u32 i = 0; i < 3; ++i) slot.show(i, slot.leaf().without(kGlobal));
  bool before, made, loaded, taken, gone;
  {
    const arch::IrqsOffGuard off;
    const u32 kernel_cr3 = arch::read_cr3();
    copy_kernel_slots();
    arch::write_cr3(own_address());
    before = probe_read(PrivateSlot::at(0)).has_value();
    own_pdpt.slots[0] = bits(slot.pointer());
    made = probe_read(PrivateSlot::at(0)).has_value();
    arch::write_cr3(own_address());
    loaded = probe_read(PrivateSlot::at(0)).has_value();
    own_pdpt.slots[0] = 0;
    taken = !probe_read(PrivateSlot::at(1));  // a page that is in no TLB
    arch::write_cr3(own_address());
    gone = !probe_read(PrivateSlot::at(2));
    arch::write_cr3(kernel_cr3);
  }
  EXPECT(!before);
  EXPECT(loaded);
  EXPECT(gone);
  if (made && taken) SKIP("this CPU reads directory pointers at every walk, as QEMU does");
  EXPECT(!made);
  EXPECT(!taken);
}

KTEST(strict, reserved_bits_in_directory_pointers_refuse_cr3) {
  const PrivateSlot slot;
  REQUIRE(slot.valid());
  const u32 width = arch::cpu_features().physical_bits;
  u32 tried = 0, refused = 0;
  bool legal, unchanged = true;
  {
    const arch::IrqsOffGuard off;
    const u32 kernel_cr3 = arch::read_cr3();
    copy_kernel_slots();
    for (u32 bit = 1; bit < 64; ++bit) {
      if ((bit >= 3 && bit <= 5) || (bit >= 9 && bit < width))
        continue;  // PWT, PCD, TCG's accessed bit; ignored, address
      own_pdpt.slots[0] = bits(slot.pointer()) | 1ull << bit;
      ++tried;
      if (!load_cr3(own_address())) {
        ++refused;
        unchanged = unchanged && arch::read_cr3() == kernel_cr3;
      } else {
        arch::write_cr3(kernel_cr3);
      }
    }
    own_pdpt.slots[0] = bits(slot.pointer());
    legal = load_cr3(own_address());
    arch::write_cr3(kernel_cr3);
  }
  test.note("{} of {} reserved bits refused", refused, tried);
  EXPECT(legal);
  EXPECT(unchanged);
  if (refused == 0) SKIP("this CPU takes any directory pointer, as QEMU does");
  EXPECT_EQ(refused, tried);
}

KTEST(strict, faults_of_reserved_bits_are_of_present_pages) {
  const u32 width = arch::cpu_features().physical_bits;
  if (width >= 52) SKIP("this CPU has no reserved address bits");
  const PrivateSlot slot;
  REQUIRE(slot.valid());
  slot.show(0, PteValue{bits(slot.leaf()) | 1ull << 51});
  EXPECT(!probe_read(PrivateSlot::at(0)));
  const u32 error = arch::last_probe_error();
  EXPECT((error & arch::kPageFaultReserved) != 0);
  if ((error & arch::kPageFaultPresent) == 0) SKIP("this CPU calls such pages not present, as QEMU does");
}

}  // namespace paean
