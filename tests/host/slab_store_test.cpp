// SlabStore: objects are handed out once, come back to their slabs, and mistakes are seen there.
#include "mm/slab_store.hpp"

#include <cstring>
#include <random>
#include <set>

#include "slab_model.hpp"
#include "support.hpp"

using namespace paean;

TEST_CASE("slab_store: every object of a slab is another one, inside and aligned") {
  for (const u32 size : {8u, 24u, 48u, 64u, 128u, 192u, 1000u, 4096u, 6144u}) {
    SlabModel model{{.size = size, .align = 16}, 0};
    const u32 objects = model.store.layout().objects;
    std::set<u8*> seen;
    for (u32 i = 0; i < objects * 3; ++i) {
      auto* object = static_cast<u8*>(model.take_directly());
      CHECK(reinterpret_cast<std::uintptr_t>(object) % 16 == 0);
      std::memset(object, 0xaa, size);
      const auto next = seen.lower_bound(object);
      if (next != seen.end()) REQUIRE(*next >= object + size);
      if (next != seen.begin()) REQUIRE(*std::prev(next) + size <= object);
      seen.insert(object);
    }
    CHECK(model.store.slabs() == 3);
    CHECK(model.store.full().count() == 3);
    for (u8* object : seen) CHECK(model.give_directly(object) == SlabComplaint::None);
    CHECK(model.store.empty_slabs() == 3);
    CHECK(model.store.objects_out() == 0);
    model.shrink(0);
    CHECK(model.slab_count() == 0);
  }
}

TEST_CASE("slab_store: colours take turns") {
  SlabModel model{{.size = 700}, 0};
  const u32 colours = model.store.layout().colours;
  REQUIRE(colours > 1);
  std::set<u32> offsets;
  std::vector<void*> held;
  for (u32 i = 0; i < colours; ++i) {
    for (u32 object = 0; object < model.store.layout().objects; ++object) held.push_back(model.take_directly());
    const Slab* slab = SlabModel::find(held.back());
    offsets.insert(static_cast<u32>(slab->first - slab->memory));
  }
  CHECK(offsets.size() == colours);
  for (void* object : held) CHECK(model.give_directly(object) == SlabComplaint::None);
}

TEST_CASE("slab_store: a slab refuses what is free or no object") {
  SlabModel model{{.size = 64}, 0};
  auto* object = static_cast<u8*>(model.take_directly());
  CHECK(model.give_directly(object + 8) == SlabComplaint::NotAnObject);
  CHECK(model.give_directly(object + 63) == SlabComplaint::NotAnObject);
  CHECK(model.give_directly(object) == SlabComplaint::None);
  CHECK(model.give_directly(object) == SlabComplaint::AlreadyFree);
  CHECK(model.store.objects_out() == 0);
}

TEST_CASE("slab_store: an object that went into magazines twice is named when it comes home") {
  SlabModel model{{.size = 64}, 4};
  void* object = model.take(0);
  model.give(0, object);
  model.give(1, object);
  model.drain_all();
  const SlabStore::Refused refused = model.store.take_refused();
  CHECK(refused.complaint == SlabComplaint::AlreadyFree);
  CHECK(refused.object == object);
  CHECK(model.store.take_refused().complaint == SlabComplaint::None);
}

TEST_CASE("slab_store: the newest object comes first, and one CPU's go to another by the depot") {
  SlabModel model{{.size = 64}, 4};
  void* object = model.take(0);
  model.give(0, object);
  CHECK(model.take(0) == object);
  std::vector<void*> held{object};
  for (u32 i = 0; i < 40; ++i) held.push_back(model.take(0));
  const u32 slabs = model.store.slabs();
  for (void* each : held) model.give(0, each);
  CHECK(model.store.objects_in_depot() != 0);
  for (u32 i = 0; i < 20; ++i) held[i] = model.take(1);
  CHECK(model.store.slabs() == slabs);
  for (u32 i = 0; i < 20; ++i) model.give(1, held[i]);
}

TEST_CASE("slab_store: the depot is bounded") {
  SlabModel model{{.size = 64}, 4};
  std::vector<void*> held;
  for (u32 i = 0; i < 4000; ++i) held.push_back(model.take(0));
  for (void* object : held) model.give(0, object);
  CHECK(model.idle() <= 4 * (SlabStore::kDepotLimit + 2));
  CHECK(model.store.take_refused().complaint == SlabComplaint::None);
  model.shrink(SlabStore::kEmptySlabsLimit);
  CHECK(model.slab_count() <= SlabStore::kEmptySlabsLimit + model.idle());
}

TEST_CASE("slab_store: random work on three CPUs") {
  for (u32 seed = 1; seed <= 30; ++seed) {
    std::mt19937 random{seed};
    SlabModel model{{.size = 8u << (seed % 8)}, random() % (Magazine::kCapacity + 1) / 2 + 1};
    std::set<void*> used;
    for (u32 step = 0; step < 4000; ++step) {
      const u32 cpu = random() % SlabModel::kCpus;
      if (random() % 64 == 0) model.store.drain(model.cpus[cpu]);
      if (random() % 64 == 0) model.shrink(random() % 3);
      if (used.empty() || random() % (step % 2000 < 1000 ? 3 : 2) != 0) {
        REQUIRE(used.insert(model.take(cpu)).second);
      } else {
        auto which = used.begin();
        std::advance(which, random() % used.size());
        model.give(cpu, *which);
        used.erase(which);
      }
      REQUIRE(model.store.objects_out() == used.size() + model.idle());
    }
    for (void* object : used) model.give(0, object);
    model.drain_all();
    CHECK(model.store.objects_out() == 0);
    CHECK(model.store.empty_slabs() == model.store.slabs());
    CHECK(model.store.take_refused().complaint == SlabComplaint::None);
  }
}
