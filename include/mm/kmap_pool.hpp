// The pool of persistent kmap slots: which page is at which address, who uses it, and when an address may be reused.
//
//   KmapPool<Machine> pool;  pool.init(1024);
//   KmapPool<Machine>::Slot* slot = pool.get(key);      // no lock: the page is in the pool
//   if (slot == nullptr) slot = pool.take(key, share);  // lock held: a clean slot, or nullptr
//   pool.put(slot);                                     // no lock; whoever waits for slots must be woken
//
// The slots are shared out: each CPU takes from a share of its own, consecutive addresses, so that what different CPUs
// use lies in different lines of the cache and different entries of a TLB. A share is a preference and no property: who
// finds his at its reserve takes from one that is hardly used, and only then recycles.
//
// A page is known by its key: kKeyStep times the number of its frame. That is the distance of its word from the first
// one, which whoever asks for a page has at hand.
//
// See include/mm/kmap.hpp for a slot's life. Pure: page-table entries and generations are Machine's:
//   struct Place; Place place(u32 number)   what a slot is on this machine
//   void map(const Place&, u32 key)         writes an entry that was clear
//   void unmap(const Place&)                clears it; translations may stay in TLBs
//   u32 new_generation()                    everything cleared before is older than it
//   bool is_done(u32 generation)            has every CPU flushed at or after it, or will before it touches anything?
// Locking: get() and put() need none. The others need the pool's one lock, which is the caller's business. Nothing here
// waits. Generations may wrap.
#pragma once

#include <atomic>
#include <span>

#include "lib/addr.hpp"
#include "lib/assert.hpp"
#include "lib/hot_path.hpp"

namespace paean {

enum class Forget : u8 { NotMapped, Dropped, InUse };

template <typename Machine>
class KmapPool {
 public:
  static constexpr u32 kMaxSlots = 1024;
  static constexpr u32 kKeyStep = 4;

  /// Two cache lines each. A hit writes the first one of its own slot and no other. Who looks for a page reads the
  /// second one of slots on his way, which hits on other CPUs leave alone. Read-only outside, but for the place.
  struct alignas(128) Slot {
    std::atomic<i32> count{kClean};
    alignas(64) volatile u32 key = kNoPage;  // written with the lock held; a stale value costs a reader a retry with it
    std::atomic<Slot*> next{nullptr};
    typename Machine::Place place{};

    u32 users() const {
      const i32 now = count.load(std::memory_order_relaxed);
      return now <= kUnused ? 0 : static_cast<u32>(now);
    }
    bool is_cached() const { return count.load(std::memory_order_relaxed) == kUnused; }
  };

  static constexpr u32 kMaxBatches = 16;
  /// Slots that were recycled together.
  struct Batch {
    u32 end;    // place in the ring behind the last of them
    u32 stamp;  // generation after their entries were cleared
  };

  /// For callers a thing to point at, with nothing to look at inside.
  /// Slots [begin, begin + count), and those of them in state 0 in the order in which they were recycled: [first,
  /// safe_end) are clean, [safe_end, end) wait for the flushes of their batches. Places count on for ever, modulo the
  /// ring's size.
  struct Share {
    u32 first, safe_end, end;
    u32 refill_at;  // the place at which it is time to recycle
    u32 stop_at;    // that, or safe_end if it comes before
    u32 begin, count;
    u32 hand;  // slot to look at next
    u32 batches;
    Batch batch[kMaxBatches];
    Slot* ring[kMaxSlots];

    u32 parked() const { return end - first; }
    u32 clean() const { return safe_end - first; }
    void set_stop() {
      // Somebody else's reserve may be gone already: then its clean slots are taken one by one.
      const u32 next = KmapPool::is_before(first, refill_at) ? refill_at : first + 1;
      stop_at = clean() == 0 ? first : KmapPool::is_before(safe_end, next) ? safe_end : next;
    }
  };

  constexpr KmapPool() = default;
  KmapPool(const KmapPool&) = delete;
  KmapPool& operator=(const KmapPool&) = delete;

