// Virtual blocks: what is promised for both kinds, and what happens where no block of frames is left.
#include "mm/vcompound.hpp"

#include "arch/irq.hpp"
#include "arch/smp.hpp"
#include "kernel/test/fail_nth.hpp"
#include "mm/kmalloc.hpp"
#include "mm/kmap.hpp"
#include "mm/vmalloc.hpp"
#include "threads.hpp"

namespace paean {

namespace {

constexpr AllocFlags kQuiet = AllocFlags::Kernel | AllocFlags::NoWarn | AllocFlags::VFallback;

u32* words_at(VirtAddr at) { return pointer_to<u32>(at); }

/// What both kinds promise, of a block that is allocated.
bool is_sound(Page* head, Order order) {
  const auto at = page_address(head);
  if (!at || compound_order(head) != order || page_with_address(*at) != head) return false;
  for (u32 n = 0; n < order.pages(); ++n) {
    Page* page = compound_nth_page(head, n);
    if (page == nullptr || compound_head(page) != head) return false;
    if (page->type() == PageType::VCompound && page_address(page) != *at + n * kPageSize) return false;
    if (is_vmalloc_addr(words_at(*at)) && vmalloc_to_page(words_at(*at + n * kPageSize)) != page) return false;
  }
  return true;
}

/// Words that differ between the block's address and local maps of its pages, written this way and read the other.
u32 differences(Page* head, Order order, u32 seed) {
  const VirtAddr at = *page_address(head);
  const u32 count = order.pages() * (kPageSize / 4);
  for (u32 i = 0; i < count; ++i) words_at(at)[i] = seed + i;
  u32 wrong = 0;
  for (u32 n = 0; n < order.pages(); ++n) {
    const KmapLocal map{compound_nth_page(head, n)};
    for (u32 i = 0; i < kPageSize / 4; ++i) {
      wrong += map.as<u32>()[i] != seed + n * (kPageSize / 4) + i ? 1 : 0;
      map.as<u32>()[i] = ~i;
    }
  }
  for (u32 i = 0; i < count; ++i) wrong += words_at(at)[i] != ~(i % (kPageSize / 4)) ? 1 : 0;
  return wrong;
}

/// Lowmem without a block of order 3: most of it is held in large blocks; of the rest, single pages, one in four is
/// held, at a place that depends on the seed.
class Fragments {
 public:
  explicit Fragments(TestContext& test) {
    take_all(Order{kMaxOrder});
    for (u32 i = 0; i < kLoose && held_.count() != 0; ++i) held_.free_at(held_.count() - 1);
    const u32 large = held_.count();
    take_all(Order{0});
    const u32 place = test.random_below(4);
    for (u32 i = held_.count(); i-- != large;) {
      if (number(page_to_pfn(held_[i].page)) % 4 != place) held_.free_at(i);
    }
    drain_local_pages();
    take_all(Order{3});  // what the watermarks kept from being taken before is in one piece
  }
  bool valid() const { return held_.valid(); }

 private:
  static constexpr u32 kLoose = 6;  // times 4 MiB: enough for what is asked for afterwards

  void take_all(Order order) {
    while (!held_.full()) {
      const Result<Page*> block = alloc_pages(AllocFlags::Kernel | AllocFlags::NoWarn, order, Owner::Test);
      if (!block) break;
      held_.add(*block, order);
    }
  }

