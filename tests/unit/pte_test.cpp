// Page-table entries are 64 bits in everything that is done to them.
#include "access.hpp"
#include "arch/cpu.hpp"
#include "arch/fixmap.hpp"

namespace paean {

namespace {

using namespace arch::pte_bits;
using arch::PteValue;

constexpr u32 kFrames[] = {0xfffff, 0x100000, 0x100001, 0xffffff, 0x1000000, 0x1000001, 1u << 28};
constexpr u64 kLowFlags[] = {kPresent,  kWritable, kUser,  kWriteThrough, kCacheDisable,
                             kAccessed, kDirty,    kLarge, kGlobal};

u32 high_half(PteValue value) { return static_cast<u32>(bits(value) >> 32); }

bool cpu_reaches(Pfn pfn) { return number(to_phys(pfn)) >> arch::cpu_features().physical_bits == 0; }

/// A page of our own for live entries.
class EntryPage {
 public:
  EntryPage() : page_(get_zeroed_page(AllocFlags::Kernel, Owner::Test)) {}
  ~EntryPage() {
    if (page_) free_pages_at(*page_, Order{0});
  }
  EntryPage(const EntryPage&) = delete;
  EntryPage& operator=(const EntryPage&) = delete;
  bool valid() const { return page_.has_value(); }
  arch::Pte& operator[](u32 index) const { return pointer_to<arch::PageTable>(*page_)->entries[index]; }
  const u32* halves(u32 index) const { return pointer_to<u32>(*page_) + index * 2; }

