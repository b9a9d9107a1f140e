// What it costs to take back a page that is cached, clean and not in use.
#include "kernel/bench/kbench.hpp"
#include "mm/page_cache.hpp"

namespace paean {

namespace {

constexpr u32 kPages = 4096, kAtOnce = 64;

/// Single pages that are filled by saying so.
class SinglePages final : public BackingStore {
 public:
  void read_folio(AddressSpace& /*space*/, Folio& folio) override { folio.end_read({}); }
  void write_folio(AddressSpace& /*space*/, Folio& folio) override { folio.end_write({}); }
  Result<> prepare_write(AddressSpace& /*space*/, u64 /*offset*/, u32 /*bytes*/) override { return {}; }
  Order largest_folio() const override { return Order{0}; }
};

}  // namespace

KBENCH(reclaim_page, "a clean cached page that goes, one of 64 in turn", .iterations = 56, .warm_up = 2) {
  SinglePages store;
  AddressSpace file{store, PageCount{kPages}.bytes()};
  for (u32 i = 0; i < kPages; ++i) ASSERT(file.read_page(i, nullptr).has_value());
  bench.run_with_interrupts(kAtOnce, [] { keep(shrink_page_cache(kAtOnce)); });
  ASSERT(file.truncate(0).has_value());
}

}  // namespace paean
