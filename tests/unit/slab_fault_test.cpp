// Sixteen ways to misuse an object, each caught and named, in every build: the caches are private and checked.
#include "kernel/cpus.hpp"
#include "mm/free_batch.hpp"
#include "slab_faults.hpp"
#include "threads.hpp"

namespace paean {

namespace {

struct Thing {
  u8 bytes[40];
};
using Cache = SlabCache<Thing>;
constexpr CacheFlags kChecked{CacheFlag::Checked};
constexpr CacheFlags kUnchecked{CacheFlag::Unchecked};

/// A cache that is given back at the end, and its faults.
struct Bench {
  explicit Bench(CacheFlags flags = kChecked) : cache(Cache::create("seeded", flags)) {}
  ~Bench() {
    if (cache) ASSERT(cache->destroy().has_value());
  }
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;
  Thing* take() {
    const Result<Thing*> thing = cache->allocate(AllocFlags::Kernel);
    return thing ? *thing : nullptr;
  }

  Result<Cache> cache;
  FaultListener faults;
};

/// Writes a byte that is `offset` away from an object's start, and expects what its free says.
void damage(TestContext& test, i32 offset, SlabFaultKind kind) {
  Bench bench;
  REQUIRE(bench.cache.has_value());
  Thing* thing = bench.take();
  REQUIRE(thing != nullptr);
  u8* at = thing->bytes + offset;
  asm("" : "+r"(at));
  *at ^= 0x10;
  bench.cache->free(thing);
  EXPECT(bench.faults.heard(kind));
  const SlabFault& fault = bench.faults.last();
  EXPECT_EQ(fault.cache, "seeded");
  EXPECT(fault.object == thing);
  if (kind != SlabFaultKind::TrackDamaged) EXPECT(fault.where == at);
  EXPECT(image_text().contains(VirtAddr{fault.caller}));
  REQUIRE(fault.track.has_value());
  EXPECT(image_text().contains(VirtAddr{fault.track->taken.caller}));
  if (kind == SlabFaultKind::TrackDamaged) {  // refused: put right what was wrong, and give it back
    *at ^= 0x10;
    bench.cache->free(thing);
    EXPECT_EQ(bench.faults.count(), 0);
  }
}

/// Writes into a free object, and expects what the next allocation says.
void write_after_free(TestContext& test, u32 offset) {
  Bench bench;
  REQUIRE(bench.cache.has_value());
  Thing* thing = bench.take();
  REQUIRE(thing != nullptr);
  bench.cache->free(thing);
  volatile u8* at = thing->bytes + offset;
  *at = 0;
  Thing* again = bench.take();
  EXPECT(again == thing);
  EXPECT(bench.faults.heard(SlabFaultKind::WriteAfterFree));
  const SlabFault& fault = bench.faults.last();
  EXPECT(fault.where == const_cast<const u8*>(at));
  EXPECT(fault.object == thing);
  bench.cache->free(again);
  EXPECT_EQ(bench.faults.count(), 0);
}

void double_free(TestContext& test, CacheFlags flags, u32 others_between) {
  Bench bench{flags};
  REQUIRE(bench.cache.has_value());
  Thing* others[8];
  REQUIRE(others_between <= std::size(others));
  Thing* thing = bench.take();
  for (u32 i = 0; i < others_between; ++i) others[i] = bench.take();
  bench.cache->free(thing);
  for (u32 i = 0; i < others_between; ++i) bench.cache->free(others[i]);
  bench.cache->free(thing);
  EXPECT(bench.faults.heard(SlabFaultKind::DoubleFree));
  EXPECT_EQ(bench.faults.last().cache, "seeded");
  EXPECT(bench.faults.last().object == thing);
  EXPECT(image_text().contains(VirtAddr{bench.faults.last().caller}));
}

void expect_refused(TestContext& test, FaultListener& faults, void* address, SlabFaultKind kind) {
  kfree(address);
  EXPECT(faults.heard(kind));
  EXPECT(faults.last().object == address);
  EXPECT(image_text().contains(VirtAddr{faults.last().caller}));
}

}  // namespace

KTEST(slab_faults, overrun_by_1) { damage(test, sizeof(Thing), SlabFaultKind::Overrun); }
KTEST(slab_faults, overrun_by_8) { damage(test, sizeof(Thing) + 7, SlabFaultKind::Overrun); }
KTEST(slab_faults, overrun_far) { damage(test, sizeof(Thing) + kRedZoneBytes + 5, SlabFaultKind::TrackDamaged); }
KTEST(slab_faults, underrun_by_1) { damage(test, -1, SlabFaultKind::Underrun); }
KTEST(slab_faults, underrun_by_8) { damage(test, -8, SlabFaultKind::Underrun); }

KTEST(slab_faults, write_after_free_first) { write_after_free(test, 0); }
KTEST(slab_faults, write_after_free_middle) { write_after_free(test, sizeof(Thing) / 2); }
KTEST(slab_faults, write_after_free_last) { write_after_free(test, sizeof(Thing) - 1); }

KTEST(slab_faults, double_free) { double_free(test, kChecked, 0); }
KTEST(slab_faults, double_free_later) { double_free(test, kChecked, 5); }
KTEST(slab_faults, double_free_unchecked) { double_free(test, kUnchecked, 0); }
KTEST(slab_faults, double_free_unchecked_later) { double_free(test, kUnchecked, 5); }

KTEST(slab_faults, double_free_on_another_cpu, .flags = TestFlag::NeedsSmp) {
  for (const CacheFlags flags : {kChecked, kUnchecked}) {
    Bench bench{flags};
    REQUIRE(bench.cache.has_value());
    struct Both {
      Bench& bench;
      Thing* thing;
    } both{bench, bench.take()};
    bench.cache->free(both.thing);
    Crew<1> crew;
    const auto free_again = [](void* argument) {
      auto& mine = *static_cast<Both*>(argument);
      mine.bench.cache->free(mine.thing);
    };
    REQUIRE(crew.add("free-again", free_again, &both, elsewhere()));
    crew.join();
    EXPECT(bench.faults.heard(SlabFaultKind::DoubleFree));
  }
}

KTEST(slab_faults, many_at_once) {
  for (const CacheFlags flags : {kChecked, kUnchecked}) {
    Bench bench{flags};
    REQUIRE(bench.cache.has_value());
    Thing* things[100];  // more than a magazine takes
    for (Thing*& thing : things) thing = bench.take();
    give_objects<Thing>(bench.cache->cache(), things);
    EXPECT_EQ(bench.faults.count(), 0u);
    EXPECT_EQ(cache_statistics(bench.cache->cache().number())->used, 0u);
    Thing* twice[] = {bench.take(), bench.take(), nullptr};
    twice[2] = twice[0];
    give_objects<Thing>(bench.cache->cache(), twice);
    EXPECT(bench.faults.heard(SlabFaultKind::DoubleFree));
    const Result<void*> other = kmalloc(sizeof(Thing), AllocFlags::Kernel);
    REQUIRE(other.has_value());
    Thing* foreign[] = {bench.take(), static_cast<Thing*>(*other)};
    give_objects<Thing>(bench.cache->cache(), foreign);
    EXPECT(bench.faults.heard(SlabFaultKind::WrongCache));
    kfree(*other);
  }
}

KTEST(slab_faults, wrong_cache) {
  for (const CacheFlags flags : {kChecked, kUnchecked}) {
    Bench bench{flags};
    REQUIRE(bench.cache.has_value());
    const Result<void*> other = kmalloc(sizeof(Thing), AllocFlags::Kernel);
    REQUIRE(other.has_value());
    bench.cache->free(static_cast<Thing*>(*other));
    EXPECT(bench.faults.heard(SlabFaultKind::WrongCache));
    EXPECT_EQ(bench.faults.last().cache, "seeded");
    EXPECT(bench.faults.last().object == *other);
    kfree(*other);
    EXPECT_EQ(bench.faults.count(), 0);
  }
}

KTEST(slab_faults, interior_pointer) {
  Bench bench;
  REQUIRE(bench.cache.has_value());
  Thing* thing = bench.take();
  expect_refused(test, bench.faults, thing->bytes + 8, SlabFaultKind::NotAnObject);
  expect_refused(test, bench.faults, thing->bytes + 1, SlabFaultKind::NotAnObject);
  bench.cache->free(thing);
  EXPECT_EQ(bench.faults.count(), 0);
}

KTEST(slab_faults, page_address) {
  FaultListener faults;
  for (const u32 order : {0u, 3u}) {
    const Result<VirtAddr> block = __get_free_pages(AllocFlags::Kernel, Order{order}, Owner::Test);
    REQUIRE(block.has_value());
    expect_refused(test, faults, pointer_to<void>(*block), SlabFaultKind::PageAddress);
    expect_refused(test, faults, pointer_to<void>(*block + (kPageSize << order) - 8), SlabFaultKind::PageAddress);
    free_pages_at(*block, Order{order});
  }
}

KTEST(slab_faults, freed_slab) {
  FaultListener faults;
  Thing* thing = nullptr;
  {
    Bench bench;
    REQUIRE(bench.cache.has_value());
    thing = bench.take();
    bench.cache->free(thing);
  }
  drain_local_pages();
  expect_refused(test, faults, thing, SlabFaultKind::FreedSlab);
}

KTEST(slab_faults, wild_addresses) {
  FaultListener faults;
  static constinit u32 in_the_image = 0;
  u32 on_the_stack = 0;
  const VirtAddr wild[] = {VirtAddr{0x1000},
                           VirtAddr{0x0804'8000},
                           direct_map.page_offset - 16,
                           direct_map.page_offset + number(direct_map.end) * kPageSize,
                           VirtAddr{0xffff'fff8},
                           address_of(&in_the_image),
                           direct_alias(address_of(&in_the_image)),
                           address_of(&on_the_stack)};
  for (const VirtAddr va : wild) expect_refused(test, faults, pointer_to<void>(va), SlabFaultKind::NotSlabMemory);
}

KTEST(slab_faults, requested_size_is_the_limit) {
  const Result<ObjectCache*> cache = ObjectCache::create({.name = "wish", .size = 64, .flags = CacheFlag::Checked});
  REQUIRE(cache.has_value());
  {
    FaultListener faults;
    const Result<void*> object = take_object(**cache, AllocFlags::Kernel);
    REQUIRE(object.has_value());
    CheckedObject{*object, (*cache)->layout(), Constructed::No}.set_requested(50);
    EXPECT_EQ(ksize(*object), 50);
    static_cast<volatile u8*>(*object)[50] = 1;
    give_object(**cache, *object);
    EXPECT(faults.heard(SlabFaultKind::Overrun));
  }
  EXPECT(ObjectCache::destroy(*cache).has_value());
}

KTEST(slab_faults, destroyed_in_use) {
  Bench bench;
  REQUIRE(bench.cache.has_value());
  Thing* thing = bench.take();
  EXPECT_EQ(bench.cache->destroy().error(), Error::Busy);
  EXPECT(bench.faults.heard(SlabFaultKind::StillInUse));
  EXPECT_EQ(bench.faults.last().cache, "seeded");
  bench.cache->free(thing);
  EXPECT_EQ(bench.faults.count(), 0);
}

KTEST(slab_faults, damaged_descriptor) {
  Bench bench{kUnchecked};
  REQUIRE(bench.cache.has_value());
  const Result<ObjectCache*> large = ObjectCache::create(
      {.name = "inside", .size = 40, .flags = CacheFlag::Checked, .farthest = DescriptorPlace::Inside});
  REQUIRE(large.has_value());
  const Result<void*> object = take_object(**large, AllocFlags::Kernel);
  REQUIRE(object.has_value());
  // The descriptor lies at the end of its block, behind the last object.
  const SlabLayout& layout = (*large)->layout();
  auto* block = pointer_to<u8>(address_of(*object).align_down(layout.bytes()));
  auto* descriptor = pointer_to<Slab>(address_of(block + layout.bytes() - layout.descriptor_size));
  REQUIRE_EQ(descriptor->magic, Slab::kMagic);
  descriptor->magic ^= 1;
  kfree(*object);
  EXPECT(bench.faults.heard(SlabFaultKind::DescriptorDamaged));
  descriptor->magic ^= 1;
  kfree(*object);
  EXPECT_EQ(bench.faults.count(), 0);
  EXPECT(ObjectCache::destroy(*large).has_value());
}

// The same without a listener.

KTEST(death, slab_double_free, .flags = TestFlag::Death) {
  KTEST_EXPECT_PANIC("slab: double free: object");
  KTEST_EXPECT_PANIC("of cache seeded");
  const Result<Cache> cache = Cache::create("seeded");
  Cache mine = *cache;
  Thing* thing = *mine.allocate(AllocFlags::Kernel);
  mine.free(thing);
  mine.free(thing);
  test.note("still alive");
}

KTEST(death, slab_overrun, .flags = TestFlag::Death) {
  KTEST_EXPECT_PANIC("slab: write behind the object: object");
  KTEST_EXPECT_PANIC(", taken by ktest_death_slab_overrun");
  Cache mine = *Cache::create("seeded", kChecked);
  Thing* thing = *mine.allocate(AllocFlags::Kernel);
  u8* behind = thing->bytes + sizeof(Thing);
  asm("" : "+r"(behind));
  *behind = 0;
  mine.free(thing);
  test.note("still alive");
}

KTEST(death, slab_page_address, .flags = TestFlag::Death) {
  KTEST_EXPECT_PANIC("slab: free of a page's address: object");
  kfree(pointer_to<void>(*__get_free_pages(AllocFlags::Kernel, Order{0}, Owner::Test)));
  test.note("still alive");
}

}  // namespace paean
