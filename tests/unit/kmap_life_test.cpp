// The life of a slot, and what becomes of pages that are freed while another CPU may still have their translation.
#include "access.hpp"
#include "arch/address_space.hpp"
#include "arch/traps.hpp"
#include "mm/kmap.hpp"
#include "threads.hpp"

namespace paean {

namespace {

/// A CPU that never idles and enters the kernel's slow paths only when told: it flushes once for each order.
class BusyCpu {
 public:
  bool start() {
    return crew_.add("busy", run, this, elsewhere()) && within_ms(5000, [&] { return load(ready_) != 0; });
  }
  ~BusyCpu() {
    store(stop_, 1);
    crew_.join();
  }
  BusyCpu() = default;
  BusyCpu(const BusyCpu&) = delete;
  BusyCpu& operator=(const BusyCpu&) = delete;

  [[nodiscard]] bool flush() {
    const u32 orders = add(orders_, 1) + 1;
    return within_ms(5000, [&] { return load(done_) == orders; });
  }

 private:
  static void run(void* argument) {
    auto& me = *static_cast<BusyCpu*>(argument);
    store(me.ready_, 1);
    while (load(me.stop_) == 0) {
      const u32 orders = load(me.orders_);
      if (orders == load(me.done_)) continue;
      arch::flush_tlb_all();
      store(me.done_, orders);
    }
  }