  /// Once; every slot is clean.
  void init(u32 slots) {
    ASSERT(slots_ == 0 && slots != 0 && slots <= kMaxSlots);
    slots_ = slots;
    for (auto& head : heads_) head.store(&end_of_chains_, std::memory_order_relaxed);
    for (u32 i = 0; i < slots; ++i) all_[i].place = machine_.place(i);
    fill_shares(1);
  }
  /// For so many CPUs. False, and everything as before, if a slot is not clean.
  bool share_out(u32 cpus) {
    if (!has_clean(slots_)) return false;
    u32 shares = 1;
    while (2 * shares <= cpus && 2 * shares <= kMaxShares && slots_ / (2 * shares) >= kLeastShare) shares *= 2;
    fill_shares(shares);
    return true;
  }
  Share* share_of_cpu(u32 cpu) { return &shares_[cpu & (share_count_ - 1)]; }
  constexpr Share* first_share() { return &shares_[0]; }
  u32 slots() const { return slots_; }
  Slot& slot(u32 number) { return all_[number]; }
  Machine& machine() { return machine_; }

  /// Pins the page's slot; nullptr if it has none, or if a race against recycling was lost: the lock settles that.
  [[gnu::always_inline]] Slot* get(u32 key) {
    Slot* slot = heads_[hash(key)].load(std::memory_order_acquire);
    while (!word_is(slot->key, key)) [[unlikely]] {
      if (slot == &end_of_chains_) return nullptr;
      slot = slot->next.load(std::memory_order_acquire);
    }
    // First pinned, then looked at: a slot that had users, or none, is not recycled from here on; but it may have been
    // just before.
    bool recycled;
    // The pointer as an operand: the compiler would keep the key's address in a register as well.
    asm volatile("lock incl %0" : "+m"(slot->count), "=@ccs"(recycled), "+r"(slot) : : "memory");
    if (!recycled && word_is(slot->key, key)) [[likely]]
      return never_null(slot);
    slot->count.fetch_sub(1, std::memory_order_acq_rel);
    lost_.store(1, std::memory_order_release);
    return nullptr;
  }
  /// Has a get() lost its race since the last call? It pinned a slot for a moment, so that recycling passed it over,
  /// and somebody may wait for that slot.
  bool take_lost() { return lost_.load(std::memory_order_acquire) != 0 && lost_.exchange(0) != 0; }

  enum class Put : u8 { StillUsed, Unused, NotMapped };
  /// One user less. NotMapped, and nothing good: the slot had none.
  [[gnu::always_inline]] [[nodiscard]] static Put put(Slot* slot) {
    // One decrement tells all three cases apart. A second look at the count would not do: the slot may have been
    // recycled by then.
    asm goto("lock decl %0\n\tjz %l[unused]\n\tjs %l[not_mapped]"
             :
             : "m"(slot->count)
             : "memory", "cc"
             : unused, not_mapped);
    return Put::StillUsed;
  not_mapped:
    return Put::NotMapped;
  unused:
    return Put::Unused;
  }

  /// Gives the page, which has no slot, a clean one, with one user. When the share needs slots, `other` is called and
  /// answers with what refill() says; nullptr if that is none.
  template <typename Other>
  [[gnu::always_inline]] Slot* take(u32 key, Share* share, Other other) {
    if (share->first == share->stop_at) [[unlikely]] {
      share = other();
      if (share == nullptr) return nullptr;
    }
    Slot* slot = share->ring[share->first++ % kMaxSlots];
    machine_.map(slot->place, key);
    slot->key = key;
    auto& head = heads_[hash(key)];
    slot->next.store(head.load(std::memory_order_relaxed), std::memory_order_relaxed);
    // Added, not stored: who found the slot recycled may be about to take his increment back.
    slot->count.fetch_add(kUnused + 1 - kClean, std::memory_order_release);
    head.store(slot, std::memory_order_release);
    return never_null(slot);
  }

  /// Can so many slots be taken now?
  [[gnu::noinline]] bool has_clean(u32 count) {
    if (clean() >= count) return true;
    settle_batches();
    return clean() >= count;
  }

