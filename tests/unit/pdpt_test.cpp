// Directory pointers change on every CPU or not at all.
#include "arch/pdpt.hpp"

#include "arch/cpu.hpp"
#include "private_slot.hpp"
#include "remote_reader.hpp"

namespace paean {

namespace {

using arch::pdpte_is_legal;
using arch::PteValue;
using namespace arch::pte_bits;

}  // namespace

KTEST(pdpt, only_legal_entries_are_legal) {
  const u64 good = 0x123000 | kPresent;
  EXPECT(pdpte_is_legal(PteValue{}));
  EXPECT(pdpte_is_legal(PteValue{good}));
  EXPECT(pdpte_is_legal(PteValue{good | kWriteThrough | kCacheDisable}));
  EXPECT(!pdpte_is_legal(PteValue{0x123000}));
  EXPECT(!pdpte_is_legal(PteValue{good | kWritable}));
  EXPECT(!pdpte_is_legal(PteValue{good | kUser}));
  EXPECT(!pdpte_is_legal(PteValue{good | kAccessed}));
  EXPECT(!pdpte_is_legal(PteValue{good | kLarge}));
  EXPECT(!pdpte_is_legal(PteValue{good | kNoExecute}));
  const u32 width = arch::cpu_features().physical_bits;
  EXPECT(pdpte_is_legal(PteValue{good | 1ull << (width - 1)}));
  EXPECT(!pdpte_is_legal(PteValue{good | 1ull << width}));
}

KTEST(pdpt, a_change_works_here_at_once) {
  EXPECT(!arch::probe_read(PrivateSlot::at(0)));
  {
    const PrivateSlot slot;
    REQUIRE(slot.valid());
    slot.show(0, slot.leaf());
    slot.write_page(42);
    EXPECT_EQ(arch::probe_read(PrivateSlot::at(0)).value_or(0), 42u);
    EXPECT(arch::walk_current(PrivateSlot::at(0)).mapped);
  }
  EXPECT(!arch::probe_read(PrivateSlot::at(0)));
}

KTEST(pdpt, a_change_reaches_the_other_cpus, .flags = TestFlag::NeedsSmp) {
  RemoteReader reader;
  REQUIRE(reader.ready());
  for (u32 i = 0; i < 20; ++i) {
    EXPECT_EQ(reader.read(PrivateSlot::at(0)), RemoteReader::kFault);
    const PrivateSlot slot;
    REQUIRE(slot.valid());
    slot.show(0, slot.leaf());
    slot.write_page(i);
    EXPECT_EQ(reader.read(PrivateSlot::at(0)), i);
  }
  EXPECT_EQ(reader.read(PrivateSlot::at(0)), RemoteReader::kFault);
}

KTEST(pdpt, every_cpu_has_loaded_every_change) {
  { const PrivateSlot slot; }
  const u32 due = arch::pdptes_due.load();
  for (u32 cpu = 0; cpu < arch::online_cpus(); ++cpu) EXPECT_EQ(load(arch::pdptes_loaded.on(cpu)), due);
}

KTEST(death, reserved_bit_in_a_directory_pointer, .flags = TestFlag::Death) {
  KTEST_EXPECT_PANIC("assertion failed: slot < kPdptSlots && pdpte_is_legal(value)");
  arch::write_pdpte(0, PteValue{0x123000 | kPresent | kWritable});
}

KTEST(death, reload_of_cr3_is_owed, .flags = TestFlag::Death) {
  KTEST_EXPECT_PANIC("owes a reload of CR3 since change");
  arch::pdptes_due.fetch_add(1);
  thread_sleep_ms(50);
}

}  // namespace paean
