// The pool of persistent kmap slots: which page is at which address, who uses it, and when an address may be reused.
//
//   KmapPool<Machine> pool;  pool.init(1024);
//   KmapPool<Machine>::Slot* slot = pool.get(pfn);      // no lock: the page is in the pool
//   if (slot == nullptr) slot = pool.take(pfn);         // lock held: a clean slot, or nullptr
//   pool.put(slot);                                     // no lock; whoever waits for slots must be woken
//
// See include/mm/kmap.hpp for a slot's life. Pure: page-table entries and generations are Machine's:
//   struct Place; Place place(u32 number)   what a slot is on this machine
//   void map(const Place&, Pfn)             writes an entry that was clear
//   void unmap(const Place&)                clears it; translations may stay in TLBs
//   u32 new_generation()                    everything cleared before is older than it
//   bool is_done(u32 generation)            has every CPU flushed at or after it, or will before it touches anything?
// Locking: get() and put() need none. The others need the pool's one lock, which is the caller's business. Nothing here
// waits. Generations may wrap.
#pragma once

#include <atomic>

#include "lib/addr.hpp"
#include "lib/assert.hpp"

namespace paean {

enum class Forget : u8 { NotMapped, Dropped, InUse };

template <typename Machine>
class KmapPool {
 public:
  static constexpr u32 kMaxSlots = 1024;

  /// A cache line each: a hit writes its own slot's and no other. Read-only outside, but for the place.
  struct alignas(64) Slot {
    std::atomic<i32> count{kClean};
    volatile u32 pfn = kNoPage;  // written with the lock held; a stale value costs a reader a retry with the lock held
    std::atomic<Slot*> next{nullptr};
    typename Machine::Place place{};

    u32 users() const {
      const i32 now = count.load(std::memory_order_relaxed);
      return now <= kUnused ? 0 : static_cast<u32>(now);
    }
    bool is_cached() const { return count.load(std::memory_order_relaxed) == kUnused; }
  };

  constexpr KmapPool() = default;
  KmapPool(const KmapPool&) = delete;
  KmapPool& operator=(const KmapPool&) = delete;

  /// Once; every slot is clean.
  void init(u32 slots) {
    ASSERT(slots_ == 0 && slots != 0 && slots <= kMaxSlots);
    slots_ = slots;
    for (auto& head : heads_) head.store(&end_of_chains_, std::memory_order_relaxed);
    for (u32 i = 0; i < slots; ++i) {
      all_[i].place = machine_.place(i);
      push(&all_[i]);
    }
    safe_end_ = end_;
    refill_at_ = end_ - slots / kReserve;
  }
  u32 slots() const { return slots_; }
  Slot& slot(u32 number) { return all_[number]; }
  Machine& machine() { return machine_; }

  /// Pins the page's slot; nullptr if it has none, or if a race against recycling was lost: the lock settles that.
  [[gnu::always_inline]] Slot* get(Pfn pfn) {
    Slot* slot = heads_[hash(pfn)].load(std::memory_order_acquire);
    while (slot->pfn != pfn.raw()) [[unlikely]] {
      if (slot == &end_of_chains_) return nullptr;
      slot = slot->next.load(std::memory_order_acquire);
    }
    i32 count = slot->count.load(std::memory_order_relaxed);
    do {
      if (count < kUnused) [[unlikely]]
        return nullptr;
    } while (!slot->count.compare_exchange_weak(count, count + 1, std::memory_order_acq_rel));
    // Pinned, so it is not recycled from here on; but it may have been just before.
    if (slot->pfn == pfn.raw()) [[likely]]
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
    if (slot->count.fetch_sub(1, std::memory_order_acq_rel) == kUnused + 1) [[likely]]
      return Put::Unused;
    return slot->count.load(std::memory_order_relaxed) < kUnused ? Put::NotMapped : Put::StillUsed;
  }

  /// Gives the page, which has no slot, a clean one, with one user. nullptr if none is clean.
  [[gnu::always_inline]] Slot* take(Pfn pfn) {
    if (first_ == safe_end_ && !has_clean(1)) [[unlikely]]
      return nullptr;
    Slot* slot = ring_[first_++ % kMaxSlots];
    machine_.map(slot->place, pfn);
    slot->pfn = pfn.raw();
    auto& head = heads_[hash(pfn)];
    slot->next.store(head.load(std::memory_order_relaxed), std::memory_order_relaxed);
    slot->count.store(kUnused + 1, std::memory_order_release);
    head.store(slot, std::memory_order_release);
    return never_null(slot);
  }

  /// Can so many slots be taken now?
  [[gnu::noinline]] bool has_clean(u32 count) {
    if (safe_end_ - first_ >= count) return true;
    while (batches_ != 0 && machine_.is_done(batch_[0].stamp)) {
      safe_end_ = batch_[0].end;
      --batches_;
      for (u32 i = 0; i < batches_; ++i) batch_[i] = batch_[i + 1];
    }
    return safe_end_ - first_ >= count;
  }

