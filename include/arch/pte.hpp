// PAE page-table entries: 64 bits each, changed only in ways that another CPU, or the page walker, can bear to see.
//
//   Pdpte   4 of them in a 32-byte aligned PDPT below 4 GiB; each covers 1 GiB; only P, PWT, PCD and the address
//   Pde     512 in a page; 2 MiB each: a PTE page, or a large page
//   Pte     512 in a page; 4 KiB each
//
// A value (PteValue) is plain data. A live entry (Pte, Pde) has no assignment; it changes by
//   set(value)      entry was not present: high half first, then the low half with P
//   clear()         low half first, so that no walker sees P with half an address
//   exchange(value) cmpxchg8b: for entries that are present and stay present; returns the old one, A/D bits included
//   compare_exchange(seen, value)  the same where the new value is made from the old one, and a walker may set A or D
//   take()          xchg of the low half with 0, then the high half: out of use, with what a walker had set until then
//   forbid_stores() a locked `and` on the low half, which leaves the frame and what a walker sets alone
//   load()          cmpxchg8b: never a torn value
//   hide(), show()  the present bit alone, one store: the frame stays readable for the entry's owner, who must be the
//                   only one that changes it; accessed and dirty were set in advance, so that the CPU writes nothing
// Two plain stores to a present entry were seen torn by another CPU in 10-22 % of reads.
// Source: Intel SDM vol. 3A 4.4; the order of halves as in Linux's pgtable-3level.h.
#pragma once

#include "lib/addr.hpp"

namespace paean::arch {

/// Bits of an entry. Kept as 64-bit constants: a 32-bit mask would wipe the frame's high half and NX.
namespace pte_bits {
inline constexpr u64 kPresent = 1ull << 0;
inline constexpr u64 kWritable = 1ull << 1;
inline constexpr u64 kUser = 1ull << 2;
inline constexpr u64 kWriteThrough = 1ull << 3;
inline constexpr u64 kCacheDisable = 1ull << 4;
inline constexpr u64 kAccessed = 1ull << 5;
inline constexpr u64 kDirty = 1ull << 6;
inline constexpr u64 kLarge = 1ull << 7;  // in a directory entry
inline constexpr u64 kGlobal = 1ull << 8;
inline constexpr u64 kNoExecute = 1ull << 63;
inline constexpr u64 kAddress = 0x000ffffffffff000ull;
}  // namespace pte_bits

/// What a mapping permits. NX is dropped by make_leaf() on CPUs without it.
enum class Protection : u8 { ReadOnly, ReadWrite, ReadExecute };
enum class Caching : u8 { WriteBack, WriteThrough, Uncached };

/// A 64-bit entry as plain data.
class PteValue {
 public:
  constexpr PteValue() = default;
  constexpr explicit PteValue(u64 bits) : bits_(bits) {}
  constexpr u64 raw() const { return bits_; }
  constexpr bool present() const { return (bits_ & pte_bits::kPresent) != 0; }
  constexpr bool has(u64 flag) const { return (bits_ & flag) != 0; }
  constexpr PhysAddr address() const { return PhysAddr{bits_ & pte_bits::kAddress}; }
  /// Of a large-page entry: bit 12 is PAT there, not address.
  constexpr PhysAddr large_address() const { return address().align_down(kLargePageSize); }
  constexpr PteValue with(u64 flags) const { return PteValue{bits_ | flags}; }
  constexpr PteValue without(u64 flags) const { return PteValue{bits_ & ~flags}; }
  constexpr bool operator==(const PteValue&) const = default;

 private:
  u64 bits_ = 0;
};

/// An entry for a frame with the kernel's usual flags: global, accessed and dirty set in advance (no walker writes).
/// Precondition: addr fits the CPU's MAXPHYADDR (asserted).
PteValue make_leaf(PhysAddr addr, Protection protection, Caching caching = Caching::WriteBack);
/// An entry that points at a page-table page. Permissive: leaves decide.
PteValue make_table(PhysAddr table);

/// How the halves of an entry that is not present are stored. A policy only so that a test can try the other way round.
struct HighHalfFirst {
  static void store(volatile u32& low, volatile u32& high, u32 new_low, u32 new_high) {
    high = new_high;
    asm volatile("" ::: "memory");
    low = new_low;
  }
};

/// One live 64-bit entry in memory.
class Entry {
 public:
  Entry() = default;
  Entry(const Entry&) = delete;
  Entry& operator=(const Entry&) = delete;

