// A SlabStore with memory from the host and pretended CPUs: what tests and the fuzzer drive.
#pragma once

#include <cstdlib>
#include <map>
#include <memory>
#include <vector>

#include "mm/slab_store.hpp"

namespace paean {

class SlabModel {
 public:
  static constexpr u32 kCpus = 3;

  SlabModel(const SlabSpec& spec, u32 magazine_limit) {
    store.init(*plan_slab(spec), magazine_limit, [](const void* object) { return find(object); });
  }
  ~SlabModel() {
    drain_all();
    shrink(0);
    while (Magazine* magazine = store.take_magazine()) {
      magazines_ -= 1;
      std::free(magazine);
    }
    for (const auto& [memory, slab] : slabs()) discard(slab);
    slabs().clear();
  }
  SlabModel(const SlabModel&) = delete;
  SlabModel& operator=(const SlabModel&) = delete;

  /// As the kernel's fast and slow paths do it.
  void* take(u32 cpu) {
    CpuMagazines& mine = cpus[cpu];
    for (;;) {
      void* object = mine.count != 0 ? mine.loaded->objects[--mine.count] : store.take_through(mine);
      if (object != nullptr) return object;
      grow();
    }
  }
  void* take_directly() {
    void* object = store.take();
    if (object != nullptr) return object;
    grow();
    return store.take();
  }
  void give(u32 cpu, void* object) {
    CpuMagazines& mine = cpus[cpu];
    while (mine.count == mine.limit && store.make_room(mine) == SlabStore::Room::NeedsMagazine) {
      ++magazines_;
      store.add_magazine(static_cast<Magazine*>(std::calloc(1, sizeof(Magazine))));
    }
    mine.loaded->objects[mine.count++] = object;
  }
  SlabComplaint give_directly(void* object) { return store.put(find(object), object); }
  void shrink(u32 keep) {
    while (Slab* slab = store.take_surplus(keep)) {
      slabs().erase(slab->memory);
      discard(slab);
    }
  }
  void drain_all() {
    for (CpuMagazines& cpu : cpus) store.drain(cpu);
    store.drain_depot();
  }
  u32 idle() const {
    u32 sum = store.objects_in_depot();
    for (const CpuMagazines& cpu : cpus) sum += cpu.count + (cpu.previous == nullptr ? 0 : cpu.previous->count);
    return sum;
  }
  u32 slab_count() const { return static_cast<u32>(slabs().size()); }

  static Slab* find(const void* object) {
    auto at = slabs().upper_bound(static_cast<u8*>(const_cast<void*>(object)));
    if (at == slabs().begin()) return nullptr;
    --at;
    Slab* slab = at->second;
    return object < at->first + (kPageSize << slab->order.value()) ? slab : nullptr;
  }

  SlabStore store;
  CpuMagazines cpus[kCpus]{};

 private:
  static std::map<u8*, Slab*>& slabs() {
    static std::map<u8*, Slab*> all;
    return all;
  }
  void grow() {
    const SlabLayout& layout = store.layout();
    auto* memory = static_cast<u8*>(std::aligned_alloc(kPageSize, layout.bytes()));
    Slab* slab = layout.place == DescriptorPlace::Inside
                     ? store.descriptor_in(memory)
                     : static_cast<Slab*>(std::aligned_alloc(kDescriptorAlign, kOutsideDescriptorBytes));
    store.make_slab(slab, nullptr, memory);
    slabs()[memory] = slab;
    store.insert(slab);
  }
  static void discard(Slab* slab) {
    u8* memory = slab->memory;
    if (slab->place == DescriptorPlace::Outside) std::free(slab);
    std::free(memory);
  }
  u32 magazines_ = 0;
};

}  // namespace paean
