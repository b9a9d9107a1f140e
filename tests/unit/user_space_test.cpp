// User address spaces without ring 3: the test's thread runs on one and touches it as the kernel's copies do.
#include "user_space.hpp"

#include "access.hpp"
#include "arch/address_space.hpp"
#include "arch/cpu.hpp"

namespace paean {

namespace {

constexpr VirtAddr kHere{0x10000000};
constexpr VirtAddr page_at(u32 n) { return kHere + n * kPageSize; }

}  // namespace

KTEST(user_space, empty_space_comes_and_goes) {
  const InSpace space;
  REQUIRE(space);
  EXPECT_EQ(UserSpace::current(), &*space);
  EXPECT_EQ(space->counters().areas, 0u);
  EXPECT_EQ(get_user<u32>(VirtAddr{0}).error(), Error::BadAddress);
  EXPECT(arch::kernel_directories_are_as_sealed());
}

KTEST(user_space, demand_zero) {
  const InSpace space;
  REQUIRE(space);
  REQUIRE_EQ(map_anonymous(*space, 4, kHere).value_or(VirtAddr{}), kHere);
  EXPECT_EQ(space->counters().anonymous, 0u);
  EXPECT_EQ(user_word(kHere), 0u);
  EXPECT(set_user_word(page_at(1) + 8, 0x1234));
  EXPECT_EQ(user_word(page_at(1) + 8), 0x1234u);
  EXPECT_EQ(user_word(page_at(1) + 12), 0u);
  const UserCounters now = space->counters();
  EXPECT_EQ(now.anonymous, 2u);
  EXPECT_EQ(now.tables, 1u);
  EXPECT_EQ(now.mapped, 4u);
  const arch::Walk walk = arch::walk_current(kHere);
  EXPECT(walk.mapped && walk.pde.has(arch::pte_bits::kUser) && walk.pte.has(arch::pte_bits::kUser));
  EXPECT(!walk.pte.has(arch::pte_bits::kGlobal));
}

KTEST(user_space, fresh_pages_are_zero_after_garbage) {
  constexpr u32 kPages = 256, kWords = kPageSize / sizeof(u32);
  const InSpace space;
  REQUIRE(space);
  u32 garbage = 0;
  for (u32 round = 0; round < 2; ++round) {
    REQUIRE(map_anonymous(*space, kPages, kHere).has_value());
    for (u32 i = 0; i < kPages; ++i) {
      const u32 word = test.random_below(kWords) * sizeof(u32);
      for (const u32 at : {u32{0}, word, u32{(kWords - 1) * sizeof(u32)}}) garbage += user_word(page_at(i) + at) != 0u;
      u32 page[kWords / 8];
      for (u32& value : page) value = 0xdeadbeef;
      for (u32 part = 0; part < 8; ++part) REQUIRE(copy_to_user(page_at(i) + part * sizeof page, page, sizeof page));
    }
    REQUIRE(space->unmap(kHere, kPages * kPageSize).has_value());
  }
  EXPECT_EQ(garbage, 0u);
}

KTEST(user_space, unmap_frees_pages_and_tables) {
  const InSpace space;
  REQUIRE(space);
  constexpr u32 kPages = 600;  // two tables, more than a gather holds
  REQUIRE(map_anonymous(*space, kPages, kHere).has_value());
  for (u32 i = 0; i < kPages; ++i) REQUIRE(set_user_word(page_at(i), i + 1));
  EXPECT_EQ(space->counters().anonymous, kPages);
  EXPECT_EQ(space->counters().tables, 2u);
  REQUIRE(space->unmap(page_at(1), (kPages - 2) * kPageSize).has_value());
  EXPECT_EQ(space->counters().anonymous, 2u);
  EXPECT_EQ(space->counters().areas, 2u);
  EXPECT_EQ(user_word(kHere), 1u);
  EXPECT_EQ(user_word(page_at(kPages - 1)), kPages);
  EXPECT(!get_user<u32>(page_at(1)).has_value());
  REQUIRE(space->unmap(kHere, kPages * kPageSize).has_value());
  EXPECT_EQ(space->counters().anonymous, 0u);
  EXPECT_EQ(space->counters().tables, 0u);
  EXPECT_EQ(space->counters().areas, 0u);
  REQUIRE(map_anonymous(*space, 1, kHere).has_value());  // where there was a table
  EXPECT(set_user_word(kHere, 1));
  EXPECT_EQ(space->counters().tables, 1u);
}

KTEST(user_space, fixed_map_replaces) {
  const InSpace space;
  REQUIRE(space);
  REQUIRE(map_anonymous(*space, 3, kHere).has_value());
  EXPECT(set_user_word(page_at(1), 7));
  EXPECT_EQ(map_anonymous(*space, 1, page_at(1), kUserRw, MapFlag::NoReplace).error(), Error::Exists);
  REQUIRE(map_anonymous(*space, 1, page_at(1)).has_value());
  EXPECT_EQ(user_word(page_at(1)), 0u);
  EXPECT_EQ(space->counters().areas, 1u);  // they agree, so they are one
}

KTEST(user_space, hostile_ranges_are_refused) {
  const InSpace space;
  REQUIRE(space);
  const u32 end = number(user_end());
  const u32 places[] = {
      0,          1,          0xfff,      0x1000,     0xffff,    end - kPageSize, end, end + kPageSize,
      0xc0000000, 0xfec00000, 0xff800000, 0xfffff000, 0xffffffff};
  const u32 lengths[] = {0, 1, kPageSize, 0x7fffffff, 0x80000000, 0xfffff000, 0xffffffff};
  for (const u32 place : places) {
    for (const u32 length : lengths) {
      const VirtAddr at{place};
      const u64 last = u64{place} + length;
      const Result<VirtAddr> mapped =
          space->map({.at = at, .bytes = length, .access = kUserRw, .flags = MapFlag::Fixed});
      if (mapped) {
        EXPECT(place >= number(kLowestUser) && last <= end && length != 0);
        EXPECT(space->unmap(at, length).has_value());
      }
      if (last > end) EXPECT(!space->unmap(at, length).has_value());
      if (last > end && length != 0) EXPECT(!space->protect(at, length, kUserRw).has_value());
      EXPECT(!space->remap(at, length, length, UserSpace::Remap::MayMove).has_value());
      EXPECT(!space->remap(at, kPageSize, length, UserSpace::Remap::Fixed, VirtAddr{place}).has_value());
      if (place >= end || place < number(kLowestUser))
        EXPECT_EQ(space->handle_fault(at, UserAccess::Write), FaultResult::NotMapped);
      if (length != 0) {
        u8 byte = 0;
        EXPECT_EQ(copy_from_user_part(&byte, at, length <= 1 ? 1 : length), 0u);
      }
    }
  }
  EXPECT_EQ(space->counters().areas, 0u);
  EXPECT_EQ(map_anonymous(*space, 1, VirtAddr{0x1000}).error(), Error::NotPermitted);
}

KTEST(user_space, protection) {
  const InSpace space;
  REQUIRE(space);
  REQUIRE(map_anonymous(*space, 3, kHere).has_value());
  for (u32 i = 0; i < 3; ++i) REQUIRE(set_user_word(page_at(i), 100 + i));
  REQUIRE(space->protect(page_at(1), kPageSize, UserAccess::Read).has_value());
  EXPECT_EQ(space->counters().areas, 3u);
  EXPECT(!set_user_word(page_at(1), 1));
  EXPECT(set_user_word(page_at(2), 102));
  EXPECT_EQ(user_word(page_at(1)), 101u);
  EXPECT_EQ(space->handle_fault(page_at(1), UserAccess::Write), FaultResult::NotAllowed);
  REQUIRE(space->protect(page_at(1), kPageSize, UserAccess::None).has_value());
  EXPECT(!get_user<u32>(page_at(1)).has_value());
  EXPECT_EQ(space->counters().anonymous, 3u);  // kept
  REQUIRE(space->protect(page_at(1), kPageSize, kUserRw).has_value());
  EXPECT_EQ(space->counters().areas, 1u);
  EXPECT_EQ(user_word(page_at(1)), 101u);
  EXPECT(set_user_word(page_at(1), 5));
  EXPECT_EQ(space->counters().reused, 1u);
  EXPECT_EQ(space->protect(page_at(2), 2 * kPageSize, UserAccess::Read).error(), Error::OutOfMemory);
  EXPECT(!set_user_word(page_at(2), 1));  // what lies before the hole has changed
  EXPECT_EQ(space->handle_fault(kHere, UserAccess::Execute), FaultResult::NotAllowed);
  REQUIRE(space->protect(kHere, kPageSize, UserAccess::Execute | UserAccess::Read).has_value());
  if (arch::cpu_features().nx) {
    EXPECT(!arch::walk_current(kHere).pte.has(arch::pte_bits::kNoExecute));
    EXPECT(arch::walk_current(page_at(1)).pte.has(arch::pte_bits::kNoExecute));
  }
}

KTEST(user_space, stack_grows_to_its_gap) {
  const InSpace space;
  REQUIRE(space);
  const VirtAddr top = kHere + 64 * kMiB;
  REQUIRE(map_anonymous(*space, 1, top - kPageSize, kUserRw, MapFlag::GrowsDown).has_value());
  EXPECT(set_user_word(top - 3 * kPageSize, 3));
  EXPECT_EQ(space->counters().mapped, 3u);
  EXPECT(set_user_word(top - kStackLimit, 4));
  EXPECT(!set_user_word(top - kStackLimit - 4, 5));
  EXPECT_EQ(space->counters().anonymous, 2u);
  EXPECT_EQ(space->counters().mapped, kStackLimit >> kPageShift);
  // A second one with something below it.
  const VirtAddr other = kHere + 128 * kMiB;
  REQUIRE(map_anonymous(*space, 1, other - kPageSize, kUserRw, MapFlag::GrowsDown).has_value());
  REQUIRE(map_anonymous(*space, 1, other - kStackGap - 4 * kPageSize).has_value());
  EXPECT(set_user_word(other - 2 * kPageSize, 1));
  EXPECT(set_user_word(other - 3 * kPageSize, 1));
  EXPECT(!set_user_word(other - 4 * kPageSize, 1));
}

KTEST(user_space, break_moves) {
  const InSpace space;
  REQUIRE(space);
  EXPECT_EQ(space->set_break(kHere), VirtAddr{});
  space->place_break(kHere + 0x123);
  EXPECT_EQ(space->set_break(VirtAddr{0}), kHere + 0x123);
  EXPECT_EQ(space->set_break(kHere + 0x5001), kHere + 0x5001);
  EXPECT(set_user_word(page_at(5), 9));
  EXPECT(!set_user_word(page_at(6), 9));
  EXPECT(!set_user_word(kHere, 9));  // the page that the program ends in is not the break's
  EXPECT_EQ(space->set_break(kHere + 0x4000), kHere + 0x4000);
  EXPECT(!get_user<u32>(page_at(5)).has_value());
  EXPECT_EQ(space->counters().anonymous, 0u);
  REQUIRE(map_anonymous(*space, 1, page_at(8)).has_value());
  EXPECT_EQ(space->set_break(kHere + 0x9000), kHere + 0x4000);
  EXPECT_EQ(space->set_break(user_end() + 1), kHere + 0x4000);
  EXPECT_EQ(space->set_break(VirtAddr{0xffffffff}), kHere + 0x4000);
}

KTEST(user_space, remap_moves_pages) {
  const InSpace space;
  REQUIRE(space);
  REQUIRE(map_anonymous(*space, 3, kHere).has_value());
  for (u32 i = 0; i < 3; ++i) REQUIRE(set_user_word(page_at(i), 100 + i));
  // In place, down and up.
  EXPECT_EQ(space->remap(kHere, 3 * kPageSize, 2 * kPageSize, UserSpace::Remap::InPlace).value_or(VirtAddr{}), kHere);
  EXPECT(!get_user<u32>(page_at(2)).has_value());
  EXPECT_EQ(space->remap(kHere, 2 * kPageSize, 4 * kPageSize, UserSpace::Remap::InPlace).value_or(VirtAddr{}), kHere);
  EXPECT_EQ(user_word(page_at(3)), 0u);
  // Away.
  REQUIRE(map_anonymous(*space, 1, page_at(4), UserAccess::Read).has_value());
  EXPECT_EQ(space->remap(kHere, 4 * kPageSize, 5 * kPageSize, UserSpace::Remap::InPlace).error(), Error::OutOfMemory);
  const Result<VirtAddr> moved = space->remap(kHere, 4 * kPageSize, 5 * kPageSize, UserSpace::Remap::MayMove);
  REQUIRE(moved.has_value());
  EXPECT(*moved != kHere);
  EXPECT_EQ(user_word(*moved), 100u);
  EXPECT_EQ(user_word(*moved + kPageSize), 101u);
  EXPECT(!get_user<u32>(kHere).has_value());
  EXPECT_EQ(space->counters().anonymous, 3u);
  // To a place of ours, over what is there.
  REQUIRE(map_anonymous(*space, 2, kHere + 16 * kMiB).has_value());
  EXPECT(set_user_word(kHere + 16 * kMiB, 1));
  const Result<VirtAddr> placed =
      space->remap(*moved, 2 * kPageSize, 2 * kPageSize, UserSpace::Remap::Fixed, kHere + 16 * kMiB);
  REQUIRE(placed.has_value());
  EXPECT_EQ(user_word(kHere + 16 * kMiB), 100u);
  EXPECT(!get_user<u32>(*moved).has_value());
  EXPECT_EQ(space->remap(kHere, kPageSize, kPageSize, UserSpace::Remap::MayMove).error(), Error::BadAddress);
}

KTEST(user_space, contents_of_another_space) {
  Result<UserSpace*> other = UserSpace::create();
  REQUIRE(other.has_value());
  constexpr u8 kText[] = "across the page";
  u8 back[sizeof kText]{};
  EXPECT(map_anonymous(**other, 2, kHere).has_value());
  const VirtAddr at = page_at(1) - 5;
  EXPECT((*other)->write(at, kText).has_value());
  EXPECT((*other)->read(back, at).has_value());
  EXPECT_EQ(std::string_view(pointer_to<const char>(address_of(back))), "across the page");
  EXPECT_EQ((*other)->write(page_at(2) - 3, kText).error(), Error::BadAddress);
  EXPECT_EQ((*other)->counters().anonymous, 2u);
  UserSpace::switch_to(*other);
  char text[32];
  EXPECT_EQ(copy_string_from_user(text, at).value_or(0), sizeof kText - 1);
  UserSpace::switch_to(nullptr);
  (*other)->put();
}

KTEST(user_space, fork_shares_until_a_write) {
  const InSpace parent;
  REQUIRE(parent);
  constexpr u32 kPages = 5;
  REQUIRE(map_anonymous(*parent, kPages, kHere).has_value());
  for (u32 i = 0; i < kPages - 1; ++i) REQUIRE(set_user_word(page_at(i), 100 + i));
  const u32 kmaps = table_kmaps();
  Result<UserSpace*> forked = UserSpace::fork();
  REQUIRE(forked.has_value());
  if (table_access() == TableAccess::Window) EXPECT_EQ(table_kmaps(), kmaps);
  UserSpace& child = **forked;
  EXPECT_EQ(child.counters().anonymous, kPages - 1);
  EXPECT(set_user_word(kHere, 1));  // copied
  EXPECT_EQ(parent->counters().copies, 1u);
  UserSpace::switch_to(&child);
  EXPECT_EQ(user_word(kHere), 100u);
  EXPECT(set_user_word(kHere, 2));  // the last owner keeps it
  EXPECT_EQ(child.counters().reused, 1u);
  EXPECT_EQ(child.counters().copies, 0u);
  EXPECT(set_user_word(page_at(1), 3));
  EXPECT_EQ(child.counters().copies, 1u);
  UserSpace::switch_to(&*parent);
  EXPECT_EQ(user_word(kHere), 1u);
  EXPECT_EQ(user_word(page_at(1)), 101u);
  EXPECT(set_user_word(page_at(1), 4));
  EXPECT_EQ(parent->counters().reused, 1u);
  child.put();
  EXPECT(set_user_word(page_at(2), 5));
  EXPECT_EQ(parent->counters().copies, 1u);
  EXPECT_EQ(parent->counters().reused, 2u);
}

KTEST(user_space, shared_memory_is_shared) {
  const InSpace parent;
  REQUIRE(parent);
  REQUIRE(map_anonymous(*parent, 3, kHere, kUserRw, MapFlag::Shared).has_value());
  REQUIRE(set_user_word(kHere, 11));
  Result<UserSpace*> child = UserSpace::fork();
  REQUIRE(child.has_value());
  EXPECT_EQ((*child)->counters().file, 0u);
  EXPECT(set_user_word(page_at(1), 12));
  UserSpace::switch_to(*child);
  EXPECT_EQ(user_word(kHere), 11u);
  EXPECT_EQ(user_word(page_at(1)), 12u);
  EXPECT(set_user_word(page_at(2), 13));
  EXPECT_EQ((*child)->counters().file, 3u);
  UserSpace::switch_to(&*parent);
  EXPECT_EQ(user_word(page_at(2)), 13u);
  (*child)->put();
  REQUIRE(parent->unmap(page_at(1), kPageSize).has_value());
  EXPECT_EQ(user_word(page_at(2)), 13u);
}

}  // namespace paean
