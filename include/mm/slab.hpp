// Object caches: memory for many things of one size.
//
//   SlabCache<Inode> inodes = TRY(SlabCache<Inode>::create("inode"));
//   Inode* inode = TRY(inodes.allocate(AllocFlags::Kernel));
//   inodes.free(inode);
//
//   allocate    this CPU's magazine | depot of the cache | partial slab | frame allocator
//   free        the same backwards; whichever CPU frees, its magazine takes it
//
// A magazine is used without a lock, by the claim that the page stacks use (percpu_claims of kernel/preempt.hpp): an
// interrupt that comes into the middle of one goes to the slabs instead. So allocate and free are for any context,
// interrupts included; what needs pages follows AllocFlags. Zones above NORMAL are asserted against: objects have
// addresses. From a page's word a free finds the slab, and from it the cache, in constant time.
//
// Constructors run once for each object when its slab is made, in the allocating thread; whoever frees an object leaves
// it constructed. There are no destructors: pages go back as they are. Such caches cannot be asked for zeros.
//
// Errors: OutOfMemory; create() also says InvalidArgument, TooLarge (more than kMaxCaches). Wrong frees panic, see
// mm/slab_fault.hpp. Every build sees: addresses that are no slab's, the wrong cache, double frees (a tag in the free
// object). Checked caches (all of them in DEBUG=1 builds that do not say
// otherwise) also see writes outside of objects and after their free, and know who had an object last; they have no
// magazines.
//
// Source: Bonwick 1994 and 2001, see mm/slab_store.hpp.
#pragma once

#include <optional>

#include "kernel/spinlock.hpp"
#include "mm/page_alloc.hpp"
#include "mm/slab_check.hpp"
#include "mm/slab_store.hpp"

namespace paean {

enum class CacheFlag : u8 {
  HwAlign = 1 << 0,      // each object begins with a line of the CPU's cache
  Reclaimable = 1 << 1,  // its objects can be given back under pressure, by a shrinker
  VFallback = 1 << 2,    // slabs of high order, which may be virtually contiguous
  Checked = 1 << 3,      // red zones and the rest in every build
  Unchecked = 1 << 4,    // none even in debug builds
};

/// A set of CacheFlag.
class CacheFlags {
 public:
  constexpr CacheFlags() = default;
  constexpr CacheFlags(CacheFlag flag) : bits_(static_cast<u8>(flag)) {}  // NOLINT(google-explicit-constructor)
  constexpr bool has(CacheFlag flag) const { return (bits_ & static_cast<u8>(flag)) != 0; }
  constexpr CacheFlags operator|(CacheFlags other) const { return CacheFlags(static_cast<u8>(bits_ | other.bits_)); }

 private:
  constexpr explicit CacheFlags(u8 bits) : bits_(bits) {}
  u8 bits_ = 0;
};
constexpr CacheFlags operator|(CacheFlag a, CacheFlag b) { return CacheFlags{a} | CacheFlags{b}; }

using ObjectConstructor = void (*)(void* object);

struct CacheSpec {
  const char* name;  // lives as long as the cache
  u32 size;
  u32 align = 8;
  CacheFlags flags{};
  ObjectConstructor constructor = nullptr;
  DescriptorPlace farthest = DescriptorPlace::Outside;  // Inside: for what descriptors and magazines are made of
  u32 magazine_limit = ~0u;                             // ~0: by the size of objects
};

inline constexpr u32 kMaxCaches = 128;  // 2 KiB a CPU

/// An untyped cache.
class ObjectCache {
 public:
  constexpr ObjectCache() = default;
  ObjectCache(const ObjectCache&) = delete;
  ObjectCache& operator=(const ObjectCache&) = delete;

  static Result<ObjectCache*> create(const CacheSpec& spec);
  /// Gives all its memory back. Objects that are still used are a fault (StillInUse), and then the cache stays: Busy.
  /// May sleep.
  static Result<> destroy(ObjectCache* cache);
  /// In place of create(), for caches that are never destroyed.
  Result<> init(const CacheSpec& spec);

