// The buddy allocator and its bitmaps on private instances in kernel memory, against models too simple to be wrong.
#include "mm/buddy.hpp"

#include "access.hpp"
#include "take_pages.hpp"

namespace paean {

namespace {

constexpr u32 kPages = 8192;  // eight largest blocks

/// A buddy whose maps lie in pages of the live allocator, and a byte for each page: what the model thinks.
class PrivateBuddy {
 public:
  PrivateBuddy()
      : maps_(__get_free_pages(AllocFlags::Kernel | AllocFlags::Zero, kOrder, Owner::Test)),
        model_(__get_free_pages(AllocFlags::Kernel | AllocFlags::Zero, kOrder, Owner::Test)) {
    static_assert(Buddy::words_needed(kPages) * 4 <= (kPageSize << 1) && kPages <= (kPageSize << 1));
    if (valid()) buddy.init({pointer_to<u32>(*maps_), Buddy::words_needed(kPages)}, kPages);
  }
  ~PrivateBuddy() {
    if (maps_) free_pages_at(*maps_, kOrder);
    if (model_) free_pages_at(*model_, kOrder);
  }
  PrivateBuddy(const PrivateBuddy&) = delete;
  PrivateBuddy& operator=(const PrivateBuddy&) = delete;

  bool valid() const { return maps_ && model_; }
  u8& held(u32 page) const { return pointer_to<u8>(*model_)[page]; }

  Buddy buddy{};