  /// May a CPU still reach one of these pages through a slot that was taken from it? To be asked after forget().
  bool may_be_seen(u32 first, u32 pages) {
    settle_batches();
    for (const Share& share : shares()) {
      for (u32 at = share.safe_end; at != share.end; ++at) {
        if (share.ring[at % kMaxSlots]->key - first < pages * kKeyStep) return true;
      }
    }
    return false;
  }

  /// Looks at the next slots of each share, at least `looks` in all, oldest first, and parks those without a user.
  /// Returns how many.
  u32 recycle(u32 looks) {
    u32 found = 0;
    for (Share& share : shares()) found += recycle_in(share, (looks + share_count_ - 1) / share_count_);
    return found;
  }

  /// For a take whose share is at its reserve, or has no clean slot left: recycles some before the last one is gone, so
  /// that CPUs which pass by can flush on their own account until those are needed. Returns the share to take from from
  /// now on: one that is more than half clean, or `home`, the CPU's own, or any that has a clean slot.
  [[gnu::noinline]] Share* refill(Share* home) {
    settle_batches();
    for (Share& share : shares()) {
      if (is_before(share.first, share.refill_at) && 2 * share.clean() > share.count) return share_with_clean(&share);
    }
    if (!is_before(home->first, home->refill_at)) recycle_some(*home);
    return share_with_clean(home);
  }
  /// The same without recycling.
  [[gnu::noinline]] Share* share_with_clean(Share* choice) {
    settle_batches();
    for (Share& share : shares()) {
      share.set_stop();
      if (choice->clean() == 0) choice = &share;
    }
    return choice->clean() == 0 ? nullptr : choice;
  }

  /// Ends the cached map of a page that is being freed.
  Forget forget(u32 key) {
    Slot* slot = heads_[hash(key)].load(std::memory_order_relaxed);
    while (slot->key != key) {
      if (slot == &end_of_chains_) return Forget::NotMapped;
      slot = slot->next.load(std::memory_order_relaxed);
    }
    if (!claim(slot)) return Forget::InUse;
    Share& share = share_with(slot);
    const u32 start = share.end;
    park(share, slot);
    close_batch(share, start);
    return Forget::Dropped;
  }

  /// The youngest stamp: a CPU that has flushed at or after it keeps no slot waiting.
  u32 newest() const { return newest_; }
  /// Slots in state 0, whether they wait for a flush or not.
  u32 parked() const {
    u32 sum = 0;
    for (const Share& share : shares()) sum += share.parked();
    return sum;
  }
  /// Of these, the ones that wait, as far as anybody has looked.
  u32 waiting() const { return parked() - clean(); }
  /// Slots handed out since init.
  u32 taken() const {
    u32 sum = taken_before_;
    for (const Share& share : shares()) sum += share.first;
    return sum;
  }

 private:
  // The count is the state of the figure less one, so that the processor's flags tell its three cases apart; and clean
  // is so far below that it stays negative whatever the increments of those who come too late.
  static constexpr i32 kClean = -(1 << 30), kUnused = 0;
  static constexpr u32 kNoPage = 0xffffffff;
  static constexpr u32 kHashBits = 11;  // twice as many chains as slots: half of them hold one page at most
  static constexpr u32 kReserve = 8;    // recycling starts when 1/8 is left: a CPU needs a miss or two of its own until
                                        // then to be seen as flushed
  static constexpr u32 kMaxShares = 4, kLeastShare = 128;

  /// So that the callers' tests are the ones in get() and take().
  [[gnu::always_inline]] static Slot* never_null(Slot* slot) {
    if (slot == nullptr) __builtin_unreachable();
    return slot;
  }
  static constexpr u32 hash(u32 key) { return (key * 0x9e3779b1u) >> (32 - kHashBits); }  // Knuth's 2^32 / phi
  static constexpr bool is_before(u32 a, u32 b) { return static_cast<i32>(a - b) < 0; }

