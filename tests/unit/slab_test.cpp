// Object caches as their users see them.
#include "arch/smp.hpp"
#include "mm/shrink.hpp"
#include "slab_faults.hpp"
#include "threads.hpp"

namespace paean {

namespace {

struct Thing {
  u32 words[32];
};
static_assert(sizeof(Thing) == 128);
constexpr CacheFlags kUnchecked{CacheFlag::Unchecked};

u32 used_in(const ObjectCache& cache) { return cache_statistics(cache.number())->used; }
u32 slabs_of(const ObjectCache& cache) { return cache_statistics(cache.number())->slabs; }

/// Objects of a test in a list through themselves.
struct Chain {
  Chain* next;
};

constinit u32 constructed = 0;
struct Built {
  u32 number;
  u32 uses;
};
void construct(void* object) {
  auto* built = static_cast<Built*>(object);
  built->number = ++constructed;
  built->uses = 0;
}

}  // namespace

KTEST(slab, objects_are_aligned_and_apart) {
  for (const u32 align : {8u, 16u, 64u, 256u, 4096u}) {
    const Result<ObjectCache*> cache = ObjectCache::create({.name = "aligned", .size = 72, .align = align});
    REQUIRE(cache.has_value());
    void* objects[40];
    for (void*& object : objects) {
      const Result<void*> taken = take_object(**cache, AllocFlags::Kernel);
      REQUIRE(taken.has_value());
      object = *taken;
      EXPECT(address_of(object).is_aligned(align));
      EXPECT(cache_of(object) == *cache);
      __builtin_memset(object, 0x77, 72);
    }
    EXPECT_EQ(used_in(**cache), std::size(objects));
    for (u32 i = 0; i < std::size(objects); ++i) {
      for (u32 j = 0; j < i; ++j) {
        const u32 distance = address_of(objects[i]) < address_of(objects[j])
                                 ? address_of(objects[j]) - address_of(objects[i])
                                 : address_of(objects[i]) - address_of(objects[j]);
        REQUIRE(distance >= 72);
      }
    }
    for (void* object : objects) give_object(**cache, object);
    EXPECT(ObjectCache::destroy(*cache).has_value());
  }
}

KTEST(slab, hardware_lines_begin_objects) {
  Result<SlabCache<Built>> cache = SlabCache<Built>::create("lines", CacheFlag::HwAlign);
  REQUIRE(cache.has_value());
  const Result<Built*> one = cache->allocate(AllocFlags::Kernel);
  REQUIRE(one.has_value());
  EXPECT(address_of(*one).is_aligned(64));
  cache->free(*one);
  EXPECT(cache->destroy().has_value());
}

// One object stays out, so that no shrinker that others woke takes its slab meanwhile.
KTEST(slab, constructors_run_once_in_a_slab_life) {
  for (const CacheFlags flags : {kUnchecked, CacheFlags{CacheFlag::Checked}}) {
    constructed = 0;
    Result<SlabCache<Built, construct>> cache = SlabCache<Built, construct>::create("built", flags);
    REQUIRE(cache.has_value());
    const u32 in_a_slab = cache->cache().layout().objects;
    const Result<Built*> kept = cache->allocate(AllocFlags::Kernel);
    REQUIRE(kept.has_value());
    u8 uses[kPageSize / sizeof(Built)] = {};
    for (u32 round = 1; round <= 50; ++round) {
      const Result<Built*> built = cache->allocate(AllocFlags::Kernel);
      REQUIRE(built.has_value());
      REQUIRE((*built)->number >= 1 && (*built)->number <= in_a_slab);
      u8& expected = uses[(*built)->number - 1];
      EXPECT_EQ((*built)->uses, expected);
      (*built)->uses = ++expected;
      cache->free(*built);
    }
    EXPECT_EQ(constructed, in_a_slab);
    cache->free(*kept);
    shrink_caches();
    const Result<Built*> fresh = cache->allocate(AllocFlags::Kernel);
    REQUIRE(fresh.has_value());
    EXPECT_EQ((*fresh)->uses, 0);
    EXPECT_EQ(constructed, 2 * in_a_slab);
    cache->free(*fresh);
    EXPECT(cache->destroy().has_value());
  }
}

// With interrupts off, so that nobody empties this CPU's magazines in between.
KTEST(slab, the_newest_free_object_comes_first) {
  Result<SlabCache<Thing>> cache = SlabCache<Thing>::create("newest", kUnchecked);
  REQUIRE(cache.has_value());
  const Result<Thing*> first = cache->allocate(AllocFlags::Kernel), other = cache->allocate(AllocFlags::Kernel);
  REQUIRE(first.has_value() && other.has_value());
  Thing* newest = *first;
  for (u32 round = 1; round <= 50; ++round) {
    const arch::IrqsOffGuard irqs_off;
    cache->free(newest);
    const Result<Thing*> again = cache->allocate(AllocFlags::Atomic);
    REQUIRE(again.has_value());
    EXPECT(*again == newest);
    newest = *again;
  }
  cache->free(newest);
  cache->free(*other);
  EXPECT(cache->destroy().has_value());
}

KTEST(slab, zeros_after_garbage) {
  for (const CacheFlags flags : {kUnchecked, CacheFlags{CacheFlag::Checked}}) {
    Result<SlabCache<Thing>> cache = SlabCache<Thing>::create("zeros", flags);
    REQUIRE(cache.has_value());
    Thing* things[100];
    for (u32 round = 0; round < 2; ++round) {
      for (Thing*& thing : things) {
        const Result<Thing*> taken = cache->allocate(AllocFlags::Kernel | AllocFlags::Zero);
        REQUIRE(taken.has_value());
        thing = *taken;
        for (const u32 word : thing->words) REQUIRE_EQ(word, 0);
        __builtin_memset(thing, 0xa5, sizeof(Thing));
      }
      for (Thing* thing : things) cache->free(thing);
    }
    EXPECT(cache->destroy().has_value());
  }
}

KTEST(slab, shrinking_gives_pages_back) {
  shrink_caches();
  const u32 before = ledger_pages(ZoneId::Normal, Owner::Slab).count() + ledger_pages(ZoneId::Dma, Owner::Slab).count();
  Result<SlabCache<Thing>> cache = SlabCache<Thing>::create("shrunk", kUnchecked);
  REQUIRE(cache.has_value());
  Chain* chain = nullptr;
  for (u32 i = 0; i < 100'000; ++i) {
    const Result<Thing*> thing = cache->allocate(AllocFlags::Kernel);
    REQUIRE(thing.has_value());
    auto* link = pointer_to<Chain>(address_of(*thing));
    link->next = chain;
    chain = link;
  }
  EXPECT(slabs_of(cache->cache()) >= 100'000 / cache->cache().layout().objects);
  while (chain != nullptr) {
    auto* thing = pointer_to<Thing>(address_of(chain));
    chain = chain->next;
    cache->free(thing);
  }
  // What is kept without being asked for is bounded: empty slabs, and slabs of objects in magazines.
  const u32 kept = (SlabStore::kDepotLimit + 2 * arch::online_cpus()) * Magazine::kCapacity;
  EXPECT(slabs_of(cache->cache()) <= SlabStore::kEmptySlabsLimit + kept);
  const u32 slabs = slabs_of(cache->cache());
  EXPECT(shrink_caches() >= slabs);
  EXPECT_EQ(slabs_of(cache->cache()), 0);
  EXPECT(cache->destroy().has_value());
  shrink_caches();
  const u32 after = ledger_pages(ZoneId::Normal, Owner::Slab).count() + ledger_pages(ZoneId::Dma, Owner::Slab).count();
  EXPECT_EQ(after, before);
}

KTEST(slab, a_million_objects_cost_less_than_4_percent, .flags = TestFlag::Slow) {
  constexpr u32 kObjects = 1'000'000;
  if (low_totals().free.count() < pages_for(u64{kObjects} * sizeof(Thing) * 5 / 4).count()) SKIP("too little lowmem");
  shrink_caches();
  const u32 before = ledger_pages(ZoneId::Normal, Owner::Slab).count() + ledger_pages(ZoneId::Dma, Owner::Slab).count();
  Result<SlabCache<Thing>> cache = SlabCache<Thing>::create("million", kUnchecked);
  REQUIRE(cache.has_value());
  Chain* chain = nullptr;
  for (u32 i = 0; i < kObjects; ++i) {
    const Result<Thing*> thing = cache->allocate(AllocFlags::Kernel);
    REQUIRE(thing.has_value());
    auto* link = pointer_to<Chain>(address_of(*thing));
    link->next = chain;
    chain = link;
  }
  EXPECT_EQ(used_in(cache->cache()), kObjects);
  const u32 now = ledger_pages(ZoneId::Normal, Owner::Slab).count() + ledger_pages(ZoneId::Dma, Owner::Slab).count();
  const u64 bytes = PageCount{now - before}.bytes();
  constexpr u64 kNet = u64{kObjects} * sizeof(Thing);
  test.note("{} kB for {} kB of objects: {} per mille more", bytes / kKiB, kNet / kKiB, (bytes - kNet) * 1000 / kNet);
  EXPECT(bytes < kNet * 104 / 100);
  while (chain != nullptr) {
    auto* thing = pointer_to<Thing>(address_of(chain));
    chain = chain->next;
    cache->free(thing);
  }
  EXPECT_EQ(used_in(cache->cache()), 0);
  EXPECT(cache->destroy().has_value());
}

KTEST(slab, freed_on_another_cpu, .flags = TestFlag::NeedsSmp) {
  struct Handover {
    SlabCache<Thing> cache;
    Chain* chain;
  };
  const Result<SlabCache<Thing>> cache = SlabCache<Thing>::create("crossing", kUnchecked);
  REQUIRE(cache.has_value());
  Handover handover{*cache, nullptr};
  const auto free_all = [](void* argument) {
    auto& mine = *static_cast<Handover*>(argument);
    while (mine.chain != nullptr) {
      auto* thing = pointer_to<Thing>(address_of(mine.chain));
      mine.chain = mine.chain->next;
      mine.cache.free(thing);
    }
  };
  for (u32 round = 0; round < 4; ++round) {
    for (u32 i = 0; i < 2000; ++i) {
      const Result<Thing*> thing = handover.cache.allocate(AllocFlags::Kernel);
      REQUIRE(thing.has_value());
      auto* link = pointer_to<Chain>(address_of(*thing));
      link->next = handover.chain;
      handover.chain = link;
    }
    Crew<1> crew;
    REQUIRE(crew.add("free-there", free_all, &handover, elsewhere()));
    crew.join();
    EXPECT_EQ(used_in(handover.cache.cache()), 0);
  }
  EXPECT(handover.cache.destroy().has_value());
}

KTEST(slab, works_on_top_of_a_claim) {
  Result<SlabCache<Thing>> cache = SlabCache<Thing>::create("claimed", kUnchecked);
  REQUIRE(cache.has_value());
  const Result<Thing*> warm = cache->allocate(AllocFlags::Kernel);
  REQUIRE(warm.has_value());
  cache->free(*warm);
  Thing* things[64];
  bool from_magazine = false;
  {
    const arch::IrqsOffGuard off;  // as an interrupt that came into the middle of somebody's claim
    REQUIRE(percpu_claims.claim());
    for (Thing*& thing : things) {
      const Result<Thing*> taken = cache->allocate(AllocFlags::Atomic);
      thing = taken ? *taken : nullptr;
      if (thing == *warm) from_magazine = true;
    }
    for (u32 i = 0; i < 32; ++i) cache->free(things[i]);
    percpu_claims.set(0);
  }
  for (u32 i = 32; i < 64; ++i) {
    EXPECT(things[i] != nullptr);
    if (things[i] != nullptr) cache->free(things[i]);
  }
  EXPECT(!from_magazine);
  const Result<Thing*> again = cache->allocate(AllocFlags::Kernel);
  REQUIRE(again.has_value());
  cache->free(*again);
  EXPECT_EQ(used_in(cache->cache()), 0);
  EXPECT(cache->destroy().has_value());
}

KTEST(slab, interrupts_on_top_of_everything, .flags = TestFlag::NeedsSmp | TestFlag::Slow) {
  static constinit ObjectCache* cache = nullptr;
  static constinit u32 stop = 0, wrong = 0, rounds = 0, in_a_claim = 0;
  const Result<ObjectCache*> made = ObjectCache::create({.name = "beneath", .size = 64, .flags = kUnchecked});
  REQUIRE(made.has_value());
  cache = *made;
  stop = wrong = rounds = in_a_claim = 0;
  // Takes objects, signs them, and looks whether each still bears the signature.
  static constexpr auto use = [](u32 signature) {
    void* objects[40];
    for (void*& object : objects) {
      const Result<void*> taken = take_object(*cache, AllocFlags::Atomic);
      object = taken ? *taken : nullptr;
      if (object != nullptr) __builtin_memset(object, static_cast<i32>(signature), 64);
    }
    for (void* object : objects) {
      if (object == nullptr) continue;
      if (*static_cast<u32*>(object) != signature * 0x01010101u) __atomic_fetch_add(&wrong, 1, __ATOMIC_RELAXED);
      give_object(*cache, object);
    }
  };
  const auto work = [](void*) {
    for (; load(stop) == 0; ++rounds) use(0x11);
  };
  Crew<1> crew;
  REQUIRE(crew.add("beneath", work, nullptr, elsewhere()));
  while (load(rounds) == 0) thread_yield();
  for (u32 i = 0; i < 3000; ++i) {
    // Each call needs both CPUs, which takes a busy host long: that it goes on is seen.
    if (i % 500 == 499) test.note("interrupt {}", i + 1);
    arch::run_on_other_cpus([](arch::IrqsOff) {
      if (!percpu_claims.is_zero()) ++in_a_claim;
      use(0x22);
    });
  }
  store(stop, 1);
  crew.join();
  test.note("{} rounds beneath 3000 interrupts, {} of them in a claim", rounds, in_a_claim);
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(used_in(*cache), 0);
  EXPECT(ObjectCache::destroy(cache).has_value());
}

KTEST(slab, caches_come_and_go) {
  ObjectCache* caches[kMaxCaches];
  u32 made = 0;
  Error error{};
  for (; made < kMaxCaches; ++made) {
    const Result<ObjectCache*> cache = ObjectCache::create({.name = "many", .size = 16});
    if (!cache) {
      error = cache.error();
      break;
    }
    caches[made] = *cache;
  }
  EXPECT(made < kMaxCaches && made > 32);
  EXPECT_EQ(error, Error::TooLarge);
  while (made != 0) EXPECT(ObjectCache::destroy(caches[--made]).has_value());
  EXPECT_EQ(ObjectCache::create({.name = "none", .size = 0}).error(), Error::InvalidArgument);
  EXPECT_EQ(ObjectCache::create({.name = "odd", .size = 8, .align = 3}).error(), Error::InvalidArgument);
}

KTEST(slab, shrinkers_are_asked_for_their_share) {
  static constinit u32 asked = 0, have = 1000;
  Shrinker shrinker{"test", [] { return have; },
                    [](u32 objects) {
                      asked += objects;
                      have -= objects;
                      return objects;
                    }};
  asked = 0, have = 1000;
  register_shrinker(shrinker);
  EXPECT_EQ(run_shrinkers(2), 250);
  EXPECT_EQ(run_shrinkers(0), 750);
  EXPECT_EQ(run_shrinkers(0), 0);
  unregister_shrinker(shrinker);
  have = 1000;
  EXPECT_EQ(run_shrinkers(0), 0);
  EXPECT_EQ(asked, 1000);
}

KTEST(slab, a_page_that_was_mapped_is_still_a_slabs) {
  Result<SlabCache<Thing>> cache = SlabCache<Thing>::create("mapped", kUnchecked);
  REQUIRE(cache.has_value());
  const Result<Thing*> thing = cache->allocate(AllocFlags::Kernel);
  REQUIRE(thing.has_value());
  Page* page = pfn_to_page((*low_frame_at(address_of(*thing))).pfn());
  page->note_mapped();
  EXPECT_EQ(page->type(), PageType::Slab);
  EXPECT(cache_of(*thing) == &cache->cache());
  cache->free(*thing);
  EXPECT_EQ(used_in(cache->cache()), 0);
  EXPECT(cache->destroy().has_value());  // which drops the map with the page
  EXPECT(!page->may_be_mapped());
}

KTEST(slab, page_words_name_the_cache) {
  Result<SlabCache<Thing>> cache = SlabCache<Thing>::create("worded");
  REQUIRE(cache.has_value());
  const Result<Thing*> thing = cache->allocate(AllocFlags::Kernel);
  REQUIRE(thing.has_value());
  Page* page = pfn_to_page((*low_frame_at(address_of(*thing))).pfn());
  EXPECT_EQ(page->type(), PageType::Slab);
  EXPECT_EQ(cache_name_of(page), "worded");
  EXPECT(free_complaint(page, Order{0}) != nullptr);
  static constinit char text[4000];
  BufferSink owners{text};
  print_slab_owners(owners);
  EXPECT(contains(owners.view(), "worded"));
  EXPECT(contains(owners.view(), "exact"));
  cache->free(*thing);
  EXPECT(cache->destroy().has_value());
  EXPECT(page->type() != PageType::Slab);
}

}  // namespace paean
