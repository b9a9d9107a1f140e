// What the files of the object allocator share. Not for others: see mm/slab.hpp and mm/kmalloc.hpp.
#pragma once

#include "mm/highmem.hpp"
#include "mm/slab.hpp"
#include "mm/slab_fault.hpp"

namespace paean {

/// What slabs and magazines themselves are made of.
extern ObjectCache descriptor_cache, magazine_cache, cache_cache;

// Memory of slabs: the one place that knows what kind of memory that is: a lowmem block, or with VFallback among the
// flags a virtual one.
[[nodiscard]] Result<VirtAddr> take_slab_memory(AllocFlags flags, Order order);
void give_slab_memory(VirtAddr memory, Order order);
/// Makes the pages of a block point at their slab, and what they were before.
void mark_slab_pages(Slab* slab);
void unmark_slab_pages(const Slab* slab);
/// The slab that holds an address; nullptr if none does. Any address.
Slab* find_slab(const void* object);

/// Steps behind the fast paths. `caller` is where the user's call returns to.
struct SlabPaths {
  static bool has_constructor(const ObjectCache& cache) { return cache.constructor_ != nullptr; }
  static Result<void*> take_slowly(ObjectCache& cache, AllocFlags flags, u32 caller);
  static void give_slowly(Slab* slab, void* object, u32 caller);
  static Result<> grow(ObjectCache& cache, AllocFlags flags);
  /// Slabs that are in no list, chained by `next`; returns their pages.
  static u32 release(Slab* slabs);
  static Slab* take_surplus(ObjectCache& cache, u32 keep) REQUIRES(cache.lock_);
  /// Tells of an object that a slab refused, if there was one.
  static void report_refused(ObjectCache& cache) REQUIRES(cache.lock_);
  /// Is an object, whose tag says so, really free?
  static bool holds(ObjectCache& cache, Slab* slab, const void* object) REQUIRES(cache.lock_);
  /// A CPU's magazines as they are now; they move meanwhile, unless it is this CPU with interrupts off.
  static CpuMagazines look_at(const ObjectCache& cache, u32 cpu);

 private:
  static void* take_locked(ObjectCache& cache, u32 caller) REQUIRES(cache.lock_);
  enum class Given : u8 { Done, NeedsMagazine };
  enum class Magazines : u8 { Use, Avoid };
  static Given give_locked(ObjectCache& cache, Slab* slab, void* object, u32 caller, Magazines magazines)
      REQUIRES(cache.lock_);
  static bool is_wrong(ObjectCache& cache, Slab* slab, void* object, u32 caller) REQUIRES(cache.lock_);
};

/// What kmalloc() took as whole blocks.
PageCount large_kmalloc_pages();

/// Tells of the free of an address that is in no slab, or in one of another cache.
void report_wrong_address(const char* cache, const void* object, u32 caller);

inline u32 address_of_object(const void* object) { return reinterpret_cast<u32>(object); }

}  // namespace paean