  /// Looks at the next `looks` slots, oldest first, and parks those without a user. Returns how many.
  u32 recycle(u32 looks) {
    const u32 start = end_;
    Slot* hand = &all_[hand_];
    const Slot* const last = &all_[slots_ - 1];
    for (; looks != 0; --looks) {
      if (hand->count.load(std::memory_order_relaxed) == kUnused && claim(hand)) park(hand);
      hand = hand == last ? all_ : hand + 1;
    }
    hand_ = static_cast<u32>(hand - all_);
    close_batch(start);
    return end_ - start;
  }

  /// To be called after a take: recycles some slots before the last clean one is gone, so that CPUs which pass by can
  /// flush on their own account until those are needed.
  [[gnu::always_inline]] void keep_reserve() {
    if (!is_before(first_, refill_at_)) [[unlikely]]
      refill();
  }

  /// Ends the cached map of a page that is being freed.
  Forget forget(Pfn pfn) {
    Slot* slot = heads_[hash(pfn)].load(std::memory_order_relaxed);
    while (slot->pfn != pfn.raw()) {
      if (slot == &end_of_chains_) return Forget::NotMapped;
      slot = slot->next.load(std::memory_order_relaxed);
    }
    if (!claim(slot)) return Forget::InUse;
    const u32 start = end_;
    park(slot);
    close_batch(start);
    return Forget::Dropped;
  }

  /// The youngest stamp: a CPU that has flushed at or after it keeps no slot waiting.
  u32 newest() const { return newest_; }
  /// Slots in state 0, whether they wait for a flush or not.
  u32 parked() const { return end_ - first_; }
  /// Slots handed out since init.
  u32 taken() const { return first_; }

 private:
  // The count is the state of the figure less one, so that the processor's flags tell its three cases apart.
  static constexpr i32 kClean = -1, kUnused = 0;
  static constexpr u32 kNoPage = 0xffffffff;
  static constexpr u32 kMaxBatches = 16;
  static constexpr u32 kHashBits = 11;  // twice as many chains as slots: half of them hold one page at most
  static constexpr u32 kReserve = 8;    // recycling starts when 1/8 is left: a CPU needs a miss or two of its own until
                                        // then to be seen as flushed

  /// Slots that were recycled together.
  struct Batch {
    u32 end;    // place in the ring behind the last of them
    u32 stamp;  // generation after their entries were cleared
  };

  /// So that the callers' tests are the ones in get() and take().
  [[gnu::always_inline]] static Slot* never_null(Slot* slot) {
    if (slot == nullptr) __builtin_unreachable();
    return slot;
  }
  static constexpr u32 hash(Pfn pfn) { return (pfn.raw() * 0x9e3779b1u) >> (32 - kHashBits); }  // Knuth's 2^32 / phi
  static constexpr bool is_before(u32 a, u32 b) { return static_cast<i32>(a - b) < 0; }

  void push(Slot* slot) { ring_[end_++ % kMaxSlots] = slot; }

  [[gnu::always_inline]] static bool claim(Slot* slot) {
    i32 count = kUnused;
    return slot->count.compare_exchange_strong(count, kClean, std::memory_order_acq_rel);
  }

  /// The slot keeps its own link, so that a reader that stands on it finds the rest of the chain.
  [[gnu::always_inline]] void park(Slot* slot) {
    std::atomic<Slot*>* link = &heads_[hash(Pfn{slot->pfn})];
    for (Slot* at = link->load(std::memory_order_relaxed); at != slot; at = link->load(std::memory_order_relaxed)) {
      link = &at->next;
    }
    link->store(slot->next.load(std::memory_order_relaxed), std::memory_order_release);
    machine_.unmap(slot->place);
    push(slot);
  }

  void close_batch(u32 start) {
    if (start == end_) return;
    refill_at_ = end_ - slots_ / kReserve;
    newest_ = machine_.new_generation();
    if (batches_ == kMaxBatches) --batches_;  // the youngest wait a little longer than they need to
    batch_[batches_++] = Batch{end_, newest_};
  }

  /// Where it finds little, it looks again only much later.
  [[gnu::noinline]] void refill() {
    (void)recycle(slots_ / 4);
    const u32 much = slots_ / kReserve;
    refill_at_ = parked() > much ? end_ - much : first_ + (much + 1) / 2;
  }

  [[no_unique_address]] Machine machine_{};
  Slot all_[kMaxSlots]{};
  Slot end_of_chains_{};  // never gets a page
  std::atomic<Slot*> heads_[1u << kHashBits]{};
  // Slots in state 0, in the order in which they were recycled: [first_, safe_end_) are clean, [safe_end_, end_) wait
  // for the flushes of their batches. Places count on for ever, modulo the ring's size.
  Slot* ring_[kMaxSlots]{};
  u32 first_ = 0, safe_end_ = 0, end_ = 0;
  Batch batch_[kMaxBatches]{};
  u32 batches_ = 0;
  u32 newest_ = 0;  // stamp of the youngest batch
  u32 slots_ = 0;
  u32 refill_at_ = 0;  // the place in the ring at which keep_reserve() recycles
  u32 hand_ = 0;
  alignas(64) std::atomic<u32> lost_{0};
};

}  // namespace paean