  u32 ready_ = 0, stop_ = 0, orders_ = 0, done_ = 0;
  Crew<1> crew_;
};

void write(Page* page, u32 value) {
  const KmapLocal map{page};
  *map.as<volatile u32>() = value;
}
u32 read(const Page* page) {
  const KmapLocal map{page};
  return *map.as<volatile u32>();
}

void* map_and_unmap(Page* page) {
  void* at = kmap(page);
  kunmap_address(at);
  return at;
}

}  // namespace

KTEST(kmap, the_life_of_a_slot, .flags = TestFlag::NeedsHighmem) {
  const Result<Page*> page = alloc_page(AllocFlags::HighUser, Owner::Test);
  REQUIRE(page);
  const KmapStatistics start = kmap_statistics();
  void* at = kmap(*page);
  EXPECT(kmap(*page) == at);
  KmapStatistics now = kmap_statistics();
  EXPECT_EQ(now.live, start.live + 1);  // one slot, two users
  EXPECT_EQ(now.misses, start.misses + 1);
  EXPECT_EQ(now.hits, start.hits + 1);
  kunmap_address(at);
  EXPECT_EQ(kmap_statistics().live, start.live + 1);
  kunmap(*page);
  now = kmap_statistics();
  EXPECT_EQ(now.live, start.live);
  EXPECT_EQ(now.cached, start.cached + 1);
  EXPECT(arch::probe_read(address_of(at)));
  kmap_flush_unused();
  now = kmap_statistics();
  EXPECT_EQ(now.cached, 0);
  EXPECT_EQ(now.clean, now.slots);
  EXPECT_EQ(now.waiting, 0);
  EXPECT(!arch::probe_read(address_of(at)));
  EXPECT(kmap(*page) != at);  // the slots that have been clean for longest go first
  kunmap(*page);
  free_page(*page);
}

KTEST(kmap, a_slot_waits_for_the_last_cpu, .flags = TestFlag::NeedsHighmem | TestFlag::NeedsSmp) {
  if (arch::online_cpus() != 2) SKIP("needs exactly two CPUs");
  const Result<Page*> page = alloc_page(AllocFlags::HighUser, Owner::Test);
  REQUIRE(page);
  kmap_flush_unused();
  BusyCpu busy;
  REQUIRE(busy.start());
  (void)map_and_unmap(*page);
  const Pfn pfn = page_to_pfn(*page);
  free_page(*page);
  EXPECT_EQ(kmap_statistics().waiting, 1);
  EXPECT_EQ(pfn_to_page(pfn)->type(), PageType::Parked);
  arch::flush_tlb_all();  // this one alone is not enough
  EXPECT_EQ(kmap_statistics().waiting, 1);
  REQUIRE(busy.flush());
  EXPECT_EQ(kmap_statistics().waiting, 0);
}

KTEST(kmap, a_freed_page_waits_for_the_last_cpu, .flags = TestFlag::NeedsHighmem | TestFlag::NeedsSmp) {
  if (arch::online_cpus() != 2) SKIP("needs exactly two CPUs");
  kmap_flush_unused();
  const KmapStatistics before = kmap_statistics();
  const Result<Page*> block = alloc_pages(AllocFlags::HighUser, Order{2}, Owner::Test);
  REQUIRE(block);
  const ZoneId zone = LedgerRow{(*block)->ledger_row()}.zone();
  const u32 tests = ledger_pages(zone, Owner::Test).count(), held = ledger_total(zone).count();
  BusyCpu busy;
  REQUIRE(busy.start());
  (void)map_and_unmap(*block + 1);
  (void)map_and_unmap(*block + 3);
  free_pages(*block, Order{2});
  KmapStatistics now = kmap_statistics();
  EXPECT_EQ(now.dropped, before.dropped + 2);
  EXPECT_EQ(now.parked_blocks, 1);
  EXPECT_EQ(now.parked_pages, 4);
  EXPECT_EQ((*block)->type(), PageType::Parked);
  EXPECT_EQ((*block)->owner(), Owner::Parked);
  EXPECT(block_head(*block + 3) == *block);
  EXPECT_EQ(ledger_pages(zone, Owner::Test).count(), tests - 4);
  EXPECT_EQ(ledger_pages(zone, Owner::Parked).count(), 4);
  EXPECT(free_complaint(*block, Order{2}) != nullptr);
  EXPECT(free_complaint(*block + 2, Order{0}) != nullptr);
  EXPECT(!alloc_page_at(page_to_pfn(*block), Owner::Test));
  REQUIRE(busy.flush());
  arch::flush_tlb_all();
  EXPECT(kmap_give_back());
  EXPECT((*block)->type() != PageType::Parked);
  now = kmap_statistics();
  EXPECT_EQ(now.parked_blocks, 0);
  EXPECT_EQ(now.parked_pages, 0);
  EXPECT(ledger_total(zone).count() <= held);
}

KTEST(kmap, an_allocation_takes_parked_pages_back, .flags = TestFlag::NeedsHighmem | TestFlag::NeedsSmp) {
  if (arch::online_cpus() != 2) SKIP("needs exactly two CPUs");
  kmap_flush_unused();
  const Result<Page*> block = alloc_pages(AllocFlags::HighUser, Order{10}, Owner::Test);
  REQUIRE(block);
  BusyCpu busy;
  REQUIRE(busy.start());
  (void)map_and_unmap(*block + 700);
  free_pages(*block, Order{10});
  EXPECT_EQ((*block)->type(), PageType::Parked);
  // Everything else of this order, until there is no more but what is parked.
  HeldBlocks held;
  REQUIRE(held.valid());
  bool came_back = false;
  while (!held.full()) {
    const Result<Page*> other = alloc_pages(AllocFlags::HighUser | AllocFlags::NoWarn, Order{10}, Owner::Test);
    if (!other) break;
    held.add(*other, Order{10});
    came_back |= *other == *block;
  }
  EXPECT(came_back);
  EXPECT_EQ(kmap_statistics().parked_blocks, 0);
}

KTEST(kmap, a_recycled_page_is_parked_too, .flags = TestFlag::NeedsHighmem | TestFlag::NeedsSmp) {
  if (arch::online_cpus() != 2) SKIP("needs exactly two CPUs");
  kmap_flush_unused();
  const u32 slots = kmap_statistics().slots;
  HeldBlocks pages;
  REQUIRE(pages.valid());
  for (u32 i = 0; i < slots; ++i) {
    const Result<Page*> page = alloc_page(AllocFlags::HighUser, Owner::Test);
    REQUIRE(page);
    pages.add(*page, Order{0});
  }
  BusyCpu busy;
  REQUIRE(busy.start());
  for (u32 i = 0; i < slots; ++i) (void)map_and_unmap(pages[i].page);
  // The last of them made the pool recycle others, and nobody has flushed for that.
  const KmapStatistics now = kmap_statistics();
  EXPECT(now.waiting != 0);
  u32 recycled = 0;
  for (; recycled < slots; ++recycled) {
    const Result<void*> at = kmap_if_mapped(pages[recycled].page);
    if (!at) break;
    kunmap_address(*at);
  }
  REQUIRE(recycled < slots);
  Page* page = pages[recycled].page;
  pages.free_at(recycled);
  EXPECT_EQ(page->type(), PageType::Parked);
  EXPECT_EQ(kmap_statistics().dropped, now.dropped);
}

KTEST(kmap, a_second_cpu_maps_during_the_flush, .flags = TestFlag::NeedsHighmem | TestFlag::NeedsSmp) {
  constexpr u32 kPages = 1500, kFlushes = 1000;
  struct Mapper {
    HeldBlocks pages;
    u32 stop = 0, maps = 0, wrong = 0;
    static void run(void* argument) {
      auto& me = *static_cast<Mapper*>(argument);
      for (u32 i = 0; load(me.stop) == 0; i = i + 1 == kPages ? 0 : i + 1) {
        const Kmap map{me.pages[i].page};
        me.wrong += *map.as<volatile u32>() != i ? 1 : 0;
        add(me.maps, 1);
      }
    }
  } mapper;
  REQUIRE(mapper.pages.valid());
  for (u32 i = 0; i < kPages; ++i) {
    const Result<Page*> page = alloc_page(AllocFlags::HighUser, Owner::Test);
    REQUIRE(page);
    mapper.pages.add(*page, Order{0});
    write(*page, i);
  }
  Crew<1> crew;
  REQUIRE(crew.add("mapper", Mapper::run, &mapper, elsewhere()));
  EXPECT(within_ms(5000, [&] { return load(mapper.maps) != 0; }));
  u32 wrong = 0;
  for (u32 i = 0; i < kFlushes; ++i) {
    kmap_flush_unused();
    const Kmap map{mapper.pages[i].page};
    wrong += *map.as<volatile u32>() != i ? 1 : 0;
  }
  store(mapper.stop, 1);
  crew.join();
  EXPECT_EQ(wrong + mapper.wrong, 0);
  EXPECT_EQ(kmap_statistics().live, 0);
  test.note("{} maps of the other CPU during {} flushes", mapper.maps, kFlushes);
}

namespace {

/// The other CPU reads one address all the time, through whatever translation it has.
class Reader {
 public:
  static constexpr u32 kNew = 0x4e45574e;
  bool start() { return crew_.add("reader", run, this, elsewhere()); }
  ~Reader() {
    store(stop_, 1);
    crew_.join();
  }
  Reader() = default;
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  /// Returns when it has read there, so that it has a translation.
  [[nodiscard]] bool look_at(const void* at) {
    store(at_, number(address_of(at)));
    const u32 now = load(reads_);
    return within_ms(5000, [&] { return load(reads_) - now > 2; });
  }
  [[nodiscard]] bool read_twice() {
    const u32 now = load(reads_);
    return within_ms(5000, [&] { return load(reads_) - now > 2; });
  }
  u32 saw_new() const { return load(new_); }

