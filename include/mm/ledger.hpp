// The ledger: who holds how much of each zone, exact at any pause.
//
//   sum over owners = managed - free        for each zone, always
//
// One counter for each CPU, zone and owner, changed beside the page word in the same critical section. A page word
// carries its row number (zone and owner), so that a free needs no look-up.
#pragma once

#include "arch/percpu.hpp"
#include "mm/zone.hpp"

namespace paean {

/// Row of the ledger: zone in the upper two bits, owner below. Fits the owner byte of a page word.
class LedgerRow {
 public:
  static constexpr u32 kCount = 256;
  constexpr LedgerRow(ZoneId zone, Owner owner)
      : value_((u32{std::to_underlying(zone)} << 6) | std::to_underlying(owner)) {}
  /// From a page word's low byte.
  constexpr explicit LedgerRow(u32 value) : value_(value) {}
  constexpr u32 value() const { return value_; }
  constexpr u32 zone_index() const { return value_ >> 6; }
  constexpr ZoneId zone() const { return static_cast<ZoneId>(zone_index()); }
  constexpr Owner owner() const { return static_cast<Owner>(value_ & 63); }

 private:
  u32 value_;
};
static_assert(kOwnerCount <= 64);

struct LedgerCounters {
  u32 pages[LedgerRow::kCount];  // wraps below zero on a CPU that frees for others; the sum over CPUs does not
};
extern arch::PerCpu<LedgerCounters> ledger_counters;

/// Counts on this CPU, on which the caller stays. One instruction adds, so that an interrupt in the middle of a caller
/// with interrupts on may count as well and nothing is lost: no build may split it.
[[gnu::always_inline]] inline void ledger_add(LedgerRow row, u32 pages) {
  arch::add_to_own_word(ledger_counters.in_section().pages[row.value()], pages);
}
[[gnu::always_inline]] inline void ledger_subtract(LedgerRow row, u32 pages) {
  arch::add_to_own_word(ledger_counters.in_section().pages[row.value()], 0 - pages);
}

/// Pages that an owner holds in a zone.
PageCount ledger_pages(ZoneId id, Owner owner);
/// All owners of a zone.
PageCount ledger_total(ZoneId id);

/// The table that `lowmem` shows, with its proof at the end.
void print_ledger(Sink& out);
/// One line with the three largest owners of lowmem, for panics and warnings.
void print_ledger_summary(Sink& out);

}  // namespace paean
