// A fault that is made good, under temporary maps: they stay what they were, and so does the preempt count.
#include "access.hpp"
#include "arch/fixmap.hpp"
#include "interrupts.hpp"
#include "kernel/preempt.hpp"
#include "mm/highmem.hpp"

namespace paean {

namespace {

constexpr u32 kMaps = 3;
constinit Page* pages[kMaps]{};
constinit u32 wrong_in_interrupt = 0;

u32 tag_of(u32 map) { return 0xfa010000u + map; }

/// Faults behind each of two maps, reading and writing, while both are held. Returns how much is not as it was.
u32 fault_under_maps() {
  const u32 preemption = preempt_count.get();
  u32 wrong = 0;
  {
    const KmapAtomic maps[2] = {KmapAtomic{pages[0]}, KmapAtomic{pages[1]}};
    const u32 depth = arch::fix_depth(), held = preempt_count.get();
    for (const KmapAtomic& map : maps) {
      const VirtAddr behind = address_of(map.data()) + kPageSize;
      wrong += arch::probe_read(behind) ? 1 : 0;
      wrong += arch::probe_write(behind, 1) ? 1 : 0;
      wrong += arch::fix_depth() != depth || preempt_count.get() != held ? 1 : 0;
    }
    for (u32 i = 0; i < 2; ++i) {
      auto* words = maps[i].as<volatile u32>();
      wrong += words[0] != tag_of(i) || words[1023] != tag_of(i) ? 1 : 0;
      words[512] = tag_of(i);
    }
  }
  return wrong + (preempt_count.get() != preemption ? 1 : 0);
}

class TaggedPages {
 public:
  TaggedPages() {
    for (u32 i = 0; i < kMaps; ++i) {
      const Result<Page*> page = alloc_page(AllocFlags::HighUser, Owner::Test);
      pages[i] = page ? *page : nullptr;
      if (!page) continue;
      const KmapLocal map{*page};
      map.as<u32>()[0] = map.as<u32>()[1023] = tag_of(i);
    }
  }
  ~TaggedPages() {
    for (Page* page : pages) {
      if (page != nullptr) free_page(page);
    }
  }
  TaggedPages(const TaggedPages&) = delete;
  TaggedPages& operator=(const TaggedPages&) = delete;
  bool valid() const { return pages[0] != nullptr && pages[1] != nullptr && pages[2] != nullptr; }
};

}  // namespace

KTEST(highmem, a_fault_leaves_maps_and_preemption_alone, .flags = TestFlag::NeedsHighmem) {
  const TaggedPages tagged;
  REQUIRE(tagged.valid());
  for (u32 i = 0; i < 1000; ++i) REQUIRE_EQ(fault_under_maps(), 0u);
  const KmapAtomic second{pages[1]};
  EXPECT_EQ(second.as<u32>()[512], tag_of(1));
}

KTEST(highmem, a_fault_in_an_interrupt_leaves_them_alone, .flags = TestFlag::NeedsHighmem) {
  if (!arch::using_apic()) SKIP("no local APIC");
  const TaggedPages tagged;
  REQUIRE(tagged.valid());
  wrong_in_interrupt = 0;
  for (u32 i = 0; i < 1000; ++i) {
    const KmapAtomic mine{pages[2]};
    const u32 held = preempt_count.get(), depth = arch::fix_depth();
    call_as_interrupt([](arch::IrqsOff) { wrong_in_interrupt += fault_under_maps(); });
    REQUIRE(arch::fix_depth() == depth && preempt_count.get() == held);
    REQUIRE(mine.as<volatile u32>()[0] == tag_of(2) && mine.as<volatile u32>()[1023] == tag_of(2));
  }
  EXPECT_EQ(wrong_in_interrupt, 0u);
}

}  // namespace paean
