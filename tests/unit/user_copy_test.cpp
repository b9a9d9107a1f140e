// Copies between kernel and user space, where every address is hostile.
#include "access.hpp"
#include "arch/fixmap.hpp"
#include "arch/irq.hpp"
#include "mm/highmem.hpp"
#include "user_space.hpp"

namespace paean {

namespace {

constexpr VirtAddr kHere{0x10000000};
constexpr VirtAddr page_at(u32 n) { return kHere + n * kPageSize; }

}  // namespace

KTEST(user_copy, every_length_and_offset) {
  const InSpace space;
  REQUIRE(space);
  REQUIRE(map_anonymous(*space, 2, kHere).has_value());
  u8 out[70], back[70];
  for (u32 i = 0; i < sizeof out; ++i) out[i] = static_cast<u8>(i + 1);
  for (u32 offset = 0; offset < 5; ++offset) {
    for (u32 length = 0; length <= sizeof out; ++length) {
      const VirtAddr at = page_at(1) - 33 + offset;  // over the border
      REQUIRE(clear_user(at, sizeof out).has_value());
      REQUIRE(copy_to_user(at, out, length).has_value());
      REQUIRE(copy_from_user(back, at, sizeof back).has_value());
      for (u32 i = 0; i < sizeof back; ++i) REQUIRE_EQ(back[i], i < length ? out[i] : 0);
    }
  }
}

KTEST(user_copy, ends_exactly_where_memory_does) {
  const InSpace space;
  REQUIRE(space);
  REQUIRE(map_anonymous(*space, 1, kHere).has_value());
  u8 bytes[64]{};
  for (u32 there = 0; there < 20; ++there) {
    const VirtAddr at = page_at(1) - there;
    EXPECT_EQ(copy_to_user_part(at, bytes, sizeof bytes), there);
    EXPECT_EQ(copy_from_user_part(bytes, at, sizeof bytes), there);
    EXPECT_EQ(copy_to_user(at, bytes, there + 1).error(), Error::BadAddress);
    EXPECT_EQ(clear_user(at, there + 1).error(), Error::BadAddress);
    EXPECT(clear_user(at, there).has_value());
  }
}

KTEST(user_copy, strings) {
  const InSpace space;
  REQUIRE(space);
  REQUIRE(map_anonymous(*space, 2, kHere).has_value());
  constexpr char kText[] = "name";
  char into[16];
  REQUIRE(copy_to_user(page_at(1) - 2, kText, sizeof kText).has_value());
  EXPECT_EQ(copy_string_from_user(into, page_at(1) - 2).value_or(99), 4u);
  EXPECT_EQ(std::string_view{into}, "name");
  EXPECT_EQ(copy_string_from_user(std::span{into}.first(4), page_at(1) - 2).error(), Error::NameTooLong);
  EXPECT_EQ(copy_string_from_user(std::span{into}.first(5), page_at(1) - 2).value_or(99), 4u);
  // The last bytes of memory, with and without a zero.
  REQUIRE(copy_to_user(page_at(2) - 5, kText, sizeof kText).has_value());
  EXPECT_EQ(copy_string_from_user(into, page_at(2) - 5).value_or(99), 4u);
  REQUIRE(copy_to_user(page_at(2) - 4, kText, 4).has_value());
  EXPECT_EQ(copy_string_from_user(into, page_at(2) - 4).error(), Error::BadAddress);
  EXPECT_EQ(copy_string_from_user(into, VirtAddr{0}).error(), Error::BadAddress);
  EXPECT_EQ(copy_string_from_user(into, VirtAddr{0xfffffff0}).error(), Error::BadAddress);
}

// B19's list, as far as addresses go: none is read or written that is not the program's.
KTEST(user_copy, hostile_pointers) {
  const InSpace space;
  REQUIRE(space);
  REQUIRE(map_anonymous(*space, 1, kHere, UserAccess::Read).has_value());
  static constinit u32 canary = 0xcafe;
  const u32 of_kernel = number(address_of(&canary));
  const u32 pointers[] = {0,
                          1,
                          4,
                          0xfff,
                          0x1000,
                          0xbfffffff,
                          0xc0000000,
                          number(user_end()) - 2,
                          number(user_end()),
                          number(arch::kPkmapStart),
                          number(arch::kFixmapStart),
                          number(arch::kUkvaStart),
                          of_kernel,
                          0xfffffffe};
  for (const u32 pointer : pointers) {
    const VirtAddr at{pointer};
    EXPECT(!set_user_word(at, 1));
    EXPECT(!get_user<u32>(at).has_value());
    EXPECT(!clear_user(at, 4).has_value());
    EXPECT(!compare_exchange_user(at, canary, 1).has_value());
  }
  EXPECT_EQ(canary, 0xcafeu);
  EXPECT(!set_user_word(kHere, 1));
  EXPECT_EQ(user_word(kHere), 0u);
  u8 byte;
  EXPECT_EQ(copy_from_user_part(&byte, kHere, 0xffffffff), 0u);
  EXPECT_EQ(copy_from_user_part(&byte, user_end(), 0), 0u);
}

KTEST(user_copy, without_a_space_there_is_nothing) {
  u32 word = 0;
  EXPECT(UserSpace::current() == nullptr);
  EXPECT_EQ(copy_from_user(&word, kHere, 4).error(), Error::BadAddress);
  EXPECT_EQ(copy_to_user(kHere, &word, 4).error(), Error::BadAddress);
}

// C31: a copy that may not sleep does not; what is there already is copied.
KTEST(user_copy, atomic_copies_do_not_fault_in) {
  const InSpace space;
  REQUIRE(space);
  REQUIRE(map_anonymous(*space, 2, kHere).has_value());
  REQUIRE(set_user_word(page_at(1) - 4, 5));
  Result<Page*> page = alloc_page(AllocFlags::HighUser, Owner::Test);
  REQUIRE(page.has_value());
  const u32 faults = space->counters().faults;
  {
    const KmapAtomic map{*page};
    EXPECT_EQ(copy_from_user_part(map.data(), page_at(1) - 4, 8), 4u);
    EXPECT_EQ(map.as<u32>()[0], 5u);
  }
  {
    const arch::IrqsOffGuard off;
    u32 word = 0;
    EXPECT_EQ(copy_to_user_part(page_at(1), &word, 4), 0u);
  }
  EXPECT_EQ(space->counters().faults, faults);
  {
    const KmapLocal map{*page};  // may sleep under this one
    EXPECT_EQ(copy_from_user_part(map.data(), page_at(1) - 4, 8), 8u);
  }
  EXPECT_EQ(space->counters().faults, faults + 1);
  free_page(*page);
}

KTEST(user_copy, compare_exchange) {
  const InSpace space;
  REQUIRE(space);
  REQUIRE(map_anonymous(*space, 1, kHere).has_value());
  REQUIRE(set_user_word(kHere + 8, 5));
  EXPECT_EQ(compare_exchange_user(kHere + 8, 4, 9).value_or(0), 5u);
  EXPECT_EQ(user_word(kHere + 8), 5u);
  EXPECT_EQ(compare_exchange_user(kHere + 8, 5, 9).value_or(0), 5u);
  EXPECT_EQ(user_word(kHere + 8), 9u);
  EXPECT_EQ(compare_exchange_user(kHere + 6, 5, 9).error(), Error::InvalidArgument);
  EXPECT_EQ(compare_exchange_user(page_at(1), 5, 9).error(), Error::BadAddress);
}

}  // namespace paean