 private:
  Result<VirtAddr> page_;
};

}  // namespace

KTEST(pte, modifiers_keep_the_high_word) {
  for (const u32 frame : kFrames) {
    const PteValue value{number(to_phys(Pfn{frame})) | kNoExecute | kPresent};
    const u32 high = high_half(value);
    EXPECT_EQ(high, static_cast<u32>((u64{frame} * 4096) >> 32) | 0x80000000u);
    for (const u64 flag : kLowFlags) {
      EXPECT_EQ(high_half(value.with(flag)), high);
      EXPECT_EQ(high_half(value.without(flag)), high);
      EXPECT_EQ(high_half(value.with(flag).without(flag)), high);
      EXPECT(value.with(flag).has(flag));
      EXPECT(!value.without(flag).has(flag));
      EXPECT_EQ(number(value.with(flag).address()), u64{frame} * 4096);
    }
    EXPECT_EQ(high_half(value.without(kNoExecute)), high & 0x7fffffffu);
    EXPECT_EQ(number(value.without(kNoExecute).address()), u64{frame} * 4096);
  }
}

KTEST(pte, has_sees_flags_in_both_halves) {
  EXPECT(PteValue{kNoExecute}.has(kNoExecute));
  EXPECT(!PteValue{kNoExecute}.present());
  EXPECT(!PteValue{kPresent}.has(kNoExecute));
  EXPECT(PteValue{kPresent | u64{1} << 40}.present());
  EXPECT(!PteValue{u64{1} << 32}.present());
}

KTEST(pte, address_leaves_flags_and_software_bits_out) {
  const PteValue all{~u64{0}};
  EXPECT_EQ(number(all.address()), u64{0x000ffffffffff000});
  EXPECT_EQ(number(all.large_address()), u64{0x000fffffffe00000});
}

KTEST(pte, leaf_of_every_width) {
  for (const u32 frame : kFrames) {
    if (!cpu_reaches(Pfn{frame})) continue;
    for (const auto protection :
         {arch::Protection::ReadOnly, arch::Protection::ReadWrite, arch::Protection::ReadExecute}) {
      const PteValue leaf = arch::make_leaf(to_phys(Pfn{frame}), protection);
      EXPECT_EQ(number(leaf.address()), u64{frame} * 4096);
      EXPECT(leaf.present());
      EXPECT(!leaf.has(kUser));
      EXPECT(leaf.has(kAccessed) && leaf.has(kDirty));
      EXPECT_EQ(leaf.has(kWritable), protection == arch::Protection::ReadWrite);
      EXPECT_EQ(leaf.has(kNoExecute), protection != arch::Protection::ReadExecute && arch::cpu_features().nx);
      EXPECT_EQ(leaf.has(kGlobal), arch::cpu_features().pge);
      EXPECT_EQ(bits(leaf) & (kCacheDisable | kWriteThrough), u64{0});
    }
    EXPECT_EQ(number(arch::make_table(to_phys(Pfn{frame})).address()), u64{frame} * 4096);
  }
  const PteValue device = arch::make_leaf(PhysAddr{0xfee00000}, arch::Protection::ReadWrite, arch::Caching::Uncached);
  EXPECT(device.has(kCacheDisable));
}

KTEST(pte, set_then_load_is_the_same) {
  const EntryPage page;
  REQUIRE(page.valid());
  for (const u32 frame : kFrames) {
    const PteValue value{number(to_phys(Pfn{frame})) | kNoExecute | kPresent | kWritable};
    page[3].set(value);
    EXPECT_EQ(bits(page[3].load()), bits(value));
    EXPECT_EQ(page.halves(3)[0], static_cast<u32>(bits(value)));
    EXPECT_EQ(page.halves(3)[1], high_half(value));
    page[3].clear();
    EXPECT_EQ(bits(page[3].load()), u64{0});
    EXPECT_EQ(page.halves(3)[0] | page.halves(3)[1], 0u);
  }
  EXPECT_EQ(bits(page[2].load()) | bits(page[4].load()), u64{0});
}

KTEST(pte, exchange_returns_the_old_entry_with_its_bits) {
  const EntryPage page;
  REQUIRE(page.valid());
  const PteValue first{number(to_phys(Pfn{0x1000001})) | kNoExecute | kPresent};
  const PteValue second{number(to_phys(Pfn{0x0ffffff})) | kPresent | kWritable};
  page[0].set(first.with(kAccessed | kDirty));
  EXPECT_EQ(bits(page[0].exchange(second)), bits(first.with(kAccessed | kDirty)));
  EXPECT_EQ(bits(page[0].load()), bits(second));
  EXPECT_EQ(bits(page[0].exchange(PteValue{})), bits(second));
  EXPECT_EQ(bits(page[0].load()), u64{0});
}

/// The CPU sets A and D in the entry through which it works; exchange must return them.
KTEST(pte, exchange_keeps_what_the_cpu_wrote) {
  const Result<Page*> page = alloc_page(AllocFlags::HighUser, Owner::Test);
  REQUIRE(page);
  const PhysAddr frame = to_phys(page_to_pfn(*page));
  {
    const arch::IrqsOffGuard off;  // an interrupt's own windows would be above ours, but keep the slot ours
    arch::Pte& slot = arch::fix_next_entry();
    void* at = arch::fix_push(frame);
    const u64 quiet = (number(frame) | arch::leaf_flags_rw) & ~(kAccessed | kDirty);
    const PteValue before = slot.exchange(PteValue{quiet});
    arch::invalidate_page(address_of(at));
    (void)*static_cast<volatile u32*>(at);
    const PteValue read = slot.exchange(PteValue{quiet});
    arch::invalidate_page(address_of(at));
    *static_cast<volatile u32*>(at) = 1;
    const PteValue written = slot.exchange(before);
    arch::invalidate_page(address_of(at));
    arch::fix_pop(at);
    EXPECT_EQ(bits(before), number(frame) | arch::leaf_flags_rw);
    EXPECT_EQ(bits(read), quiet | kAccessed);
    EXPECT_EQ(bits(written), quiet | kAccessed | kDirty);
  }
  free_page(*page);
}

KTEST(pte, random_values_come_back_whole) {
  const EntryPage page;
  REQUIRE(page.valid());
  for (u32 i = 0; i < 1000; ++i) {
    const PteValue value{number(to_phys(Pfn{test.random()})) | kPresent | kNoExecute};
    page[i % arch::kEntriesPerTable].set(value);
    const PteValue seen = page[i % arch::kEntriesPerTable].load();
    REQUIRE_EQ(bits(seen), bits(value));
    page[i % arch::kEntriesPerTable].clear();
    REQUIRE(!page[i % arch::kEntriesPerTable].load().present());
  }
}

}  // namespace paean