 private:
  static void run(void* argument) {
    auto& me = *static_cast<Reader*>(argument);
    while (load(me.stop_) == 0) {
      const u32 at = load(me.at_);
      if (at == 0) continue;
      const Result<u32> word = arch::probe_read(VirtAddr{at});
      if (word && *word == kNew) add(me.new_, 1);
      add(me.reads_, 1);
    }
  }

  u32 at_ = 0, stop_ = 0, reads_ = 0, new_ = 0;
  Crew<1> crew_;
};

}  // namespace

KTEST(kmap, new_data_is_never_seen_through_an_old_address, .flags = TestFlag::NeedsHighmem | TestFlag::NeedsSmp) {
  constexpr u32 kRounds = 200;
  kmap_flush_unused();
  Reader reader;
  REQUIRE(reader.start());
  u32 came_again = 0;
  for (u32 i = 0; i < kRounds; ++i) {
    const Result<Page*> page = alloc_page(AllocFlags::HighUser, Owner::Test);
    REQUIRE(page);
    write(*page, i);
    void* at = kmap(*page);
    REQUIRE(reader.look_at(at));
    kunmap_address(at);
    free_page(*page);
    if (i % 2 == 0) (void)kmap_give_back();
    const Result<Page*> next = alloc_page(AllocFlags::HighUser, Owner::Test);
    REQUIRE(next);
    came_again += *next == *page ? 1 : 0;
    write(*next, Reader::kNew);
    REQUIRE(reader.read_twice());
    write(*next, 0);
    free_page(*next);
  }
  EXPECT_EQ(reader.saw_new(), 0);
  EXPECT(came_again >= kRounds / 4);
  test.note("the frame came again {} times of {}", came_again, kRounds);
}

KTEST(kmap, without_the_flush_new_data_is_seen, .flags = TestFlag::NeedsHighmem | TestFlag::NeedsSmp) {
  // The twin of the test above: the entry is cleared and this CPU flushed, and nobody waits for the other one.
  const auto clear = [](arch::Pte& pte, u64) { pte.clear(); };
  const auto set = [](arch::Pte& pte, u64 value) { pte.set(arch::PteValue{value}); };
  const Result<Page*> page = alloc_page(AllocFlags::HighUser, Owner::Test);
  REQUIRE(page);
  write(*page, 0);
  void* at = kmap(*page);
  const VirtAddr va = address_of(at);
  const u64 entry = bits(arch::walk_current(va).pte);
  {
    Reader reader;
    REQUIRE(reader.start());
    REQUIRE(reader.look_at(at));
    REQUIRE(arch::with_pte(va, clear, 0));
    arch::invalidate_page(va);
    write(*page, Reader::kNew);
    REQUIRE(reader.read_twice());
    EXPECT(!arch::probe_read(va));
    EXPECT(reader.saw_new() != 0);
    REQUIRE(arch::with_pte(va, set, entry));
  }
  EXPECT_EQ(read(*page), Reader::kNew);
  kunmap_address(at);
  free_page(*page);
}

KTEST(death, kmap_of_a_parked_page, .flags = TestFlag::Death | TestFlag::NeedsHighmem) {
  const Result<Page*> page = alloc_page(AllocFlags::HighUser, Owner::Test);
  REQUIRE(page);
  BusyCpu busy;
  if (arch::online_cpus() > 1) REQUIRE(busy.start());
  (void)map_and_unmap(*page);
  free_page(*page);
  if (arch::online_cpus() > 1)
    KTEST_EXPECT_PANIC("which is freed and parked");
  else
    KTEST_EXPECT_PANIC("which is free");
  (void)kmap(*page);
}

KTEST(death, double_free_of_a_parked_page, .flags = TestFlag::Death | TestFlag::NeedsHighmem) {
  const Result<Page*> page = alloc_page(AllocFlags::HighUser, Owner::Test);
  REQUIRE(page);
  BusyCpu busy;
  if (arch::online_cpus() > 1) REQUIRE(busy.start());
  (void)map_and_unmap(*page);
  free_page(*page);
  KTEST_EXPECT_PANIC(arch::online_cpus() > 1 ? "double free: the page is parked" : "double free: the page is free");
  free_page(*page);
}

}  // namespace paean
