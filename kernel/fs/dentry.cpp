#include <algorithm>
#include <boost/intrusive/list.hpp>
#include <boost/intrusive/unordered_set.hpp>
#include <memory>
#include <new>

#include "kernel/fs/mount_table.hpp"
#include "kernel/fs/name_cache.hpp"
#include "lib/bytes.hpp"
#include "mm/kmalloc.hpp"
#include "mm/shrink.hpp"
#include "mm/slab.hpp"

namespace paean {

namespace {

constexpr u32 kBuckets = 4096;  // 16 KiB; chains of four when it is full

struct Key {
  u64 directory;
  std::string_view name;
};

/// The name's bytes lie behind it: a short one's, which most are, in an object of the cache of names, others in
/// memory of their own.
struct CachedName : boost::intrusive::unordered_set_base_hook<boost::intrusive::store_hash<true>>,
                    boost::intrusive::list_base_hook<> {
  u64 directory;
  u32 number;
  u8 length;
  bool found_again = false;

  CachedName(const Key& key, u32 number_of)
      : directory(key.directory), number(number_of), length(static_cast<u8>(key.name.size())) {
    std::copy(key.name.begin(), key.name.end(), bytes());
  }
  char* bytes() { return chars_at(this + 1); }
  std::string_view name() const { return {chars_at(this + 1), length}; }

  static constexpr u32 kShort = 40;
};

struct KeyOf {
  using type = Key;  // NOLINT(readability-identifier-naming): Boost wants that name
  Key operator()(const CachedName& name) const { return {name.directory, name.name()}; }
};
struct HashKey {
  usize operator()(const Key& key) const {
    constexpr u32 kPrime = 0x01000193;  // FNV-1a
    u32 hash = 0x811c9dc5 ^ static_cast<u32>(key.directory);
    for (const char c : key.name) hash = (hash ^ static_cast<u8>(c)) * kPrime;
    return hash ^ hash >> 15;
  }
};
struct SameKey {
  bool operator()(const Key& a, const Key& b) const { return a.directory == b.directory && a.name == b.name; }
};

using Table =
    boost::intrusive::unordered_set<CachedName, boost::intrusive::key_of_value<KeyOf>, boost::intrusive::hash<HashKey>,
                                    boost::intrusive::equal<SameKey>, boost::intrusive::power_2_buckets<true>,
                                    boost::intrusive::constant_time_size<false>>;
using Ages = boost::intrusive::list<CachedName>;

constinit ObjectCache short_names;

Result<void*> take_memory(u32 length) {
  constexpr AllocFlags kFlags = AllocFlags::Kernel | AllocFlags::NoWarn;
  if (length <= CachedName::kShort) return take_object(short_names, kFlags);
  return kmalloc(static_cast<u32>(sizeof(CachedName)) + length, kFlags);
}

void end(CachedName& name) {
  const bool is_short = name.length <= CachedName::kShort;
  std::destroy_at(&name);
  is_short ? give_object(short_names, &name) : kfree(&name);
}

constinit Shrinker name_shrinker{.name = "names", .count = NameCache::count, .shrink = NameCache::shrink};

}  // namespace

struct NameCache::Lists {
  Table::bucket_type buckets[kBuckets];
  Table table{Table::bucket_traits{buckets, kBuckets}};
  Ages ages;  // newest first

  void drop(CachedName& name) {
    table.erase(table.iterator_to(name));
    ages.erase(Ages::s_iterator_to(name));
    end(name);
  }
  /// The oldest that nobody has found lately.
  void drop_oldest() {
    while (ages.back().found_again) {
      ages.back().found_again = false;
      ages.splice(ages.begin(), ages, std::prev(ages.end()));
    }
    drop(ages.back());
  }
};

static constinit NameCache::Lists* lists = nullptr;

void NameCache::init() {
  lists = &make_boot_table<Lists>();
  const Result<> made = short_names.init({.name = "dentry",
                                          .size = sizeof(CachedName) + CachedName::kShort,
                                          .align = alignof(CachedName),
                                          .flags = CacheFlag::Reclaimable});
  if (!made) panic("no memory for names");
  register_shrinker(name_shrinker);
}

std::optional<u32> NameCache::find_locked(u64 directory, std::string_view name) {
  const auto at = lists->table.find(Key{directory, name});
  if (at == lists->table.end()) return std::nullopt;
  at->found_again = true;
  return at->number;
}

void NameCache::set(const Inode& directory, std::string_view name, u32 number) {
  const Key key{directory.serial(), name};
  {
    const SpinGuard<NoIrq> guard{names_lock};
    if (const auto at = lists->table.find(key); at != lists->table.end()) {
      at->number = number;
      return;
    }
  }
  const Result<void*> place = take_memory(static_cast<u32>(name.size()));
  if (!place) return;
  auto* cached = std::construct_at(static_cast<CachedName*>(*place), key, number);
  const SpinGuard<NoIrq> guard{names_lock};
  // Nobody else can have set it: its directory is locked.
  lists->table.insert(*cached);
  lists->ages.push_front(*cached);
  if (lists->ages.size() > kMaxNames) lists->drop_oldest();
}

void NameCache::forget(const Inode& directory, std::string_view name) {
  const SpinGuard<NoIrq> guard{names_lock};
  if (const auto at = lists->table.find(Key{directory.serial(), name}); at != lists->table.end()) lists->drop(*at);
}

u32 NameCache::shrink(u32 names) {
  const SpinGuard<NoIrq> guard{names_lock};
  u32 gone = 0;
  for (; gone < names && !lists->ages.empty(); ++gone) lists->drop_oldest();
  return gone;
}

u32 NameCache::count() {
  const SpinGuard<NoIrq> guard{names_lock};
  return static_cast<u32>(lists->ages.size());
}

FileCaches file_caches() {
  FileCaches caches = InodeCache::count();
  caches.names = NameCache::count();
  return caches;
}

Result<InodeRef> look_up(Inode& directory, std::string_view name) {
  if (directory.links == 0) return std::unexpected(Error::NotFound);  // removed, but still in use
  std::optional<u32> number;
  {
    const SpinGuard<NoIrq> guard{names_lock};
    number = NameCache::find_locked(directory.serial(), name);
  }
  if (!number) {
    const Result<u32> found = directory.super->lookup(directory, name);
    if (!found && found.error() != Error::NotFound) return std::unexpected(found.error());
    number = found ? *found : 0;
    NameCache::set(directory, name, *number);
  }
  if (*number == 0) return std::unexpected(Error::NotFound);
  return find_inode(*directory.super, *number);
}

Result<InodeRef> step_to(Inode& directory, std::string_view name) {
  {
    const SpinGuard<NoIrq> guard{names_lock};
    const std::optional<u32> number = NameCache::find_locked(directory.serial(), name);
    if (number && *number == 0) return std::unexpected(Error::NotFound);
    if (number) {
      if (InodeRef inode = InodeCache::find_locked(*directory.super, *number)) {
        return MountTable::cross_locked(std::move(inode));
      }
    }
  }
  Result<InodeRef> found{};
  {
    const ReadGuard names{directory.super->names};
    const MutexGuard guard{directory.mutex};
    found = look_up(directory, name);
  }
  if (!found) return found;
  return MountTable::cross(std::move(*found));
}

}  // namespace paean
