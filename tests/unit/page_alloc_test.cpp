// The frame allocator's contract, request by request.
#include "mm/page_alloc.hpp"

#include "access.hpp"
#include "mm/free_batch.hpp"
#include "mm/ledger.hpp"

namespace paean {

namespace {

struct Request {
  AllocFlags flags;
  ZoneId highest;
};
constexpr Request kRequests[] = {
    {AllocFlags::Kernel, ZoneId::Normal},
    {AllocFlags::Atomic, ZoneId::Normal},
    {AllocFlags::User, ZoneId::Normal},
    {AllocFlags::HighUser, ZoneId::HighMem},
    {AllocFlags::Dma, ZoneId::Dma},
    {AllocFlags::Dma32, ZoneId::Dma32},
    {AllocFlags::Kernel | AllocFlags::NoIo, ZoneId::Normal},
    {AllocFlags::HighUser | AllocFlags::Dma, ZoneId::Dma},
    {AllocFlags::HighUser | AllocFlags::Dma32, ZoneId::Dma32},
    {AllocFlags::Dma | AllocFlags::Dma32, ZoneId::Dma},
    {AllocFlags::Kernel | AllocFlags::HighUser, ZoneId::HighMem},
    {AllocFlags::HighUser | AllocFlags::Zero | AllocFlags::NoWarn, ZoneId::HighMem},
};

bool is_filled_with(Page* page, u32 word) {
  const KmapAtomic map{page};
  const u32* words = map.as<u32>();
  for (u32 i = 0; i < kPageSize / 4; ++i) {
    if (words[i] != word) return false;
  }
  return true;
}

void fill(Page* page, u32 word) {
  const KmapAtomic map{page};
  u32* words = map.as<u32>();
  for (u32 i = 0; i < kPageSize / 4; ++i) words[i] = word;
}

/// Why a request failed; Corrupt if it did not.
Error failure(const Result<Page*>& result) { return result ? Error::Corrupt : result.error(); }

bool says(const char* complaint, std::string_view what) { return complaint != nullptr && contains(complaint, what); }

}  // namespace

KTEST(page_alloc, flags_name_the_highest_zone) {
  for (const Request& request : kRequests) EXPECT_EQ(request.flags.zone(), request.highest);
  EXPECT((AllocFlags::Kernel | AllocFlags::Zero).has(AllocFlags::Zero));
  EXPECT(!(AllocFlags::Kernel | AllocFlags::NoIo).has(AllocFlags::Zero));
  EXPECT(!AllocFlags::Kernel.has(AllocFlags::Atomic));
  EXPECT((AllocFlags::Atomic | AllocFlags::NoWarn).has(AllocFlags::Atomic));
}

KTEST(page_alloc, many_references_are_dropped_at_once) {
  constexpr u32 kPages = 400, kHeld = 37;  // more than a stack holds; each one that another holder has
  static Page* pages[kPages];
  const auto flags_of = [](u32 i) { return i % 5 == 0 ? AllocFlags::Kernel : AllocFlags::HighUser; };
  const auto is_block = [](u32 i) { return i % 11 == 3; };
  for (u32 i = 0; i < kPages; ++i) {
    pages[i] = *alloc_pages(flags_of(i), Order{is_block(i) ? 3u : 0u}, Owner::Test);
    if (i % kHeld == 0) pages[i]->get();
  }
  put_pages(pages);
  for (u32 i = 0; i < kPages; ++i) {
    if (i % kHeld != 0) continue;
    EXPECT_EQ(pages[i]->references(), 1u);
    EXPECT(pages[i]->is_block_of(Owner::Test));
    put_page(pages[i]);
  }
  for (const ZoneId id : kAllZones) EXPECT_EQ(ledger_pages(id, Owner::Test).count(), 0u);
  put_pages({});
}

KTEST(page_alloc, every_order_from_every_flag) {
  for (const Request& request : kRequests) {
    for (u32 i = 0; i < kOrderCount; ++i) {
      const Order order{i};
      const Result<Page*> page = alloc_pages(request.flags | AllocFlags::NoWarn, order, Owner::Test);
      if (!page) {
        EXPECT_EQ(page.error(), Error::OutOfMemory);
        EXPECT(i > 6 || zone(request.highest).managed.count() < 4096);
        continue;
      }
      const Pfn pfn = page_to_pfn(*page);
      EXPECT(pfn.is_aligned(order));
      EXPECT(zone_of(pfn) <= request.highest);
      EXPECT_EQ(zone_of(pfn), zone_of(pfn + PageCount{order.pages() - 1}));
      EXPECT_EQ((*page)->type(), PageType::Block);
      EXPECT_EQ((*page)->order().value(), i);
      EXPECT_EQ((*page)->owner(), Owner::Test);
      EXPECT_EQ((*page)->references(), 1);
      EXPECT(pfn_to_page(pfn) == *page);
      if (is_low(request.highest)) EXPECT(page_address(*page).has_value());
      if (request.highest == ZoneId::Dma) EXPECT(number(pfn) + order.pages() <= 4096);
      if (request.highest == ZoneId::Dma32) EXPECT(number(pfn) + order.pages() <= 0x100000);
      free_pages(*page, order);
    }
  }
}

KTEST(page_alloc, orders_beyond_the_largest_are_refused) {
  for (const u32 order : {kMaxOrder + 1, kMaxOrder + 2, 31u, 255u}) {
    const Result<Page*> page = alloc_pages(AllocFlags::Kernel, Order{order}, Owner::Test);
    REQUIRE(!page);
    EXPECT_EQ(page.error(), Error::InvalidArgument);
  }
}

KTEST(page_alloc, high_requests_prefer_high_zones, .flags = TestFlag::NeedsHighmem) {
  const Result<Page*> page = alloc_page(AllocFlags::HighUser, Owner::Test);
  REQUIRE(page);
  EXPECT(!is_low(zone_of(page_to_pfn(*page))));
  if (!zone(ZoneId::HighMem).empty()) EXPECT_EQ(zone_of(page_to_pfn(*page)), ZoneId::HighMem);
  free_page(*page);
}

KTEST(page_alloc, dma32_spares_lowmem, .flags = TestFlag::NeedsHighmem) {
  if (zone(ZoneId::Dma32).empty()) SKIP("this machine has no memory between lowmem and 4 GiB");
  const u32 before = low_totals().free.count();
  const Result<Page*> page = alloc_pages(AllocFlags::Dma32, Order{5}, Owner::Test);
  REQUIRE(page);
  EXPECT_EQ(zone_of(page_to_pfn(*page)), ZoneId::Dma32);
  EXPECT_EQ(low_totals().free.count(), before);
  free_pages(*page, Order{5});
}

KTEST(page_alloc, zero_clears_what_was_there) {
  for (const AllocFlags flags : {AllocFlags::Kernel, AllocFlags::HighUser, AllocFlags::Dma, AllocFlags::Dma32}) {
    for (u32 i = 0; i <= 4; ++i) {
      const Order order{i};
      const Result<Page*> dirty = alloc_pages(flags, order, Owner::Test);
      REQUIRE(dirty);
      for (u32 page = 0; page < order.pages(); ++page) fill(*dirty + page, 0xdeadbeef);
      const Pfn where = page_to_pfn(*dirty);
      free_pages(*dirty, order);
      const Result<Page*> clean = alloc_pages(flags | AllocFlags::Zero, order, Owner::Test);
      REQUIRE(clean);
      EXPECT_EQ(number(page_to_pfn(*clean)), number(where));  // the newest or the lowest: the same block again
      for (u32 page = 0; page < order.pages(); ++page) EXPECT(is_filled_with(*clean + page, 0));
      free_pages(*clean, order);
    }
  }
}

KTEST(page_alloc, neighbours_are_different_memory) {
  const Result<Page*> block = alloc_pages(AllocFlags::HighUser, Order{6}, Owner::Test);
  REQUIRE(block);
  for (u32 i = 0; i < 64; ++i) fill(*block + i, 0x1000 + i);
  for (u32 i = 0; i < 64; ++i) EXPECT(is_filled_with(*block + i, 0x1000 + i));
  free_pages(*block, Order{6});
}

KTEST(page_alloc, addresses_are_lowmem) {
  for (const AllocFlags flags : {AllocFlags::Kernel, AllocFlags::Atomic, AllocFlags::User, AllocFlags::Dma}) {
    for (const u32 i : {0u, 1u, 3u, 5u}) {
      const Result<VirtAddr> address = __get_free_pages(flags, Order{i}, Owner::Test);
      REQUIRE(address);
      EXPECT(address->is_aligned(kPageSize << i));
      const Result<LowPfn> low = low_frame_at(*address);
      REQUIRE(low);
      EXPECT(is_low(zone_of(low->pfn())));
      EXPECT(page_address(pfn_to_page(low->pfn())) == *address);
      *pointer_to<volatile u32>(*address) = 1;
      free_pages_at(*address, Order{i});
    }
  }
}

KTEST(page_alloc, zeroed_pages_are_zero) {
  for (u32 i = 0; i < 100; ++i) {
    const Result<VirtAddr> page = get_zeroed_page(AllocFlags::Kernel, Owner::Test);
    REQUIRE(page);
    u32 sum = 0;
    for (u32 word = 0; word < kPageSize / 4; ++word) sum |= pointer_to<u32>(*page)[word];
    EXPECT_EQ(sum, 0u);
    __builtin_memset(pointer_to<u8>(*page), 0xff, kPageSize);
    free_pages_at(*page, Order{0});
  }
}

KTEST(page_alloc, head_of_every_page_of_a_block) {
  for (u32 i = 0; i < kOrderCount; ++i) {
    const Order order{i};
    const Result<Page*> block = alloc_pages(AllocFlags::HighUser | AllocFlags::NoWarn, order, Owner::Test);
    if (!block) continue;
    u32 wrong = 0;
    for (u32 page = 0; page < order.pages(); ++page) wrong += block_head(*block + page) == *block ? 0 : 1;
    EXPECT_EQ(wrong, 0);
    const Pfn behind = page_to_pfn(*block) + PageCount{order.pages()};
    if (behind < frame_limit()) EXPECT(block_head(pfn_to_page(behind)) != *block);
    free_pages(*block, order);
    EXPECT(block_head(*block) == nullptr);
  }
}

KTEST(page_alloc, the_last_reference_frees) {
  const Result<Page*> page = alloc_pages(AllocFlags::Kernel, Order{2}, Owner::Test);
  REQUIRE(page);
  const u32 free = free_pages_in(zone_of(page_to_pfn(*page))).count();
  (*page)->get();
  (*page)->get();
  EXPECT_EQ((*page)->references(), 3);
  EXPECT(free_complaint(*page, Order{2}) != nullptr);
  put_page(*page);
  put_page(*page);
  EXPECT_EQ((*page)->references(), 1);
  EXPECT_EQ(free_pages_in(zone_of(page_to_pfn(*page))).count(), free);
  put_page(*page);
  EXPECT_EQ(free_pages_in(zone_of(page_to_pfn(*page))).count(), free + 4);
}

KTEST(page_alloc, references_stick_at_the_limit) {
  const Result<Page*> page = alloc_page(AllocFlags::Kernel, Owner::Test);
  REQUIRE(page);
  const u32 word = (*page)->word();
  for (u32 i = 1; i < Page::kMaxReferences; ++i) (*page)->get();
  EXPECT_EQ((*page)->references(), Page::kMaxReferences);
  (*page)->get();
  EXPECT_EQ((*page)->references(), Page::kMaxReferences);
  EXPECT(!(*page)->put());
  EXPECT_EQ((*page)->references(), Page::kMaxReferences);
  EXPECT_EQ((*page)->order().value(), 0);
  EXPECT_EQ((*page)->owner(), Owner::Test);
  (*page)->set_word(word);
  free_page(*page);
}

KTEST(page_alloc, complaints_name_the_mistake) {
  const Result<Page*> block = alloc_pages(AllocFlags::Kernel, Order{3}, Owner::Test);
  REQUIRE(block);
  EXPECT(free_complaint(*block, Order{3}) == nullptr);
  EXPECT(says(free_complaint(*block, Order{2}), "order"));
  EXPECT(says(free_complaint(*block, Order{4}), "order"));
  for (u32 i = 1; i < 8; ++i) EXPECT(says(free_complaint(*block + i, Order{0}), "inside"));
  EXPECT(says(free_complaint(*block + 4, Order{2}), "inside"));
  free_pages(*block, Order{3});
  EXPECT(says(free_complaint(*block, Order{3}), "double free"));
  const Result<Page*> single = alloc_page(AllocFlags::Kernel, Owner::Test);
  REQUIRE(single);
  free_page(*single);
  EXPECT(says(free_complaint(*single, Order{0}), "double free"));
  const Page* image = pfn_to_page(Pfn{(number(address_of(__image_start)) - arch::kImageOffset) >> kPageShift});
  EXPECT(says(free_complaint(image, Order{0}), "foreign"));
  EXPECT(says(free_complaint(pfn_to_page(Pfn{0xa0}), Order{0}), "foreign"));
  EXPECT(free_complaint(pfn_to_page(frame_limit()), Order{0}) != nullptr);
}

KTEST(page_alloc, a_given_frame_can_be_taken) {
  const Result<Page*> page = alloc_page(AllocFlags::Kernel, Owner::Test);
  REQUIRE(page);
  const Pfn pfn = page_to_pfn(*page);
  EXPECT_EQ(failure(alloc_page_at(pfn, Owner::Test)), Error::Busy);
  free_page(*page);
  const Result<Page*> again = alloc_page_at(pfn, Owner::Test);
  REQUIRE(again);
  EXPECT(*again == pfn_to_page(pfn));
  EXPECT_EQ(failure(alloc_page_at(pfn, Owner::Test)), Error::Busy);
  free_page(*again);
  EXPECT_EQ(failure(alloc_page_at(Pfn{0}, Owner::Test)), Error::NotFound);
  EXPECT_EQ(failure(alloc_page_at(frame_limit(), Owner::Test)), Error::NotFound);
  EXPECT_EQ(failure(alloc_page_at(Pfn{0xffffffff}, Owner::Test)), Error::NotFound);
  const Pfn image{(number(address_of(__image_start)) - arch::kImageOffset) >> kPageShift};
  EXPECT_EQ(failure(alloc_page_at(image, Owner::Test)), Error::Busy);
}

KTEST(page_alloc, owners_are_charged) {
  for (u32 i = 0; i < kOwnerCount; ++i) {
    const auto owner = static_cast<Owner>(i);
    const Result<Page*> page = alloc_pages(AllocFlags::Kernel, Order{2}, owner);
    REQUIRE(page);
    const ZoneId id = zone_of(page_to_pfn(*page));
    const u32 with = ledger_pages(id, owner).count();
    free_pages(*page, Order{2});
    EXPECT_EQ(with, ledger_pages(id, owner).count() + 4);
    EXPECT_EQ(LedgerRow(id, owner).owner(), owner);
    EXPECT_EQ(LedgerRow(id, owner).zone(), id);
    EXPECT(!name(owner).empty());
  }
}

KTEST(page_alloc, failures_are_counted) {
  const u32 before = allocation_failures();
  EXPECT(!alloc_pages(AllocFlags::Dma | AllocFlags::NoWarn, Order{kMaxOrder + 1}, Owner::Test).has_value());
  EXPECT_EQ(allocation_failures(), before);  // a wrong argument is not a shortage
}

}  // namespace paean
