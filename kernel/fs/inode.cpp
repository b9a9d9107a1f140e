namespace boost {
// Before Boost declares it: what comes after a failed assertion is no path that the compiler should warn of.
// NOLINTNEXTLINE(google-runtime-int): its type
[[noreturn]] void assertion_failed(const char* expression, const char* function, const char* file, long line);
}  // namespace boost

#include "kernel/fs/inode_cache.hpp"

#include <algorithm>
#include <boost/intrusive/list.hpp>
#include <boost/intrusive/unordered_set.hpp>
#include <memory>
#include <new>

#include "lib/log.hpp"
#include "mm/kmalloc.hpp"
#include "mm/reclaim_rules.hpp"
#include "mm/shrink.hpp"
#include "mm/slab.hpp"
#include "mm/vm_events.hpp"

namespace paean {

namespace {

constexpr u32 kWaitForMemoryMs = 100;
constexpr u32 kBucketsAtOnce = 64;  // that a walk looks at under the lock
constexpr u32 kBuckets = 4096;      // 16 KiB; chains of two when all of kMaxUnused are there

struct Key {
  const SuperBlock* super;
  u32 number;
};
usize hash_of(const Key& key) {
  constexpr u32 kGolden = 0x9e3779b9;  // neighbours go to buckets far apart
  return (key.number ^ static_cast<u32>(FormatArg{static_cast<const void*>(key.super)}.number >> 4)) * kGolden >> 8;
}
struct KeyOf {
  using type = Key;  // NOLINT(readability-identifier-naming): Boost wants that name
  Key operator()(const Inode& inode) const { return {inode.super, inode.number}; }
};
struct HashKey {
  usize operator()(const Key& key) const { return hash_of(key); }
};
struct SameKey {
  bool operator()(const Key& a, const Key& b) const { return a.super == b.super && a.number == b.number; }
};

using Table =
    boost::intrusive::unordered_set<Inode, boost::intrusive::key_of_value<KeyOf>, boost::intrusive::hash<HashKey>,
                                    boost::intrusive::equal<SameKey>, boost::intrusive::power_2_buckets<true>,
                                    boost::intrusive::constant_time_size<true>>;
using Unused = boost::intrusive::list<Inode>;

}  // namespace

constinit SpinLock names_lock{LockRank::Names};

struct InodeCache::Lists {
  Table::bucket_type buckets[kBuckets];
  Table table{Table::bucket_traits{buckets, kBuckets}};
  Unused unused;
  u64 last_serial = 0;
};

namespace {

constinit ObjectCache inode_objects;
constinit WaitQueue inode_changed;  // one was read, or has left
constinit u32 last_pass = 0;

u32 unused_inodes() { return InodeCache::count().unused_inodes; }
constinit Shrinker inode_shrinker{
    .name = "inodes", .count = unused_inodes, .shrink = InodeCache::shrink, .pace = Shrinker::Pace::WaitsForDisks};

}  // namespace

static constinit InodeCache::Lists* lists = nullptr;

void InodeCache::init() {
  lists = &make_boot_table<Lists>();
  const Result<> made = inode_objects.init(
      {.name = "inode_cache", .size = sizeof(Inode), .align = alignof(Inode), .flags = CacheFlag::Reclaimable});
  if (!made) panic("no memory for inodes");
  register_shrinker(inode_shrinker);
}

Result<SpareInode> SpareInode::take() {
  void* place = TRY(take_object(inode_objects, AllocFlags::Kernel));
  return SpareInode{std::construct_at(static_cast<Inode*>(place), LockRank::File)};
}

static void free_inode(Inode* inode) {
  std::destroy_at(inode);
  give_object(inode_objects, inode);
}

SpareInode::~SpareInode() {
  if (inode_ != nullptr) free_inode(inode_);
}

InodeRef::~InodeRef() {
  if (inode_ != nullptr) InodeCache::put(inode_);
}
InodeRef InodeRef::clone() const { return inode_ != nullptr ? InodeCache::share(*inode_) : InodeRef{}; }

InodeRef InodeCache::share(Inode& inode) {
  inode.references_.fetch_add(1, std::memory_order_relaxed);
  return InodeRef{&inode};
}

InodeRef InodeCache::share_locked(Inode& inode) {
  if (inode.references_.fetch_add(1, std::memory_order_relaxed) == 0) lists->unused.erase(Unused::s_iterator_to(inode));
  return InodeRef{&inode};
}

InodeRef InodeCache::find_locked(SuperBlock& super, u32 number) {
  const auto at = lists->table.find(Key{&super, number});
  if (at == lists->table.end() || at->state() != Inode::State::Ready) return {};
  return share_locked(*at);
}

bool InodeCache::all_unused_locked(const SuperBlock& super, const Inode& besides, u32 users) {
  for (const Inode& inode : lists->table) {
    if (inode.super != &super) continue;
    if (inode.references_.load(std::memory_order_relaxed) != (&inode == &besides ? users : 0)) return false;
  }
  return true;
}

bool InodeCache::has_one_user(const Inode& inode) { return inode.references_.load() == 1; }

bool InodeCache::any_nameless(const SuperBlock& super) {
  const SpinGuard<NoIrq> guard{names_lock};
  return std::ranges::any_of(lists->table,
                             [&](const Inode& inode) { return inode.super == &super && inode.links == 0; });
}

Result<InodeRef> InodeCache::find(SuperBlock& super, u32 number, SpareInode spare) {
  const Key key{&super, number};
  while (true) {
    Inode* fresh = nullptr;
    InodeRef found{};
    {
      const SpinGuard<NoIrq> guard{names_lock};
      const auto at = lists->table.find(key);
      if (at == lists->table.end()) {
        fresh = std::exchange(spare.inode_, nullptr);
        fresh->super = &super;
        fresh->number = number;
        fresh->serial_ = ++lists->last_serial;
        fresh->references_.store(1, std::memory_order_relaxed);
        lists->table.insert(*fresh);
      } else if (at->state() != Inode::State::Leaving) {
        found = share_locked(*at);
      }
    }
    if (fresh != nullptr) return read(fresh);
    if (found) {
      const auto read_yet = [&] { return found->state() != Inode::State::Reading; };
      if (!read_yet()) inode_changed.wait(read_yet);
      if (found->state() == Inode::State::Ready) return found;
      continue;  // it could not be read for somebody else: see for ourselves
    }
    inode_changed.wait([&] {
      const SpinGuard<NoIrq> guard{names_lock};
      const auto at = lists->table.find(key);
      return at == lists->table.end() || at->state() != Inode::State::Leaving;
    });
  }
}

Result<InodeRef> InodeCache::read(Inode* inode) {
  InodeRef mine{inode};
  const Result<> done = inode->super->read_inode(*inode);
  if (done && inode->type == FileType::Directory) {
    // Nobody has locked it yet: they wait for the state.
    std::destroy_at(&inode->mutex);
    std::construct_at(&inode->mutex, LockRank::Directory);
  }
  {
    const SpinGuard<NoIrq> guard{names_lock};
    if (!done) lists->table.erase(lists->table.iterator_to(*inode));
    inode->set_state(done ? Inode::State::Ready : Inode::State::Failed);
  }
  inode_changed.wake_all();
  if (!done) return std::unexpected(done.error());
  return mine;
}

void InodeCache::put(Inode* inode) {
  u32 count = inode->references_.load(std::memory_order_relaxed);
  while (count > 1) {
    if (inode->references_.compare_exchange_weak(count, count - 1, std::memory_order_acq_rel)) return;
  }
  Inode* leaves = nullptr;
  {
    const SpinGuard<NoIrq> guard{names_lock};
    if (inode->references_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    if (inode->state() == Inode::State::Failed) {
      leaves = inode;
    } else if (inode->links == 0) {
      inode->set_state(Inode::State::Leaving);
      leaves = inode;
    } else {
      lists->unused.push_front(*inode);
      if (lists->unused.size() > kMaxUnused) leaves = oldest_leaves();
    }
  }
  if (leaves == nullptr) return;
  if (leaves->state() == Inode::State::Failed)
    free_inode(leaves);
  else
    (void)end(leaves);
}

Inode* InodeCache::oldest_leaves() {
  if (lists->unused.empty()) return nullptr;
  Inode& oldest = lists->unused.back();
  lists->unused.pop_back();
  oldest.set_state(Inode::State::Leaving);
  return &oldest;
}

Result<> InodeCache::write_back(Inode& inode) {
  Result<> result{};
  if (inode.contents != nullptr && inode.contents->store().writes_back()) result = inode.contents->sync();
  const Result<> written = write_attributes(inode);
  return result ? written : result;
}

/// They stay to be written when that failed, but for a file system that will not take them any more.
Result<> InodeCache::write_attributes(Inode& inode) {
  const MutexGuard guard{inode.super->attributes};  // who finds them clean knows that the file system has them
  if (!inode.attributes_dirty) return {};
  inode.attributes_dirty = false;
  const Result<> written = inode.super->write_inode(inode);
  if (!written && written.error() != Error::ReadOnly) inode.attributes_dirty = true;
  return written;
}

/// It is Leaving: this happens once; who looks for it waits. False: it stays for want of memory to write or free it.
bool InodeCache::end(Inode* inode) {
  if (inode->links != 0) {
    if (const Result<> written = write_back(*inode); !written) {
      if (written.error() == Error::OutOfMemory) {
        stay(inode);
        return false;
      }
      log_warning("{}: contents of inode {} are lost: {}", inode->super->type(), inode->number,
                  error_name(written.error()));
    }
  }
  if (!inode->super->evict_inode(*inode)) {
    stay(inode);
    return false;
  }
  {
    const SpinGuard<NoIrq> guard{names_lock};
    lists->table.erase(lists->table.iterator_to(*inode));
  }
  inode_changed.wake_all();
  free_inode(inode);
  return true;
}

void InodeCache::stay(Inode* inode) {
  {
    const SpinGuard<NoIrq> guard{names_lock};
    inode->set_state(Inode::State::Ready);
    lists->unused.push_front(*inode);
  }
  inode_changed.wake_all();
}

/// At most so many are looked at; what cannot go at once waits for its next turn.
Inode* InodeCache::oldest_clean_leaves(u32& looks) {
  for (; looks != 0 && !lists->unused.empty(); --looks) {
    const Inode& oldest = lists->unused.back();
    const AddressSpace* contents = oldest.contents;
    const bool cached = contents != nullptr && contents->store().writes_back() && contents->pages() != 0;
    const bool stays = oldest.attributes_dirty || (cached && contents->dirty_pages() != 0) ||
                       (cached && follows(OldRule::CachePinsInodes));
    if (!stays) return oldest_leaves();
    lists->unused.splice(lists->unused.begin(), lists->unused, std::prev(lists->unused.end()));
  }
  return nullptr;
}

u32 InodeCache::shrink_clean(u32 inodes) {
  u32 gone = 0;
  for (u32 looks = count().unused_inodes; gone < inodes; ++gone) {
    Inode* oldest;
    {
      const SpinGuard<NoIrq> guard{names_lock};
      oldest = oldest_clean_leaves(looks);
    }
    if (oldest == nullptr) break;
    if (oldest->contents != nullptr) count_event(VmEvent::InodeSteal, oldest->contents->pages());
    if (!end(oldest)) break;
  }
  return gone;
}

u32 InodeCache::shrink(u32 inodes) {
  u32 gone = shrink_clean(inodes);
  if (follows(OldRule::CachePinsInodes)) return gone;
  while (gone < inodes) {
    Inode* oldest;
    {
      const SpinGuard<NoIrq> guard{names_lock};
      oldest = oldest_leaves();
    }
    if (oldest == nullptr || !end(oldest)) break;
    ++gone;
  }
  return gone;
}

void InodeCache::drop_all(SuperBlock& super) {
  const auto any = [&]() -> Inode* {
    for (Inode& inode : lists->table) {
      if (inode.super == &super) return &inode;
    }
    return nullptr;
  };
  while (true) {
    Inode* inode;
    bool leaving;
    {
      const SpinGuard<NoIrq> guard{names_lock};
      inode = any();
      if (inode == nullptr) return;
      leaving = inode->state() == Inode::State::Leaving;
      if (!leaving) {
        lists->unused.erase(Unused::s_iterator_to(*inode));
        inode->set_state(Inode::State::Leaving);
      }
    }
    if (leaving)
      thread_yield();  // somebody else is about to be done with it
    else if (!end(inode))
      thread_sleep_ms(kWaitForMemoryMs);
  }
}

InodeRef InodeCache::next_in(SuperBlock& super, u32 bucket, u32 pass, Visit visit) {
  for (auto at = lists->table.begin(bucket); at != lists->table.end(bucket); ++at) {
    if (at->super != &super || at->sync_pass_ == pass || at->state() != Inode::State::Ready) continue;
    at->sync_pass_ = pass;
    const bool pages = at->contents != nullptr && at->contents->store().writes_back() && at->contents->pages() != 0;
    // One without links has stayed for want of memory, and tries again when it is let go.
    if (visit == Visit::All || pages || at->attributes_dirty || at->links == 0) return share_locked(*at);
  }
  return {};
}

InodeRef InodeCache::next_of(SuperBlock& super, u32& bucket, u32 pass, Visit visit) {
  while (bucket < kBuckets) {
    const SpinGuard<NoIrq> guard{names_lock};
    for (const u32 end = std::min(bucket + kBucketsAtOnce, kBuckets); bucket != end; ++bucket) {
      if (InodeRef found = next_in(super, bucket, pass, visit)) return found;
    }
  }
  return {};
}

Result<> InodeCache::write_all(SuperBlock& super) {
  const MutexGuard guard{super.walk};
  const u32 pass = __atomic_add_fetch(&last_pass, 1, __ATOMIC_RELAXED);
  Result<> result{};
  u32 bucket = 0;
  while (const InodeRef inode = next_of(super, bucket, pass, Visit::ToWrite)) {
    if (const Result<> written = write_back(*inode); !written && result) result = written;
  }
  const MutexGuard others{super.attributes};  // what was found clean may have been on its way to the file system
  return result;
}

void InodeCache::for_each(SuperBlock& super, void (*visit)(void* context, Inode& inode), void* context) {
  const MutexGuard guard{super.walk};
  const u32 pass = __atomic_add_fetch(&last_pass, 1, __ATOMIC_RELAXED);
  u32 bucket = 0;
  while (const InodeRef inode = next_of(super, bucket, pass, Visit::All)) visit(context, *inode);
}

FileCaches InodeCache::count() {
  const SpinGuard<NoIrq> guard{names_lock};
  return {static_cast<u32>(lists->table.size()), static_cast<u32>(lists->unused.size()), 0};
}

Result<InodeRef> find_inode(SuperBlock& super, u32 number) {
  {
    const SpinGuard<NoIrq> guard{names_lock};
    if (InodeRef found = InodeCache::find_locked(super, number)) return found;
  }
  return InodeCache::find(super, number, TRY(SpareInode::take()));
}

}  // namespace paean
