// Memory that runs out at every place where a user space asks for it: E21.
#include "kernel/test/fail_nth.hpp"
#include "user_space.hpp"

namespace paean {

namespace {

constexpr VirtAddr kHere{0x10000000};

Result<> use_child() {
  UserSpace* child = TRY(UserSpace::fork());
  UserSpace* parent = UserSpace::current();
  UserSpace::switch_to(child);
  const Result<> stored = put_user(kHere, 2u);
  UserSpace::switch_to(parent);
  child->put();
  return stored;
}

/// A life: areas, faults, a child, a move, an end.
Result<> live() {
  const InSpace space;
  if (!space) return std::unexpected(Error::OutOfMemory);
  TRY(map_anonymous(*space, 4, kHere));
  TRY(map_anonymous(*space, 2, kHere + 8 * kMiB, kUserRw, MapFlag::Shared));
  TRY(put_user(kHere, 1u));
  TRY(put_user(kHere + 8 * kMiB, 1u));
  TRY(use_child());
  TRY(put_user(kHere, 3u));
  TRY(space->protect(kHere + kPageSize, kPageSize, UserAccess::Read));
  TRY(space->remap(kHere, kPageSize, 2 * kPageSize, UserSpace::Remap::Fixed, kHere + 16 * kMiB));
  if (get_user<u32>(kHere + 16 * kMiB) != 3u) return std::unexpected(Error::Corrupt);
  TRY(space->unmap(kHere + kPageSize, kPageSize));
  space->place_break(kHere + 32 * kMiB);
  if (space->set_break(kHere + 33 * kMiB) != kHere + 33 * kMiB) return std::unexpected(Error::OutOfMemory);
  return {};
}

}  // namespace

// In the suite that asks afterwards whether every site has failed.
KTEST(fault, every_allocation_of_a_user_space) {
  const u32 met = fail_nth(test, "life of a user space", live);
  test.note("{} failures met", met);
  EXPECT(met > 40);
}

// E21: nothing is left behind, however often.
KTEST(user_failure, two_thousand_lives, .flags = TestFlag::Slow) {
  const LedgerMark before;
  for (u32 i = 0; i < 2000; ++i) REQUIRE(live().has_value());
  settle_memory();
  EXPECT(before == LedgerMark{});
}

}  // namespace paean
