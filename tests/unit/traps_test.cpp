// What the CPU refuses, and with which error code. Under TCG a reserved bit reports P=0, on hardware P=1; nothing here
// depends on it.
#include "arch/traps.hpp"
#include "access.hpp"
#include "arch/address_space.hpp"
#include "arch/cpu.hpp"
#include "arch/fixmap.hpp"

namespace paean {

namespace {

constinit u32 data_word = 0x1234;

void returns_at_once() { asm volatile(""); }

/// A lowmem page that holds one `ret`.
class ReturnPage {
 public:
  ReturnPage() : page_(get_zeroed_page(AllocFlags::Kernel, Owner::Test)) {
    if (page_) *pointer_to<u8>(*page_) = 0xc3;
  }
  ~ReturnPage() {
    if (page_) free_pages_at(*page_, Order{0});
  }
  ReturnPage(const ReturnPage&) = delete;
  ReturnPage& operator=(const ReturnPage&) = delete;
  bool valid() const { return page_.has_value(); }
  VirtAddr address() const { return *page_; }

 private:
  Result<VirtAddr> page_;
};

}  // namespace

KTEST(traps, probe_reads_what_is_there) {
  EXPECT_EQ(arch::probe_read(address_of(&data_word)).value_or(0), 0x1234);
  EXPECT_EQ(arch::probe_read(image_text().start).value_or(0), *pointer_to<u32>(image_text().start));
  EXPECT_EQ(arch::probe_read(direct_alias(image_text().start)).value_or(0), *pointer_to<u32>(image_text().start));
}

KTEST(traps, probe_writes_what_may_be_written) {
  EXPECT(arch::probe_write(address_of(&data_word), 0x4321));
  EXPECT_EQ(*const_cast<volatile u32*>(&data_word), 0x4321);
  data_word = 0x1234;
}

KTEST(traps, unmapped_reads_and_writes_are_not_present) {
  for (const VirtAddr va :
       {VirtAddr{0}, VirtAddr{4096}, VirtAddr{0x40000000}, VirtAddr{0xfffff000}, VirtAddr{0xfffffffc}}) {
    EXPECT(!arch::probe_read(va));
    EXPECT_EQ(arch::last_probe_error(), 0u);
    EXPECT(!arch::probe_write(va, 1));
    EXPECT_EQ(arch::last_probe_error(), arch::kPageFaultWrite);
    EXPECT_EQ(arch::probe_read(va).error(), Error::NotFound);
  }
}

KTEST(traps, writes_to_read_only_pages_are_protection_faults) {
  const VirtAddr text = image_text().start, rodata = image_rodata().start;
  for (const VirtAddr va : {text, direct_alias(text), rodata, direct_alias(rodata)}) {
    const u32 before = *arch::probe_read(va);
    EXPECT(!arch::probe_write(va, ~before));
    EXPECT_EQ(arch::last_probe_error(), arch::kPageFaultWrite | arch::kPageFaultPresent);
    EXPECT_EQ(*arch::probe_read(va), before);
  }
}

KTEST(traps, only_text_executes) {
  EXPECT(arch::probe_execute(code_address(returns_at_once)));
  const ReturnPage page;
  REQUIRE(page.valid());
  if (!arch::cpu_features().nx) SKIP("this CPU has no NX");
  EXPECT(!arch::probe_execute(page.address()));
  EXPECT_EQ(arch::last_probe_error(), arch::kPageFaultFetch | arch::kPageFaultPresent);
  EXPECT(!arch::probe_execute(address_of(&data_word)));
  EXPECT(!arch::probe_execute(direct_alias(code_address(returns_at_once))));
  EXPECT_EQ(arch::last_probe_error(), arch::kPageFaultFetch | arch::kPageFaultPresent);
}

KTEST(traps, null_does_not_execute) {
  EXPECT(!arch::probe_execute(VirtAddr{0}));
  EXPECT_EQ(arch::last_probe_error() & arch::kPageFaultPresent, 0u);
}

KTEST(traps, reserved_bits_fault) {
  const ReturnPage page;
  REQUIRE(page.valid());
  const u32 physical_bits = arch::cpu_features().physical_bits;
  if (physical_bits >= 52) SKIP("every address bit of an entry is in use");
  const arch::IrqsOffGuard off;
  arch::Pte& slot = arch::fix_next_entry();
  const Result<LowPfn> low = low_frame_at(page.address());
  REQUIRE(low);
  void* at = arch::fix_push(to_phys(low->pfn()));
  EXPECT(arch::probe_read(address_of(at)));
  const arch::PteValue good = slot.exchange(slot.load().with(u64{1} << physical_bits));
  arch::invalidate_page(address_of(at));
  EXPECT(!arch::probe_read(address_of(at)));
  EXPECT_EQ(arch::last_probe_error() & ~arch::kPageFaultPresent, arch::kPageFaultReserved);
  (void)slot.exchange(good);
  arch::invalidate_page(address_of(at));
  EXPECT(arch::probe_read(address_of(at)));
  arch::fix_pop(at);
}

KTEST(traps, probes_work_with_interrupts_off_and_leave_them_so) {
  EXPECT(arch::irqs_enabled());
  EXPECT(!arch::probe_read(VirtAddr{0}));
  EXPECT(!arch::probe_execute(VirtAddr{0}));
  EXPECT(arch::irqs_enabled());
  {
    const arch::IrqsOffGuard off;
    EXPECT(!arch::probe_read(VirtAddr{0}));
    EXPECT(!arch::probe_execute(VirtAddr{0}));
    EXPECT(!arch::irqs_enabled());
  }
  EXPECT(arch::irqs_enabled());
}

KTEST(traps, many_faults_in_a_row) {
  u32 refused = 0;
  for (u32 i = 0; i < 100'000; ++i) refused += arch::probe_read(VirtAddr{(i & 1023) * 4}) ? 0 : 1;
  EXPECT_EQ(refused, 100'000);
}

KTEST(traps, exceptions_have_names) {
  EXPECT_EQ(arch::exception_name(0), "#DE divide error");
  EXPECT_EQ(arch::exception_name(arch::kVectorPageFault), "#PF page fault");
  EXPECT_EQ(arch::exception_name(arch::kVectorDoubleFault), "#DF double fault");
  for (u32 vector = 0; vector < 256; ++vector) EXPECT(!arch::exception_name(vector).empty());
}

}  // namespace paean