  std::span<Share> shares() { return {shares_, share_count_}; }
  std::span<const Share> shares() const { return {shares_, share_count_}; }
  Share& share_with(const Slot* slot) { return shares_[static_cast<u32>(slot - all_) / shares_[0].count]; }
  u32 clean() const {
    u32 sum = 0;
    for (const Share& share : shares()) sum += share.clean();
    return sum;
  }

  static void push(Share& share, Slot* slot) { share.ring[share.end++ % kMaxSlots] = slot; }

  /// All slots are clean. The last share has what is left over.
  void fill_shares(u32 shares) {
    taken_before_ = taken();
    share_count_ = shares;
    const u32 each = slots_ / shares;
    for (u32 i = 0; i < shares; ++i) {
      Share& share = shares_[i];
      share = Share{};
      share.begin = share.hand = i * each;
      share.count = i + 1 == shares ? slots_ - share.begin : each;
      for (u32 slot = 0; slot < share.count; ++slot) push(share, &all_[share.begin + slot]);
      share.safe_end = share.end;
      share.refill_at = share.end - share.count / kReserve;
      share.set_stop();
    }
  }

  [[gnu::always_inline]] static bool claim(Slot* slot) {
    i32 count = kUnused;
    return slot->count.compare_exchange_strong(count, kClean, std::memory_order_acq_rel);
  }

  /// The slot keeps its own link, so that a reader that stands on it finds the rest of the chain.
  [[gnu::always_inline]] void park(Share& share, Slot* slot) {
    std::atomic<Slot*>* link = &heads_[hash(slot->key)];
    for (Slot* at = link->load(std::memory_order_relaxed); at != slot; at = link->load(std::memory_order_relaxed)) {
      link = &at->next;
    }
    link->store(slot->next.load(std::memory_order_relaxed), std::memory_order_release);
    machine_.unmap(slot->place);
    push(share, slot);
  }

  u32 recycle_in(Share& share, u32 looks) {
    const u32 start = share.end;
    Slot* hand = &all_[share.hand];
    Slot* const first = &all_[share.begin];
    const Slot* const last = first + share.count - 1;
    for (; looks != 0; --looks) {
      if (hand->count.load(std::memory_order_relaxed) == kUnused && claim(hand)) park(share, hand);
      hand = hand == last ? first : hand + 1;
    }
    share.hand = static_cast<u32>(hand - all_);
    close_batch(share, start);
    return share.end - start;
  }

  /// Lets go what every CPU has flushed for.
  void settle_batches() {
    for (Share& share : shares()) {
      while (share.batches != 0 && machine_.is_done(share.batch[0].stamp)) {
        share.safe_end = share.batch[0].end;
        --share.batches;
        for (u32 i = 0; i < share.batches; ++i) share.batch[i] = share.batch[i + 1];
      }
    }
  }

  void close_batch(Share& share, u32 start) {
    if (start == share.end) return;
    share.refill_at = share.end - share.count / kReserve;
    newest_ = machine_.new_generation();
    if (share.batches == kMaxBatches) --share.batches;  // the youngest wait a little longer than they need to
    share.batch[share.batches++] = Batch{share.end, newest_};
  }

  /// Where it finds little, it looks again only much later.
  void recycle_some(Share& share) {
    (void)recycle_in(share, share.count / 4);
    const u32 much = share.count / kReserve;
    share.refill_at = share.parked() > much ? share.end - much : share.first + (much + 1) / 2;
  }

  std::atomic<Slot*> heads_[1u << kHashBits]{};  // first, where its index needs no offset
  [[no_unique_address]] Machine machine_{};
  Slot all_[kMaxSlots]{};
  Slot end_of_chains_{};  // never gets a page
  Share shares_[kMaxShares]{};
  u32 share_count_ = 0;   // a power of two
  u32 taken_before_ = 0;  // before the slots were shared out
  u32 newest_ = 0;        // stamp of the youngest batch
  u32 slots_ = 0;
  alignas(64) std::atomic<u32> lost_{0};
};

}  // namespace paean
