// A hundred programs that share a gigabyte, as databases do: each has 512 page tables of its own for it.
//
// With page tables in lowmem that is 200 MiB of it, for memory that all of them share; a few times as many programs,
// and lowmem is full. Here it is 200 MiB of highmem, and lowmem pays for objects only.
#include <array>

#include "mm/ledger.hpp"
#include "mm/reclaim_rules.hpp"
#include "mm/shared_memory.hpp"
#include "user_space.hpp"

namespace paean {

namespace {

constexpr u32 kSharers = 100, kShared = 1u << 30, kTables = kShared / kLargePageSize;
constexpr VirtAddr kSharedAt{0x40000000};

class Sharers {
 public:
  ~Sharers() {
    for (u32 i = 0; i < count_; ++i) spaces_[i]->put();
    if (memory_) (*memory_)->put();
  }
  Sharers() = default;
  Sharers(const Sharers&) = delete;
  Sharers& operator=(const Sharers&) = delete;

  /// One more; it has written a byte to each 2 MiB.
  Result<> add() {
    if (!memory_) return std::unexpected(memory_.error());
    UserSpace* space = TRY(UserSpace::create());
    spaces_[count_++] = space;
    (void)TRY(space->map({.at = kSharedAt,
                          .bytes = kShared,
                          .access = kUserRw,
                          .flags = MapFlag::Fixed | MapFlag::Shared,
                          .file = *memory_}));
    const std::array byte{static_cast<u8>(count_)};
    for (u32 table = 0; table < kTables; ++table) TRY(space->write(kSharedAt + table * kLargePageSize, byte));
    return {};
  }
  u32 tables() const {
    u32 sum = 0;
    for (u32 i = 0; i < count_; ++i) sum += spaces_[i]->counters().tables;
    return sum;
  }
  /// What the last one wrote, as the first one sees it.
  bool is_shared() const {
    std::array<u8, 1> byte{};
    for (u32 table = 0; table < kTables; ++table) {
      if (!spaces_[0]->read(byte, kSharedAt + table * kLargePageSize) || byte[0] != count_) return false;
    }
    return true;
  }

 private:
  Result<MappedFile*> memory_ = make_shared_memory(kShared);
  UserSpace* spaces_[kSharers]{};
  u32 count_ = 0;
};

/// Pages by which LowFree falls when they all have touched everything.
u32 lowmem_of_sharers(TestContext& test) {
  Sharers sharers;
  EXPECT(sharers.add().has_value());  // the shared pages themselves, and what is made once
  drain_local_pages();
  const u32 before = low_totals().free.count();
  for (u32 i = 1; i < kSharers; ++i) {
    if (!sharers.add()) break;
  }
  const u32 after = low_totals().free.count();
  EXPECT_EQ(sharers.tables(), kSharers * kTables);
  EXPECT(sharers.is_shared());
  test.note("LowFree before {} kB, after {} kB; page tables {} kB", PageCount{before}.kib(), PageCount{after}.kib(),
            PageCount{sharers.tables()}.kib());
  return before > after ? before - after : 0;
}

}  // namespace

KTEST(reclaim, page_tables_of_a_hundred_sharers_leave_lowmem_alone, .flags = TestFlag::Slow | TestFlag::NeedsHighmem) {
  constexpr u32 kRoom = kSharers * (kTables + 8) + kTables * 16;
  if (high_totals().free.count() < kRoom + kRoom / 4) SKIP("not enough highmem for the page tables");
  EXPECT(lowmem_of_sharers(test) < 1024);
  if (low_totals().free.count() < kRoom + kRoom / 4) SKIP("not enough lowmem for the control");
  const FollowOldRule in_lowmem{OldRule::TablesInLowmem};
  EXPECT(lowmem_of_sharers(test) > (kSharers - 2) * kTables);
}

}  // namespace paean