 private:
  static constexpr Order kOrder{1};
  Result<VirtAddr> maps_, model_;
};

/// The lowest aligned run of free pages that an allocation could take: what lowest address first means without splits.
u32 lowest_free_block(const PrivateBuddy& p, Order order) {
  for (u32 at = 0; at < kPages; at += order.pages()) {
    if (p.held(at) != 0) continue;
    const u32 covering = p.buddy.covering_order(at);
    if (covering == order.value()) return at;
    if (covering != Buddy::kNone && covering > order.value()) at |= (1u << covering) - order.pages();  // its last one
  }
  return Buddy::kNone;
}

}  // namespace

KTEST(buddy, empty_has_nothing) {
  PrivateBuddy p;
  REQUIRE(p.valid());
  EXPECT_EQ(p.buddy.pages(), kPages);
  EXPECT_EQ(p.buddy.free_pages(), 0);
  for (u32 order = 0; order < kOrderCount; ++order) EXPECT_EQ(p.buddy.allocate(Order{order}), Buddy::kNone);
  EXPECT(!p.buddy.is_free(0));
  EXPECT(p.buddy.check());
}

KTEST(buddy, pages_merge_to_the_largest_blocks) {
  PrivateBuddy p;
  REQUIRE(p.valid());
  for (u32 i = 0; i < kPages; ++i) p.buddy.free((i * 4095) % kPages, Order{0});  // 4095 is odd: every page once
  EXPECT_EQ(p.buddy.free_pages(), kPages);
  EXPECT_EQ(p.buddy.free_blocks(Order{kMaxOrder}), kPages >> kMaxOrder);
  for (u32 order = 0; order < kMaxOrder; ++order) EXPECT_EQ(p.buddy.free_blocks(Order{order}), 0);
  EXPECT_EQ(p.buddy.nonempty_orders(), 1u << kMaxOrder);
  EXPECT(p.buddy.check());
}

KTEST(buddy, lowest_address_first) {
  PrivateBuddy p;
  REQUIRE(p.valid());
  p.buddy.free_range(0, kPages);
  for (u32 i = 0; i < 100; ++i) EXPECT_EQ(p.buddy.allocate(Order{0}), i);
  EXPECT_EQ(p.buddy.allocate(Order{3}), 104);
  EXPECT_EQ(p.buddy.allocate(Order{2}), 100);
  EXPECT_EQ(p.buddy.allocate(Order{kMaxOrder}), 1024);
  p.buddy.free(7, Order{0});
  p.buddy.free(3, Order{0});
  EXPECT_EQ(p.buddy.allocate(Order{0}), 3);
  EXPECT_EQ(p.buddy.allocate(Order{0}), 7);
  EXPECT(p.buddy.check());
}

KTEST(buddy, a_range_of_any_shape_is_free_afterwards) {
  PrivateBuddy p;
  REQUIRE(p.valid());
  p.buddy.free_range(5, 3001);
  EXPECT_EQ(p.buddy.free_pages(), 3001);
  EXPECT(!p.buddy.is_free(4) && p.buddy.is_free(5) && p.buddy.is_free(3005) && !p.buddy.is_free(3006));
  EXPECT_EQ(p.buddy.covering_order(1024), kMaxOrder);
  EXPECT_EQ(p.buddy.covering_order(5), 0);
  EXPECT(p.buddy.check());
}

KTEST(buddy, a_given_block_can_be_taken_out) {
  PrivateBuddy p;
  REQUIRE(p.valid());
  p.buddy.free_range(0, kPages);
  EXPECT(p.buddy.allocate_at(5000, Order{3}));
  EXPECT_EQ(p.buddy.free_pages(), kPages - 8);
  EXPECT(!p.buddy.is_free(5000) && !p.buddy.is_free(5007) && p.buddy.is_free(4999) && p.buddy.is_free(5008));
  EXPECT(!p.buddy.allocate_at(5000, Order{3}));
  EXPECT(!p.buddy.allocate_at(5004, Order{0}));
  EXPECT(!p.buddy.allocate_at(4992, Order{4}));  // half of it is taken
  EXPECT_EQ(p.buddy.free_pages(), kPages - 8);
  EXPECT(p.buddy.check());
  p.buddy.free(5000, Order{3});
  EXPECT_EQ(p.buddy.free_blocks(Order{kMaxOrder}), kPages >> kMaxOrder);
}

KTEST(buddy, single_pages_in_a_batch_come_lowest_first) {
  PrivateBuddy p;
  REQUIRE(p.valid());
  p.buddy.free_range(10, 30);
  p.buddy.free_range(2000, 100);
  u32 got[64];
  EXPECT_EQ(take_pages(p.buddy, 64, got), 64);
  for (u32 i = 0; i < 64; ++i) EXPECT(!p.buddy.is_free(got[i]));
  EXPECT_EQ(p.buddy.free_pages(), 130 - 64);
  EXPECT(p.buddy.check());
  u32 more[100];
  EXPECT_EQ(take_pages(p.buddy, 100, more), 66);
  EXPECT_EQ(p.buddy.free_pages(), 0);
  for (const u32 page : got) p.buddy.free(page, Order{0});
  for (u32 i = 0; i < 66; ++i) p.buddy.free(more[i], Order{0});
  EXPECT_EQ(p.buddy.free_pages(), 130);
  EXPECT(p.buddy.check());
}

KTEST(buddy, random_operations_agree_with_a_model) {
  PrivateBuddy p;
  REQUIRE(p.valid());
  p.buddy.free_range(0, kPages);
  u32 free = kPages;
  for (u32 step = 0; step < 20'000; ++step) {
    const Order order{test.random_below(test.random_below(kOrderCount) + 1)};
    const u32 at = test.random_below(kPages) & ~(order.pages() - 1);
    if (test.random_below(2) == 0) {
      // The lowest block of this order if there is one whole; splitting takes a block of a higher order instead.
      const u32 expected = lowest_free_block(p, order);
      const u32 got = p.buddy.allocate(order);
      if (expected != Buddy::kNone) REQUIRE_EQ(got, expected);
      if (got == Buddy::kNone) continue;
      REQUIRE_EQ(got & (order.pages() - 1), 0u);
      for (u32 i = 0; i < order.pages(); ++i) REQUIRE_EQ(p.held(got + i)++, 0);
      free -= order.pages();
    } else {
      u32 held = 0;
      for (u32 i = 0; i < order.pages(); ++i) held += p.held(at + i);
      if (held == order.pages()) {
        p.buddy.free(at, order);
        for (u32 i = 0; i < order.pages(); ++i) p.held(at + i) = 0;
        free += order.pages();
      } else {
        const bool taken = p.buddy.allocate_at(at, order);
        REQUIRE_EQ(taken, held == 0);
        if (!taken) continue;
        for (u32 i = 0; i < order.pages(); ++i) p.held(at + i) = 1;
        free -= order.pages();
      }
    }
    REQUIRE_EQ(p.buddy.free_pages(), free);
    if (step % 1000 == 0) REQUIRE(p.buddy.check());
  }
  for (u32 i = 0; i < kPages; ++i) {
    REQUIRE_EQ(p.buddy.is_free(i), p.held(i) == 0);
    if (p.held(i) != 0) p.buddy.free(i, Order{0});
  }
  EXPECT_EQ(p.buddy.free_blocks(Order{kMaxOrder}), kPages >> kMaxOrder);
  EXPECT(p.buddy.check());
}

KTEST(hbitmap, finds_the_lowest_of_random_bits) {
  constexpr u32 kBits = 100'000;
  constexpr Order kOrder{3};
  static_assert(HBitmap::words_needed(kBits) * 4 <= kPageSize << 3);
  const Result<VirtAddr> memory = __get_free_pages(AllocFlags::Kernel | AllocFlags::Zero, kOrder, Owner::Test);
  REQUIRE(memory);
  HBitmap map;
  map.init({pointer_to<u32>(*memory), HBitmap::words_needed(kBits)}, kBits);
  EXPECT(map.empty());
  u32 lowest = HBitmap::kNone, set = 0;
  for (u32 i = 0; i < 1000; ++i) {
    const u32 bit = test.random_below(kBits);
    if (map.test(bit)) continue;
    map.set(bit);
    ++set;
    if (bit < lowest) lowest = bit;
    EXPECT_EQ(map.find_first(), lowest);
  }
  EXPECT_EQ(map.count(), set);
  u32 previous = 0, found = 0;
  for (u32 bit = map.find_first(); bit != HBitmap::kNone; bit = map.find_first()) {
    EXPECT(found == 0 || bit > previous);
    previous = bit;
    ++found;
    map.clear(bit);
  }
  EXPECT_EQ(found, set);
  EXPECT(map.empty());
  for (const u32 bit : {0u, 31u, 32u, 1023u, 1024u, 32767u, 32768u, kBits - 1}) {
    map.set(bit);
    EXPECT_EQ(map.find_first(), bit);
    map.clear(bit);
    EXPECT(map.empty());
  }
  free_pages_at(*memory, kOrder);
}

}  // namespace paean