  HeldBlocks held_;
};

/// A block of order 3 by frames alone.
bool has_order_3() {
  const Result<Page*> block = alloc_pages(AllocFlags::Kernel | AllocFlags::NoWarn, Order{3}, Owner::Test);
  if (block) free_pages(*block, Order{3});
  return block.has_value();
}

}  // namespace

KTEST(vcompound, every_order_of_both_kinds) {
  for (u32 order = 1; order <= 8; ++order) {
    for (const bool virtually : {false, true}) {
      std::optional<ForceVFallback> force;
      if (virtually) force.emplace();
      const Result<Page*> head = alloc_pages(kQuiet, Order{order}, Owner::Test);
      REQUIRE(head);
      if (virtually) EXPECT((*head)->type() == PageType::VCompound);
      EXPECT(is_sound(*head, Order{order}));
      EXPECT_EQ(differences(*head, Order{order}, order << 24), 0u);
      EXPECT_EQ((*head)->owner(), Owner::Test);
      free_pages(*head, Order{order});
    }
  }
}

KTEST(vcompound, limits_of_order) {
  const ForceVFallback force;
  const Result<Page*> single = alloc_pages(kQuiet, Order{0}, Owner::Test);
  REQUIRE(single);
  EXPECT((*single)->type() == PageType::Block);
  free_pages(*single, Order{0});
  EXPECT(alloc_pages(kQuiet, Order{kMaxOrder + 1}, Owner::Test).error() == Error::InvalidArgument);
  const Result<Page*> largest = alloc_pages(kQuiet, Order{kMaxOrder}, Owner::Test);
  REQUIRE(largest);
  EXPECT((*largest)->type() == PageType::VCompound && is_sound(*largest, Order{kMaxOrder}));
  free_pages_at(*page_address(*largest), Order{kMaxOrder});
}

KTEST(vcompound, zeros_where_zeros_were_asked) {
  const ForceVFallback force;
  for (u32 round = 0; round < 4; ++round) {
    const Result<Page*> head = alloc_pages(kQuiet | AllocFlags::Zero, Order{4}, Owner::Test);
    REQUIRE(head);
    u32 wrong = 0;
    for (u32 i = 0; i < 16 * 1024; ++i) wrong += words_at(*page_address(*head))[i] != 0 ? 1 : 0;
    EXPECT_EQ(wrong, 0u);
    (void)differences(*head, Order{4}, 0xdead0000);
    free_pages(*head, Order{4});
    vmalloc_purge();
  }
}

KTEST(vcompound, dma_stays_dma) {
  const ForceVFallback force;
  const Result<Page*> head = alloc_pages(kQuiet | AllocFlags::Dma, Order{3}, Owner::Test);
  REQUIRE(head);
  for (u32 n = 0; n < 8; ++n) EXPECT_EQ(zone_of(page_to_pfn(compound_nth_page(*head, n))), ZoneId::Dma);
  free_pages(*head, Order{3});
}

KTEST(vcompound, references_and_the_last_one_frees) {
  const ForceVFallback force;
  const Result<Page*> head = alloc_pages(kQuiet, Order{2}, Owner::Test);
  REQUIRE(head);
  const VirtAddr at = *page_address(*head);
  (*head)->get();
  EXPECT(std::string_view{free_complaint(*head, Order{2})} == "still referenced");
  put_page(*head);
  EXPECT(free_complaint(*head, Order{2}) == nullptr);
  EXPECT(page_with_address(at) == *head);
  put_page(*head);
  EXPECT(page_with_address(at) == nullptr);
}

KTEST(vcompound, what_is_wrong_with_a_free) {
  const ForceVFallback force;
  const Result<Page*> head = alloc_pages(kQuiet, Order{3}, Owner::Test);
  REQUIRE(head);
  const auto complaint = [](Page* page, u32 order) {
    const char* text = free_complaint(page, Order{order});
    return std::string_view{text == nullptr ? "" : text};
  };
  EXPECT(contains(complaint(compound_nth_page(*head, 1), 0), "inside a virtual block"));
  EXPECT(contains(complaint(compound_nth_page(*head, 7), 3), "inside a virtual block"));
  EXPECT(contains(complaint(*head, 2), "wrong order"));
  EXPECT(contains(complaint(*head, 0), "wrong order"));
  EXPECT(complaint(*head, 3).empty());
  free_pages(*head, Order{3});
  // On the batch that waits for every CPU to flush.
  if ((*head)->type() == PageType::VCompound) EXPECT(contains(complaint(*head, 3), "double free"));
}

KTEST(vcompound, persistent_maps_of_its_pages) {
  const ForceVFallback force;
  const Result<Page*> head = alloc_pages(kQuiet, Order{3}, Owner::Test);
  REQUIRE(head);
  for (u32 n = 0; n < 8; ++n) {
    Page* page = compound_nth_page(*head, n);
    *static_cast<u32*>(kmap(page)) = 0xabc00 + n;
    kunmap(page);
    EXPECT_EQ(*words_at(*page_address(page)), 0xabc00 + n);
  }
  free_pages(*head, Order{3});
}

KTEST(vcompound, no_block_is_left_and_all_orders_succeed, .flags = TestFlag::Slow) {
  const u32 failures = allocation_failures();
  u32 fragmented = 0;
  for (u32 round = 0; round < 3; ++round) {
    settle_memory();
    const LedgerMark before;
    {
      const Fragments fragments{test};
      REQUIRE(fragments.valid());
      if (has_order_3()) continue;
      ++fragmented;
      const u32 failed = allocation_failures();
      for (u32 order = 3; order <= 8; ++order) {
        const Result<Page*> head = alloc_pages(kQuiet, Order{order}, Owner::Test);
        REQUIRE(head);
        EXPECT((*head)->type() == PageType::VCompound);
        EXPECT(is_sound(*head, Order{order}));
        EXPECT_EQ(differences(*head, Order{order}, order << 20), 0u);
        free_pages(*head, Order{order});
      }
      EXPECT_EQ(allocation_failures(), failed);
    }
    settle_memory();
    EXPECT(before == LedgerMark{});
  }
  test.note("{} of 3 rounds without a block of order 3; {} failures counted", fragmented,
            allocation_failures() - failures);
  if (fragmented == 0) SKIP("this machine's lowmem could not be fragmented");
}

KTEST(vcompound, every_failure_is_survived) {
  const u32 met = fail_nth(test, "virtual block", []() -> Result<> {
    const ForceVFallback force;
    Page* head = TRY(alloc_pages(kQuiet, Order{3}, Owner::Test));
    free_pages(head, Order{3});
    return {};
  });
  const u32 met_alone = fail_nth(test, "virtual block alone", []() -> Result<> {
    Page* head = TRY(take_vcompound(kQuiet, Order{3}, Owner::Test, nullptr));
    free_pages(head, Order{3});
    return {};
  });
  const u32 met_slab = fail_nth(test, "virtual slab", []() -> Result<> {
    const ForceVFallback force;
    ObjectCache* cache = TRY(ObjectCache::create({.name = "test-fail", .size = 9000, .flags = CacheFlag::VFallback}));
    const Result<void*> object = take_object(*cache, AllocFlags::Kernel | AllocFlags::NoWarn);
    if (object) give_object(*cache, *object);
    TRY(ObjectCache::destroy(cache));
    if (!object) return std::unexpected(object.error());
    return {};
  });
  const u32 met_large = fail_nth(test, "large kmalloc", []() -> Result<> {
    const ForceVFallback force;
    kfree(TRY(kmalloc(30'000, AllocFlags::Kernel | AllocFlags::NoWarn)));
    return {};
  });
  test.note("{}, {}, {} and {} failures", met, met_alone, met_slab, met_large);
  EXPECT(met >= 9 && met_alone >= 8 && met_slab >= 5 && met_large >= 9);
}

namespace {

constinit Page* in_interrupts[arch::kMaxCpus][4]{};
constinit u32 not_had = 0, tried = 0, unsound = 0;

void swap_blocks(arch::IrqsOff) {
  for (u32 i = 0; i < 4; ++i) {
    Page*& slot = in_interrupts[arch::this_cpu()][i];
    if (slot != nullptr) free_pages(slot, Order{i + 1});
    const Result<Page*> head =
        alloc_pages(AllocFlags::Atomic | AllocFlags::NoWarn | AllocFlags::VFallback, Order{i + 1}, Owner::Test);
    slot = head ? *head : nullptr;
    add(tried, 1);
    if (slot == nullptr)
      add(not_had, 1);
    else if (!is_sound(slot, Order{i + 1}))
      add(unsound, 1);
  }
}

struct BlockChurner {
  u32 rounds, failed = 0, wrong = 0;
  static void run(void* argument) {
    auto& self = *static_cast<BlockChurner*>(argument);
    for (u32 i = 0; i < self.rounds; ++i) {
      const Order order{1 + i % 4};
      const Result<Page*> head = alloc_pages(kQuiet, order, Owner::Test);
      if (!head) {
        ++self.failed;
        continue;
      }
      *words_at(*page_address(*head)) = i;
      if (!is_sound(*head, order) || *words_at(*page_address(*head)) != i) ++self.wrong;
      free_pages(*head, order);
    }
  }
};

}  // namespace

KTEST(vcompound, interrupts_take_and_free_while_threads_do, .flags = TestFlag::NeedsSmp) {
  const ForceVFallback force;
  BlockChurner far{.rounds = 4000};
  not_had = tried = unsound = 0;
  {
    Crew<1> crew;
    REQUIRE(crew.add("blocks", BlockChurner::run, &far, elsewhere()));
    for (u32 i = 0; i < 300; ++i) arch::run_on_other_cpus(swap_blocks);
  }
  for (auto& slots : in_interrupts) {
    for (u32 i = 0; i < 4; ++i) {
      if (slots[i] != nullptr) free_pages(slots[i], Order{i + 1});
      slots[i] = nullptr;
    }
  }
  test.note("{} of {} could not be had in interrupts", not_had, tried);
  EXPECT(not_had < tried / 2);
  EXPECT_EQ(unsound + far.failed + far.wrong, 0u);
}

KTEST(vcompound, two_cpus, .flags = TestFlag::NeedsSmp) {
  const ForceVFallback force;
  BlockChurner near{.rounds = 3000}, far{.rounds = 3000};
  {
    Crew<1> crew;
    REQUIRE(crew.add("blocks", BlockChurner::run, &far, elsewhere()));
    BlockChurner::run(&near);
  }
  EXPECT_EQ(near.failed + near.wrong + far.failed + far.wrong, 0u);
}

KTEST(vcompound, kmalloc_of_large_sizes) {
  const ForceVFallback force;
  for (const u32 size : {8193u, 12288u, 65536u, 1000000u}) {
    const Result<void*> object = kmalloc(size, AllocFlags::Kernel);
    REQUIRE(object);
    EXPECT(is_vmalloc_addr(*object) && ksize(*object) >= size);
    __builtin_memset(*object, 0x5a, size);
    kfree(*object);
  }
  const Result<void*> low = kmalloc(65536, AllocFlags::Kernel | AllocFlags::Dma);
  REQUIRE(low);
  EXPECT(!is_vmalloc_addr(*low));
  kfree(*low);
}

KTEST(vcompound, slabs_of_virtual_memory) {
  struct Large {
    u32 words[700];
  };
  Result<SlabCache<Large>> cache = SlabCache<Large>::create("test-virtual", CacheFlag::VFallback);
  REQUIRE(cache);
  constexpr u32 kObjects = 60;
  Large* objects[kObjects]{};
  u32 in_areas = 0;
  {
    const ForceVFallback force;
    for (u32 i = 0; i < kObjects; ++i) {
      const Result<Large*> object = cache->allocate(AllocFlags::Kernel);
      REQUIRE(object);
      objects[i] = *object;
      objects[i]->words[0] = i;
      objects[i]->words[699] = ~i;
      in_areas += is_vmalloc_addr(objects[i]) ? 1 : 0;
      EXPECT(cache_of(objects[i]) == &cache->cache());
    }
  }
  if (cache->cache().layout().order != Order{0}) EXPECT_EQ(in_areas, kObjects);
  if (in_areas != 0) EXPECT(cache_name_of(vmalloc_to_page(objects[0])) == "test-virtual");
  for (u32 i = 0; i < kObjects; ++i) {
    EXPECT(objects[i]->words[0] == i && objects[i]->words[699] == ~i);
    i % 2 == 0 ? cache->free(objects[i]) : kfree(objects[i]);
  }
  EXPECT(cache->destroy());
}

KTEST(death, vcompound_tail_is_freed, .flags = TestFlag::Death) {
  const ForceVFallback force;
  const Result<Page*> head = alloc_pages(kQuiet, Order{2}, Owner::Test);
  REQUIRE(head);
  KTEST_EXPECT_PANIC("inside a virtual block");
  free_page(compound_nth_page(*head, 1));
}

KTEST(death, vcompound_with_another_order, .flags = TestFlag::Death) {
  const ForceVFallback force;
  const Result<Page*> head = alloc_pages(kQuiet, Order{2}, Owner::Test);
  REQUIRE(head);
  KTEST_EXPECT_PANIC("wrong order");
  free_pages(*head, Order{3});
}

KTEST(death, vcompound_is_freed_twice, .flags = TestFlag::Death) {
  const ForceVFallback force;
  const Result<Page*> head = alloc_pages(kQuiet, Order{2}, Owner::Test);
  REQUIRE(head);
  free_pages(*head, Order{2});
  KTEST_EXPECT_PANIC("double free");
  free_pages(*head, Order{2});
}

KTEST(death, vcompound_by_vfree, .flags = TestFlag::Death) {
  const ForceVFallback force;
  const Result<Page*> head = alloc_pages(kQuiet, Order{2}, Owner::Test);
  REQUIRE(head);
  KTEST_EXPECT_PANIC("a virtual block of pages");
  vfree(words_at(*page_address(*head)));
}

}  // namespace paean
