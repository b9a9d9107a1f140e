// The usual way into and out of a magazine, inlined into users of mm/slab.hpp and mm/kmalloc.hpp.
//
// Counts change with one instruction in memory: the compiler would take three and a register.
#pragma once

#include "kernel/preempt.hpp"
#include "mm/lowmem.hpp"
#include "mm/slab.hpp"

namespace paean {

struct CpuSlots {
  CpuMagazines slot[kMaxCaches];
};
extern arch::PerCpu<CpuSlots> cpu_slots;

/// What the tag of a free object is. An object may hold it by chance or as a copy of a freed one: a free that finds it
/// looks closely.
inline constexpr u32 kFreeTag = 0xf4ee7a61;

struct SlabFast {
  [[gnu::always_inline]] static u32& tag_of(void* object, u32 offset) {
    return *reinterpret_cast<u32*>(static_cast<u8*>(object) + offset);
  }
  /// Where a cache has its magazines in the template of the per-CPU variables.
  [[gnu::always_inline]] static u32 magazines(const ObjectCache& cache) { return cache.magazines_; }
  [[gnu::always_inline]] static u32 magazines_of(u32 cache_number) {
    return reinterpret_cast<u32>(&cpu_slots) + cache_number * sizeof(CpuMagazines);
  }
  /// This CPU's, for a thread that stays on it: one that holds the claim, or has interrupts off.
  [[gnu::always_inline]] static CpuMagazines* own_magazines(u32 magazines) {
    return reinterpret_cast<CpuMagazines*>(arch::this_percpu_delta() + magazines);
  }

  /// nullptr if the magazine is empty or in use by what was interrupted.
  [[gnu::always_inline]] static void* take(u32 magazines, u32 tag_offset) {
    if (!percpu_claims.claim()) [[unlikely]]
      return nullptr;
    CpuMagazines* cpu = own_magazines(magazines);  // not before: until the claim the thread may change its CPU
    bool empty;
    asm volatile("decl %0" : "+m"(cpu->count), "=@ccs"(empty));
    if (empty) [[unlikely]] {
      asm volatile("incl %0" : "+m"(cpu->count));
      percpu_claims.release();
      return nullptr;
    }
    void* object = cpu->loaded->objects[cpu->count];
    percpu_claims.release();
    tag_of(object, tag_offset) = 0;
    if (object == nullptr) __builtin_unreachable();  // so that the callers' test is one of the above
    return object;
  }

  /// False if the magazine is full or in use by what was interrupted, or if the object may be free already.
  [[gnu::always_inline]] static bool give(u32 magazines, u32 tag_offset, void* object) {
    if (!percpu_claims.claim()) [[unlikely]]
      return false;
    CpuMagazines* cpu = own_magazines(magazines);
    const u32 count = cpu->count;
    u32& tag = tag_of(object, tag_offset);
    if (count == cpu->limit || tag == kFreeTag) [[unlikely]] {
      percpu_claims.release();
      return false;
    }
    tag = kFreeTag;
    cpu->loaded->objects[count] = object;
    asm volatile("incl %0" : "+m"(cpu->count));
    percpu_claims.release();
    return true;
  }

  /// The word of an address's page; 0 if there is no such page.
  [[gnu::always_inline]] static u32 page_word_at(const void* object) {
    const u32 frame = (reinterpret_cast<u32>(object) - direct_map.page_offset.raw()) >> kPageShift;
    if (frame >= direct_map.end.raw()) [[unlikely]]
      return 0;
    return frame_words[frame].word();
  }
  [[gnu::always_inline]] static bool is_slab(u32 word) {
    return static_cast<i32>(word) >= static_cast<i32>(Page::make_slab(0));  // the highest type of all
  }
  [[gnu::always_inline]] static ObjectCache& cache_in(u32 word) {
    return *reinterpret_cast<Slab*>(Page::slab_descriptor_in(word))->cache;
  }

  [[gnu::always_inline]] static u32 tag_offset(const ObjectCache& cache) { return cache.tag_offset_; }
};

[[gnu::always_inline]] inline Result<void*> take_object(ObjectCache& cache, AllocFlags flags) {
  if (void* object = SlabFast::take(SlabFast::magazines(cache), SlabFast::tag_offset(cache))) return object;
  return take_object_slowly(cache, flags);
}

[[gnu::always_inline]] inline void give_object(ObjectCache& cache, u32 tag_offset, void* object) {
  const u32 word = SlabFast::page_word_at(object);
  if (!SlabFast::is_slab(word) || &SlabFast::cache_in(word) != &cache ||
      !SlabFast::give(SlabFast::magazines(cache), tag_offset, object)) [[unlikely]]
    give_object_slowly(cache, object);
}
inline void give_object(ObjectCache& cache, void* object) { give_object(cache, SlabFast::tag_offset(cache), object); }

template <typename T, ObjectConstructor kConstructor>
[[gnu::always_inline]] inline Result<T*> SlabCache<T, kConstructor>::allocate(AllocFlags flags) {
  if (!flags.has(AllocFlags::Zero)) {
    void* object = SlabFast::take(SlabFast::magazines(*cache_), kTagOffset);
    if (object != nullptr) return static_cast<T*>(object);
  }
  const Result<void*> object =
      flags.has(AllocFlags::Zero) ? take_cleared_object(*cache_, flags) : take_object_slowly(*cache_, flags);
  if (!object) return std::unexpected(object.error());
  return static_cast<T*>(*object);
}

template <typename T, ObjectConstructor kConstructor>
[[gnu::always_inline]] inline void SlabCache<T, kConstructor>::free(T* object) {
  give_object(*cache_, kTagOffset, object);
}

}  // namespace paean