  const char* name() const { return name_; }
  /// Below kMaxCaches.
  u32 number() const { return number_; }
  const SlabLayout& layout() const { return layout_; }
  bool is_checked() const { return layout_.track_offset != 0; }
  CacheFlags flags() const { return flags_; }

 private:
  friend class CacheTable;
  friend struct SlabFast;
  friend struct SlabPaths;

  // What the fast paths read.
  u32 magazines_ = 0;  // where the template of per-CPU variables has this cache's
  u32 tag_offset_ = 0;

  u32 number_ = 0;
  SlabLayout layout_{};
  const char* name_ = nullptr;
  ObjectConstructor constructor_ = nullptr;
  CacheFlags flags_{};
  SpinLock lock_{LockRank::Slab};
  SlabStore store_ GUARDED_BY(lock_){};
};

/// An object. Contents are undefined but for constructed ones.
[[nodiscard]] Result<void*> take_object(ObjectCache& cache, AllocFlags flags);
/// Filled with zeros. Not for caches with a constructor (asserted).
[[nodiscard]] Result<void*> take_cleared_object(ObjectCache& cache, AllocFlags flags);
void give_object(ObjectCache& cache, void* object);

// What the inlined parts jump to when there is anything unusual.
[[nodiscard, gnu::cold]] Result<void*> take_object_slowly(ObjectCache& cache, AllocFlags flags);
[[gnu::cold]] void give_object_slowly(ObjectCache& cache, void* object);

/// Objects of type T, aligned as T is. They are raw memory, or what the constructor made of it.
template <typename T, ObjectConstructor kConstructor = nullptr>
class SlabCache {
 public:
  static Result<SlabCache> create(const char* name, CacheFlags flags = {}) {
    return SlabCache {
      TRY(ObjectCache::create(
          {.name = name, .size = sizeof(T), .align = alignof(T), .flags = flags, .constructor = kConstructor}))
    };
  }
  Result<> destroy() { return ObjectCache::destroy(cache_); }

  [[nodiscard]] Result<T*> allocate(AllocFlags flags);
  void free(T* object);
  ObjectCache& cache() { return *cache_; }

 private:
  static constexpr u32 kTagOffset = kConstructor == nullptr ? 0 : tag_behind(sizeof(T));  // of unchecked caches
  explicit SlabCache(ObjectCache* cache) : cache_(cache) {}
  ObjectCache* cache_;
};

/// The cache that an object is of; nullptr for anything else. Any address.
ObjectCache* cache_of(const void* object);
/// The cache of a Slab page, for people.
std::string_view cache_name_of(const Page* page);

// Reclaim.

/// Empties the magazines of every CPU and gives all empty slabs back. Pages given. May sleep; interrupts on.
u32 shrink_caches();

// For people and for tests.

struct CacheStatistics {
  const char* name;
  SlabLayout layout;
  CacheFlags flags;
  u32 used;   // objects; exact when magazines rest
  u32 slabs;  //
  u32 empty_slabs;
  u32 magazine_limit;
};
/// The cache with this number, below kMaxCaches, if there is one.
std::optional<CacheStatistics> cache_statistics(u32 number);
/// Pages of all slabs.
PageCount slab_pages();
/// Those of caches that a shrinker gives back: CacheFlag::Reclaimable.
PageCount reclaimable_slab_pages();
/// /proc/slabinfo, version 2.1.
void print_slabinfo(Sink& out);
/// For `lowmem`: the ledger's row of slabs by cache, and what kmalloc took as whole blocks; nothing if that is empty.
void print_slab_owners(Sink& out);

/// Caches of descriptors and magazines, and of kmalloc. Boot, once, after the zones.
void init_slab();

}  // namespace paean

#include "mm/slab_fast.hpp"
