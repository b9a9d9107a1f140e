// Every allocation that object caches make on their way may fail.
#include "access.hpp"
#include "kernel/test/fail_nth.hpp"
#include "mm/kmalloc.hpp"

namespace paean {

namespace {

constexpr AllocFlags kQuietly = AllocFlags::Kernel | AllocFlags::NoWarn;

/// As many objects as there are, up to a hundred, from a cache of its own; all given back.
Result<> use_cache(CacheFlags flags) {
  ObjectCache* cache = TRY(ObjectCache::create({.name = "failing", .size = 128, .flags = flags}));
  void* objects[100]{};
  Result<> result{};
  for (void*& object : objects) {
    const Result<void*> taken = take_object(*cache, kQuietly);
    if (taken)
      object = *taken;
    else
      result = std::unexpected(taken.error());
  }
  for (void* object : objects) {
    if (object != nullptr) give_object(*cache, object);
  }
  const Result<> ended = ObjectCache::destroy(cache);
  return ended ? result : ended;
}

Result<> use_kmalloc(u32 size) {
  void* object = TRY(kmalloc(size, kQuietly | AllocFlags::Zero));
  const Result<void*> moved = krealloc(object, size * 2, kQuietly);
  kfree(moved ? *moved : object);
  if (!moved) return std::unexpected(moved.error());
  return {};
}

}  // namespace

KTEST(fault, caches_survive) {
  u32 met = 0;
  met += fail_nth(test, "cache", [] { return use_cache(CacheFlag::Unchecked); });
  met += fail_nth(test, "checked cache", [] { return use_cache(CacheFlag::Checked); });
  for (const u32 size : {8u, 64u, 192u, 3000u, 20'000u}) {
    met += fail_nth(test, "kmalloc", [=] { return use_kmalloc(size); });
  }
  test.note("{} failures met", met);
  EXPECT(met > 50);
}

}  // namespace paean
