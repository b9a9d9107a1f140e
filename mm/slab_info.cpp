// What people see of the object allocator.
#include "mm/slab_paths.hpp"

namespace paean {

namespace {

PageCount pages_of(const CacheStatistics& cache) { return PageCount{cache.slabs * cache.layout.order.pages()}; }

template <typename Chosen>
PageCount pages_of_all(Chosen chosen) {
  PageCount sum{0};
  for (u32 i = 0; i < kMaxCaches; ++i) {
    if (const auto cache = cache_statistics(i); cache && chosen(*cache)) sum += pages_of(*cache);
  }
  return sum;
}

}  // namespace

PageCount slab_pages() {
  return pages_of_all([](const CacheStatistics&) { return true; });
}

PageCount reclaimable_slab_pages() {
  return pages_of_all([](const CacheStatistics& cache) { return cache.flags.has(CacheFlag::Reclaimable); });
}

void print_slabinfo(Sink& out) {
  format_to(out,
            "slabinfo - version: 2.1\n# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> "
            ": tunables <limit> <batchcount> <sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>\n");
  for (u32 i = 0; i < kMaxCaches; ++i) {
    const auto cache = cache_statistics(i);
    if (!cache) continue;
    const SlabLayout& layout = cache->layout;
    format_to(out, "{:<17} {:>6} {:>6} {:>6} {:>4} {:>4} ", cache->name, cache->used, cache->slabs * layout.objects,
              layout.stride, layout.objects, layout.order.pages());
    format_to(out, ": tunables {:>4} {:>4} {:>4} : slabdata {:>6} {:>6} {:>6}\n", cache->magazine_limit,
              cache->magazine_limit / 2, cache->magazine_limit == 0 ? 0 : SlabStore::kDepotLimit,
              cache->slabs - cache->empty_slabs, cache->slabs, 0);
  }
}

void print_slab_owners(Sink& out) {
  PageCount owned{0};
  for (const ZoneId id : kAllZones) owned += ledger_pages(id, Owner::Slab);
  if (owned.count() == 0) return;
  format_to(out, "Slab, by cache:\n");
  PageCount sum{0};
  for (u32 i = 0; i < kMaxCaches; ++i) {
    const auto cache = cache_statistics(i);
    if (!cache || cache->slabs == 0) continue;
    sum += pages_of(*cache);
    format_to(out, "  {:<24}{:>12} kB\n", cache->name, pages_of(*cache).kib());
  }
  const PageCount large = large_kmalloc_pages();
  if (large.count() != 0) format_to(out, "  {:<24}{:>12} kB\n", "kmalloc, whole pages", large.kib());
  sum += large;
  format_to(out, "  {:<24}{:>12} kB\n", "caches in all", sum.kib());
  format_to(out, "sum {} kB = slab {} kB: {}\n", sum.kib(), owned.kib(), sum == owned ? "exact" : "WRONG");
}

ObjectCache* cache_of(const void* object) {
  const Slab* slab = find_slab(object);
  return slab == nullptr ? nullptr : slab->cache;
}

std::string_view cache_name_of(const Page* page) {
  const u32 word = page->word();
  if (Page::type_in(word) != PageType::Slab) return "none";
  return reinterpret_cast<const Slab*>(Page::slab_descriptor_in(word))->cache->name();
}

}  // namespace paean
