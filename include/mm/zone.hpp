// Zones: ranges of frames by what can reach them, each with its own buddy allocator, watermarks and reserve.
//
//   frame 0         16 MiB            low_end                  4 GiB             top
//   |  DMA          |  NORMAL         |  DMA32                 |  HIGHMEM        |
//   |  ISA devices  |  direct map     |  no address, 32-bit devices reach it    |  no address
//
// A request names the highest zone that will do and falls back downwards: HIGHMEM, DMA32, NORMAL, DMA. DMA32 lets a
// 32-bit device bounce without spending lowmem. On machines up to 4 GiB it is the only high zone.
//
// Watermarks (pages): below `low` the zone wants reclaim, `min` is for requests that cannot wait; the last half of min
// is for ATOMIC ones. `reserve[z]` keeps a zone from requests that could have been served by a zone up to z: 1/32 of
// what lies above for NORMAL and 1/256 for DMA as in Linux, but at most a quarter of the zone, since on a big machine
// 1/32 would be all of lowmem. Movable pages may have all but `lend_reserve`: they go when the zone is wanted
// (mm/lending.hpp).
//
// Locking: `lock` protects buddy; per-CPU stacks belong to their CPU with interrupts off.
#pragma once

#include <array>

#include "kernel/spinlock.hpp"
#include "mm/buddy.hpp"
#include "mm/page.hpp"

namespace paean {

enum class ZoneId : u8 { Dma, Normal, Dma32, HighMem };
inline constexpr u32 kZoneCount = 4;
inline constexpr std::array kAllZones{ZoneId::Dma, ZoneId::Normal, ZoneId::Dma32, ZoneId::HighMem};

/// As Linux prints them: DMA Normal DMA32 HighMem.
std::string_view name(ZoneId id);
constexpr bool is_low(ZoneId id) { return id <= ZoneId::Normal; }

/// A set of zones; bit n is zone n.
class ZoneMask {
 public:
  constexpr ZoneMask() = default;
  static constexpr ZoneMask all() { return ZoneMask{(1u << kZoneCount) - 1}; }
  static constexpr ZoneMask up_to(ZoneId highest) { return ZoneMask{(2u << std::to_underlying(highest)) - 1}; }
  constexpr bool empty() const { return bits_ == 0; }
  constexpr bool has(u32 zone) const { return (bits_ >> zone & 1) != 0; }
  constexpr void add(ZoneId id) { bits_ |= 1u << std::to_underlying(id); }
  constexpr u32 bits() const { return bits_; }

 private:
  constexpr explicit ZoneMask(u32 bits) : bits_(bits) {}
  u32 bits_ = 0;
};

struct Zone {
  ZoneId id{};
  Pfn base{};           // frame of the buddy's index 0: `start` aligned down to a largest block
  Pfn start{};          // first frame of the zone's range
  Pfn end{};            // one past its last frame of RAM; start if the zone is empty
  PageCount present{};  // usable RAM in the range
  PageCount managed{};  // of it, what boot gave to the buddy
  PageCount min{}, low{}, high{};
  std::array<PageCount, kZoneCount> reserve{};
  PageCount lend_reserve{};
  SpinLock lock{LockRank::Zone};
  Buddy buddy GUARDED_BY(lock){};

  bool empty() const { return present.count() == 0; }
  PageCount spanned() const { return end - start; }
  u32 index_of(Pfn pfn) const { return (pfn - base).count(); }
  Pfn frame_at(u32 index) const { return base + PageCount{index}; }
};

Zone& zone(ZoneId id);
ZoneId zone_of(Pfn pfn);

/// Free pages: the buddy's and those in every CPU's stack.
PageCount free_pages_in(ZoneId id);
/// Pages in a CPU's stacks.
PageCount stacked_pages(ZoneId id, u32 cpu);
/// Free blocks by order, a consistent snapshot.
std::array<u32, kOrderCount> free_blocks_in(ZoneId id);

struct MemoryTotals {
  PageCount total{}, free{};
};
/// Managed and free pages of the low (DMA + NORMAL) or high zones.
MemoryTotals low_totals();
MemoryTotals high_totals();

/// Sets min, low, high and reserves from managed sizes. Pure but for the zones; boot, once.
void set_watermarks();

}  // namespace paean
