// Which caches there are: making and ending them, and taking back what they keep in reserve.
#include <algorithm>
#include <new>

#include "arch/smp.hpp"
#include "kernel/fault.hpp"
#include "mm/kmalloc.hpp"
#include "mm/slab_paths.hpp"

namespace paean {

constinit ObjectCache descriptor_cache, magazine_cache, cache_cache;

/// The caches by number. Its lock is held while a cache is looked at, so that none ends meanwhile.
class CacheTable {
 public:
  Result<> add(ObjectCache& cache, const CacheSpec& spec);
  Result<> remove(ObjectCache& cache);
  /// Empties this CPU's magazines, unless an interrupt came into the middle of their use: then false.
  bool drain_here(arch::IrqsOff);
  /// The empty slabs of all caches, chained.
  Slab* take_empty_slabs();
  std::optional<CacheStatistics> statistics(u32 number);
  static CacheStatistics describe(ObjectCache& cache);

 private:
  /// Empty magazines of a cache, chained by `next`.
  static Magazine* take_magazines(ObjectCache& cache) REQUIRES(cache.lock_);
  static Slab* empty(ObjectCache& cache, Magazine*& magazines);

  SpinLock lock_{LockRank::SlabCaches};
  ObjectCache* caches_[kMaxCaches] GUARDED_BY(lock_){};
};

namespace {

constinit CacheTable table;

u32 default_magazine_limit(u32 size) { return size <= 256 ? 30 : size <= 1024 ? 16 : size <= 4096 ? 8 : 4; }

constexpr Checking checking_for(CacheFlags flags) {
#ifdef PAEAN_DEBUG
  return flags.has(CacheFlag::Unchecked) ? Checking::Off : Checking::On;
#else
  return flags.has(CacheFlag::Checked) ? Checking::On : Checking::Off;
#endif
}

void free_magazines(Magazine* chain) {
  while (chain != nullptr) {
    Magazine* magazine = chain;
    chain = chain->next;
    give_object(magazine_cache, magazine);
  }
}

constinit u32 cpus_busy = 0;

void drain_cpu(arch::IrqsOff off) {
  if (!table.drain_here(off)) __atomic_fetch_add(&cpus_busy, 1, __ATOMIC_RELAXED);
}

/// Empties the magazines of all CPUs. A CPU that is in the middle of using them is asked again: it goes on meanwhile.
/// One thread at a time, which stays on its CPU: otherwise one could be left out.
void drain_magazines() {
  static constinit SpinLock draining{LockRank::SlabDrain};
  const SpinGuard<NoIrq> guard{draining};
  do {
    __atomic_store_n(&cpus_busy, 0, __ATOMIC_RELAXED);
    arch::run_on_other_cpus(drain_cpu);
  } while (__atomic_load_n(&cpus_busy, __ATOMIC_RELAXED) != 0);
  const arch::IrqsOffGuard off;
  drain_cpu(off.token());
}

}  // namespace

Result<> CacheTable::add(ObjectCache& cache, const CacheSpec& spec) {
  const u32 align = spec.flags.has(CacheFlag::HwAlign) ? std::max(spec.align, 64u) : spec.align;
  cache.name_ = spec.name;
  cache.flags_ = spec.flags;
  cache.constructor_ = spec.constructor;
  cache.layout_ = TRY(plan_slab({.size = spec.size,
                                 .align = align,
                                 .checking = checking_for(spec.flags),
                                 .constructed = spec.constructor == nullptr ? Constructed::No : Constructed::Yes,
                                 .max_order = spec.flags.has(CacheFlag::VFallback) ? 3u : 1u,
                                 .farthest = spec.farthest}));
  cache.tag_offset_ = cache.layout_.tag_offset;
  u32 limit = spec.magazine_limit == ~0u ? default_magazine_limit(cache.layout_.stride) : spec.magazine_limit;
  if (cache.is_checked()) limit = 0;  // the checks are in the slow paths
  const SpinGuard<IrqSave> guard{lock_};
  for (u32 i = 0; i < kMaxCaches; ++i) {
    if (caches_[i] != nullptr) continue;
    {
      const SpinGuard<NoIrq> inner{cache.lock_};
      cache.store_.init(cache.layout_, limit, find_slab);
    }
    cache.number_ = i;
    cache.magazines_ = SlabFast::magazines_of(i);
    caches_[i] = &cache;
    return {};
  }
  return std::unexpected(Error::TooLarge);
}

Result<> CacheTable::remove(ObjectCache& cache) {
  const SpinGuard<IrqSave> guard{lock_};
  const SpinGuard<NoIrq> inner{cache.lock_};
  if (cache.store_.slabs() != 0) return std::unexpected(Error::Busy);
  caches_[cache.number_] = nullptr;
  return {};
}

bool CacheTable::drain_here(arch::IrqsOff) {
  if (!percpu_claims.is_zero()) return false;
  const SpinGuard<NoIrq> guard{lock_};
  for (ObjectCache* cache : caches_) {
    if (cache == nullptr) continue;
    const SpinGuard<NoIrq> inner{cache->lock_};
    cache->store_.drain(*SlabFast::own_magazines(SlabFast::magazines(*cache)));
    SlabPaths::report_refused(*cache);
  }
  return true;
}

Magazine* CacheTable::take_magazines(ObjectCache& cache) {
  Magazine* chain = nullptr;
  while (Magazine* magazine = cache.store_.take_magazine()) {
    magazine->next = chain;
    chain = magazine;
  }
  return chain;
}

Slab* CacheTable::empty(ObjectCache& cache, Magazine*& magazines) {
  const SpinGuard<NoIrq> guard{cache.lock_};
  cache.store_.drain_depot();
  SlabPaths::report_refused(cache);
  magazines = take_magazines(cache);
  return SlabPaths::take_surplus(cache, 0);
}

Slab* CacheTable::take_empty_slabs() {
  Slab* all = nullptr;
  for (u32 i = 0; i < kMaxCaches; ++i) {
    Magazine* magazines = nullptr;
    {
      const SpinGuard<IrqSave> guard{lock_};
      Slab* slabs = caches_[i] == nullptr ? nullptr : empty(*caches_[i], magazines);
      while (slabs != nullptr) {
        Slab* slab = slabs;
        slabs = slab->next;
        slab->next = all;
        all = slab;
      }
    }
    free_magazines(magazines);
  }
  return all;
}

std::optional<CacheStatistics> CacheTable::statistics(u32 number) {
  const SpinGuard<IrqSave> guard{lock_};
  ObjectCache* cache = number < kMaxCaches ? caches_[number] : nullptr;
  if (cache == nullptr) return std::nullopt;
  return describe(*cache);
}

CacheStatistics CacheTable::describe(ObjectCache& cache) {
  const SpinGuard<NoIrq> guard{cache.lock_};
  u32 idle = cache.store_.objects_in_depot();
  for (u32 cpu = 0; cpu < arch::online_cpus(); ++cpu) {
    const CpuMagazines now = SlabPaths::look_at(cache, cpu);
    idle += now.count + (now.previous == nullptr ? 0 : now.previous->count);
  }
  return CacheStatistics{.name = cache.name_,
                         .layout = cache.layout_,
                         .flags = cache.flags_,
                         .used = cache.store_.objects_out() > idle ? cache.store_.objects_out() - idle : 0,
                         .slabs = cache.store_.slabs(),
                         .empty_slabs = cache.store_.empty_slabs(),
                         .magazine_limit = cache.store_.magazine_limit()};
}

Result<> ObjectCache::init(const CacheSpec& spec) { return table.add(*this, spec); }

FAULT_SITE(object_cache, "a place among all object caches");

Result<ObjectCache*> ObjectCache::create(const CacheSpec& spec) {
  void* memory = TRY(take_object(cache_cache, AllocFlags::Kernel));
  auto* cache = new (memory) ObjectCache;
  const Result<> added = must_fail(fault_object_cache) ? std::unexpected(Error::TooLarge) : table.add(*cache, spec);
  if (added) return cache;
  give_object(cache_cache, cache);
  return std::unexpected(added.error());
}

Result<> ObjectCache::destroy(ObjectCache* cache) {
  (void)shrink_caches();
  const Result<> removed = table.remove(*cache);
  if (!removed) {
    report_slab_fault(
        {SlabFaultKind::StillInUse, cache->name_, cache, cache, reinterpret_cast<u32>(__builtin_return_address(0))});
    return removed;
  }
  give_object(cache_cache, cache);
  return {};
}

u32 shrink_caches() {
  drain_magazines();
  u32 pages = 0;
  // What is given back fills descriptors' and magazines' caches, which have none of their own.
  for (u32 round = 0; round < 3; ++round) pages += SlabPaths::release(table.take_empty_slabs());
  return pages;
}

std::optional<CacheStatistics> cache_statistics(u32 number) { return table.statistics(number); }

void init_slab() {
  constexpr CacheFlags kPlain{CacheFlag::Unchecked};
  const auto must = [](Result<> made) { ASSERT(made.has_value()); };
  must(descriptor_cache.init({.name = "slab",
                              .size = kOutsideDescriptorBytes,
                              .align = kDescriptorAlign,
                              .flags = kPlain,
                              .farthest = DescriptorPlace::Inside,
                              .magazine_limit = 0}));
  must(magazine_cache.init({.name = "magazine",
                            .size = sizeof(Magazine),
                            .flags = kPlain,
                            .farthest = DescriptorPlace::Inside,
                            .magazine_limit = 0}));
  must(cache_cache.init({.name = "cache", .size = sizeof(ObjectCache), .flags = kPlain, .magazine_limit = 0}));
  static constexpr const char* kNames[kKmallocClasses] = {
      "kmalloc-8",    "kmalloc-16",  "kmalloc-32",  "kmalloc-64",  "kmalloc-96",  "kmalloc-128",
      "kmalloc-192",  "kmalloc-256", "kmalloc-384", "kmalloc-512", "kmalloc-768", "kmalloc-1k",
      "kmalloc-1536", "kmalloc-2k",  "kmalloc-3k",  "kmalloc-4k",  "kmalloc-6k",  "kmalloc-8k"};
  for (u32 i = 0; i < kKmallocClasses; ++i) {
    const u32 size = kmalloc_class_size(i);
    // Few of these fit well into a page or two; more pages in a row may be hard to get.
    const CacheFlags flags = size > 2 * kKiB ? CacheFlags{CacheFlag::VFallback} : CacheFlags{};
    must(kmalloc_caches[i].init({.name = kNames[i], .size = size, .align = size == 8 ? 8u : 16u, .flags = flags}));
    ASSERT(kmalloc_caches[i].number() == kFirstKmallocCache + i);
  }
}

}  // namespace paean