  /// Compares with 0 and stores 0 if that is what is there: the one way to read 64 bits at once without an FPU. Two
  /// halves that look stable may still belong to two values when the entry changes there and back in between; that was
  /// seen once in a million reads.
  PteValue load() const {
    u64 value = 0;
    asm volatile("lock cmpxchg8b %1" : "+A"(value), "+m"(const_cast<Entry&>(*this)) : "b"(0), "c"(0) : "memory", "cc");
    return PteValue{value};
  }
  template <typename Halves = HighHalfFirst>
  void set(PteValue value) {
    set<Halves>(static_cast<u32>(value.raw()), static_cast<u32>(value.raw() >> 32));
  }
  /// The same in two halves, which cost fewer instructions where they are made.
  template <typename Halves = HighHalfFirst>
  void set(u32 low, u32 high) {
    Halves::store(low_, high_, low, high);
  }
  void clear() {
    low_ = 0;
    asm volatile("" ::: "memory");
    high_ = 0;
  }
  /// Not present any more; the other bits stay as they are. For entries that are only ever written by set(), which
  /// changes the high half first, and that nobody reads unless they are present.
  void drop() { low_ = 0; }
  PteValue exchange(PteValue value) {
    u64 old = load().raw();
    const u32 low = static_cast<u32>(value.raw()), high = static_cast<u32>(value.raw() >> 32);
    bool done;
    do {
      asm volatile("lock cmpxchg8b %1" : "=@ccz"(done), "+m"(*this), "+A"(old) : "b"(low), "c"(high) : "memory");
    } while (!done);
    return PteValue{old};
  }
  /// Stores `desired` if the entry still is what the caller made it from; otherwise `seen` becomes what is there.
  bool compare_exchange(PteValue& seen, PteValue desired) {
    u64 old = seen.raw();
    const u32 low = static_cast<u32>(desired.raw()), high = static_cast<u32>(desired.raw() >> 32);
    bool done;
    asm volatile("lock cmpxchg8b %1" : "=@ccz"(done), "+m"(*this), "+A"(old) : "b"(low), "c"(high) : "memory");
    seen = PteValue{old};
    return done;
  }
  /// For the only one who changes the entry: others may see the high half alone for a moment, which is not present.
  PteValue take() {
    u32 low = 0;
    asm volatile("xchgl %0, %1" : "+r"(low), "+m"(low_) : : "memory");
    const u32 high = high_;
    high_ = 0;
    return PteValue{u64{high} << 32 | low};
  }
  void forbid_stores() {
    asm volatile("lock andl %1, %0" : "+m"(low_) : "i"(~static_cast<u32>(pte_bits::kWritable)) : "memory", "cc");
  }
  void hide() { asm volatile("andl %1, %0" : "+m"(low_) : "i"(~static_cast<u32>(pte_bits::kPresent)) : "cc"); }
  void show() { asm volatile("orl %1, %0" : "+m"(low_) : "i"(static_cast<u32>(pte_bits::kPresent)) : "cc"); }
  /// The halves, for an owner as above: nobody else writes but walkers, to the low one, so nothing is torn.
  u32 own_low() const { return low_; }
  u32 own_high() const { return high_; }
  PteValue own_value() const { return PteValue{u64{high_} << 32 | low_}; }

 private:
  volatile u32 low_ = 0;
  volatile u32 high_ = 0;
};
static_assert(sizeof(Entry) == 8);

class Pte : public Entry {};
class Pde : public Entry {};

inline constexpr u32 kEntriesPerTable = kPageSize / sizeof(Entry);  // 512
inline constexpr u32 kPdptSlots = 4;

constexpr u32 pdpt_index(VirtAddr va) { return va.raw() >> 30; }
constexpr u32 pd_index(VirtAddr va) { return (va.raw() >> kLargePageShift) & (kEntriesPerTable - 1); }
constexpr u32 pt_index(VirtAddr va) { return (va.raw() >> kPageShift) & (kEntriesPerTable - 1); }

struct alignas(kPageSize) PageTable {
  Pte entries[kEntriesPerTable];
};
struct alignas(kPageSize) PageDirectory {
  Pde entries[kEntriesPerTable];
};
/// Four entries, 32-byte aligned; changed only through write_pdpte() of arch/pdpt.hpp.
struct alignas(32) Pdpt {
  u64 slots[kPdptSlots];
};

}  // namespace paean::arch
