#include "mm/ledger.hpp"

#include "mm/boot_memory.hpp"
#include "mm/slab.hpp"

namespace paean {

PER_CPU(LedgerCounters, ledger_counters);

namespace {

PageCount low_pages_of(Owner owner) { return ledger_pages(ZoneId::Dma, owner) + ledger_pages(ZoneId::Normal, owner); }

/// What lowmem's owners are called: programs and files may live elsewhere, and what they have here is lent.
std::string_view name_in_lowmem(Owner owner) {
  if (owner == Owner::User) return "lent to programs";
  return owner == Owner::PageCache ? "lent to files" : name(owner);
}

void print_row(Sink& out, std::string_view what, u64 kib) { format_to(out, "  {:<24}{:>12} kB\n", what, kib); }

}  // namespace

PageCount ledger_pages(ZoneId id, Owner owner) {
  const u32 row = LedgerRow{id, owner}.value();
  u32 sum = 0;
  for (u32 cpu = 0; cpu < arch::online_cpus(); ++cpu) sum += ledger_counters.on(cpu).pages[row];
  return PageCount{sum};
}

PageCount ledger_total(ZoneId id) {
  PageCount sum{0};
  for (u32 owner = 0; owner < kOwnerCount; ++owner) sum += ledger_pages(id, static_cast<Owner>(owner));
  return sum;
}

void print_ledger(Sink& out) {
  const PageCount present = zone(ZoneId::Dma).present + zone(ZoneId::Normal).present;
  const MemoryTotals low = low_totals();
  format_to(out, "Lowmem: present {} kB, managed {} kB, free {} kB\n", present.kib(), low.total.kib(), low.free.kib());
  format_to(out, "Reserved at boot:\n");
  for (u32 i = 0; i < kBootReasonCount; ++i) {
    const auto reason = static_cast<BootReason>(i);
    const u64 kib = low_reserved_bytes(reason) / kKiB;
    if (kib != 0) print_row(out, name(reason), kib);
  }
  print_row(out, "reserved in all", (present - low.total).kib());
  format_to(out, "Owners:\n");
  PageCount sum{0};
  for (u32 i = 0; i < kOwnerCount; ++i) {
    const PageCount pages = low_pages_of(static_cast<Owner>(i));
    sum += pages;
    if (pages.count() != 0) print_row(out, name_in_lowmem(static_cast<Owner>(i)), pages.kib());
  }
  print_row(out, "owners in all", sum.kib());
  format_to(out, "sum {} kB = managed {} kB - free {} kB: {}\n", sum.kib(), low.total.kib(), low.free.kib(),
            sum == low.total - low.free ? "exact" : "WRONG");
  print_slab_owners(out);
}

void print_ledger_summary(Sink& out) {
  // Free follows from the ledger's own equation: a panic must not wait for a zone's lock.
  const PageCount managed = zone(ZoneId::Dma).managed + zone(ZoneId::Normal).managed;
  const PageCount owned = ledger_total(ZoneId::Dma) + ledger_total(ZoneId::Normal);
  format_to(out, "lowmem: {} kB of {} kB free", (managed - owned).kib(), managed.kib());
  PageCount ceiling{0xffffffff};
  for (u32 shown = 0; shown < 3; ++shown) {
    Owner largest{};
    PageCount most{0};
    for (u32 i = 0; i < kOwnerCount; ++i) {
      const PageCount pages = low_pages_of(static_cast<Owner>(i));
      if (pages > most && pages < ceiling) most = pages, largest = static_cast<Owner>(i);
    }
    if (most.count() == 0) break;
    format_to(out, ", {} {} kB", name_in_lowmem(largest), most.kib());
    ceiling = most;
  }
  format_to(out, "\n");
}

}  // namespace paean
