// The windows that show page tables: what they show is what the CPU walks.
#include "access.hpp"
#include "arch/address_space.hpp"
#include "arch/cpu.hpp"
#include "arch/layout.hpp"
#include "arch/traps.hpp"
#include "arch/user_tlb.hpp"
#include "kernel/thread.hpp"
#include "mm/highmem.hpp"
#include "mm/kmap_block.hpp"
#include "threads.hpp"
#include "user_space.hpp"

namespace paean {

namespace {

constexpr VirtAddr kHere{0x10000000};
constexpr VirtAddr kLocalMaps = arch::fixmap_address(arch::kFixKmapFirst);
constexpr VirtAddr kLocalMapsEnd = arch::fixmap_address(arch::kFixDeviceFirst);

u32 window_of(VirtAddr va) { return number(arch::kUkvaStart) + (number(va) >> kPageShift) * 8; }

/// The entry that the window shows for an address; nullopt if the window has nothing there.
std::optional<u64> seen_in_window(VirtAddr va) {
  const VirtAddr at{window_of(va)};
  const Result<u32> low = arch::probe_read(at), high = arch::probe_read(at + 4);
  if (!low || !high) return std::nullopt;
  return u64{*high} << 32 | *low;
}

constexpr u64 kIgnored = arch::pte_bits::kAccessed | arch::pte_bits::kDirty;

/// With `pages` pages far from each other, so that tables and holes alternate.
bool map_sparsely(UserSpace& space, u32 pages, u32 distance) {
  for (u32 i = 0; i < pages; ++i) {
    const VirtAddr at = kLowestUser + i * distance;
    if (!map_anonymous(space, 1, at) || !set_user_word(at, i + 1)) return false;
  }
  return true;
}

}  // namespace

// E18.
KTEST(ukva, window_agrees_with_the_walker) {
  if (table_access() != TableAccess::Window) SKIP("no window");
  const InSpace space;
  REQUIRE(space);
  REQUIRE(map_sparsely(*space, 64, 15 * kMiB + kPageSize));
  u32 present = 0;
  for (u32 i = 0; i < 100'000; ++i) {
    VirtAddr va{test.random() & ~(kPageSize - 1)};
    if (i == 0) va = VirtAddr{0};
    if (i == 1) va = VirtAddr{0xfffff000};
    if (i % 4 == 2) va = kLowestUser + test.random_below(64) * (15 * kMiB + kPageSize);
    if (va >= kLocalMaps && va < kLocalMapsEnd) continue;  // the walker has maps of its own while it walks
    const arch::Walk walk = arch::walk_current(va);
    if (walk.large) continue;  // what the window shows there is no table
    const auto seen = seen_in_window(va);
    REQUIRE_EQ(seen.has_value(), walk.pde.present());
    if (!seen) continue;
    REQUIRE_EQ(*seen & ~kIgnored, bits(walk.pte) & ~kIgnored);
    // Twice gives what controls the window's page: the directory entry.
    const auto twice = seen_in_window(VirtAddr{window_of(va)});
    REQUIRE(twice.has_value());
    REQUIRE_EQ(*twice & ~kIgnored, bits(walk.pde) & ~kIgnored);
    present += walk.pte.present() ? 1 : 0;
  }
  EXPECT(present > 5000);
}

// A0 kmaps for each fault of the running space, tables made and freed included.
KTEST(ukva, no_kmap_for_a_fault) {
  if (table_access() != TableAccess::Window) SKIP("no window");
  const InSpace space;
  REQUIRE(space);
  const u32 before = table_kmaps();
  REQUIRE(map_sparsely(*space, 100, 3 * kMiB));
  REQUIRE(space->protect(kLowestUser, kPageSize, UserAccess::Read).has_value());
  REQUIRE(space->unmap(kLowestUser, 200 * kMiB).has_value());
  EXPECT_EQ(table_kmaps(), before);
  space->clear();
  EXPECT_EQ(table_kmaps(), before);
  EXPECT_EQ(space->counters().tables, 0u);
}

KTEST(ukva, kernel_cannot_be_reached_by_programs) {
  const InSpace space;
  REQUIRE(space);
  REQUIRE(map_sparsely(*space, 2, kMiB));
  // Of the windows' own entries, and of everything above them, none has the user bit.
  for (u32 va = number(user_end()); va != 0; va += kLargePageSize) {
    const arch::Walk walk = arch::walk_current(VirtAddr{va});
    if (walk.pde.present()) REQUIRE(!walk.pde.has(arch::pte_bits::kUser));
  }
  if (arch::cpu_features().nx) {
    const arch::Walk window = arch::walk_current(VirtAddr{window_of(kLowestUser)});
    EXPECT(window.mapped && window.pde.has(arch::pte_bits::kNoExecute));
    EXPECT(!window.pte.has(arch::pte_bits::kGlobal));
  }
}

// E19.
KTEST(ukva, others_are_reached_by_kmap) {
  const InSpace space;
  REQUIRE(space);
  Result<UserSpace*> other = UserSpace::create();
  REQUIRE(other.has_value());
  constexpr u8 kByte[] = {42};
  EXPECT(map_anonymous(**other, 1, kHere).has_value());
  EXPECT(map_anonymous(*space, 1, kHere).has_value());
  EXPECT(set_user_word(kHere, 7));
  const u32 before = table_kmaps();
  EXPECT((*other)->write(kHere, kByte).has_value());
  EXPECT(table_kmaps() > before);
  EXPECT_EQ(user_word(kHere), 7u);
  (*other)->put();
}

namespace {

struct Borrower {
  u32 cr3_seen = 0;
  u32 had_space = 1;
  static void run(void* argument) {
    auto& me = *static_cast<Borrower*>(argument);
    me.had_space = UserSpace::current() != nullptr ? 1 : 0;
    me.cr3_seen = arch::read_cr3();
  }
};

}  // namespace

KTEST(ukva, kernel_threads_borrow) {
  const InSpace space;
  REQUIRE(space);
  REQUIRE(map_anonymous(*space, 1, kHere).has_value());
  REQUIRE(set_user_word(kHere, 77));
  const u32 mine = arch::read_cr3();
  const arch::UserTlbEvents before = arch::user_tlb_events();
  for (u32 i = 0; i < 8; ++i) {
    Borrower borrower;
    Crew<1> crew;
    REQUIRE(crew.add("borrows", Borrower::run, &borrower, here()));
    crew.join();
    EXPECT_EQ(borrower.had_space, 0u);
    EXPECT_EQ(borrower.cr3_seen, mine);  // nothing was loaded for it
    EXPECT_EQ(user_word(kHere), 77u);
  }
  const arch::UserTlbEvents after = arch::user_tlb_events();
  EXPECT(after.lazy_returns - before.lazy_returns >= 8);
}

KTEST(ukva, block_windows_are_seen_in_every_space, .flags = TestFlag::NeedsHighmem) {
  const InSpace space;
  REQUIRE(space);
  const Result<Page*> block = alloc_pages(AllocFlags::HighUser, kBlockOrder, Owner::Test);
  REQUIRE(block.has_value());
  {
    const KmapBlock map{*block};
    map.as<u32>()[5] = 0x5555;
    const KmapLocal page{*block};
    EXPECT_EQ(page.as<u32>()[5], 0x5555u);
    const Result<UserSpace*> young = UserSpace::create();  // made while the window is shown
    EXPECT(young.has_value());
    if (young) {
      UserSpace::switch_to(*young);
      EXPECT_EQ(map.as<u32>()[5], 0x5555u);
      UserSpace::switch_to(&*space);
      (*young)->put();
    }
  }
  free_pages(*block, kBlockOrder);
}

// E17: everything that a space takes of lowmem, its own objects included.
KTEST(ukva, many_spaces_cost_little_lowmem, .flags = TestFlag::NeedsHighmem) {
#ifdef PAEAN_DEBUG
  constexpr u32 kMost = 500;
#else
  constexpr u32 kMost = 2000;
#endif
  constexpr u32 kPages = 32, kLimitBytes = kKiB;
  static constinit UserSpace* spaces[kMost];
  // A page and its table for each touch, and the directories; a quarter of memory stays.
  const u32 room = high_totals().free.count() / 4 * 3 / (2 * kPages + 4), wanted = room < kMost ? room : kMost;
  const u32 before = low_totals().free.count();
  u32 made = 0;
  for (; made < wanted; ++made) {
    Result<UserSpace*> space = UserSpace::create();
    if (!space) break;
    spaces[made] = *space;
    UserSpace::switch_to(*space);
    if (!map_anonymous(**space, 1024 * 256, kHere)) break;
    bool touched = true;
    for (u32 i = 0; i < kPages; ++i) touched = touched && set_user_word(kHere + i * (kGiB / kPages), i);
    if (!touched) break;
  }
  UserSpace::switch_to(nullptr);
  EXPECT_EQ(made, wanted);
  if (made != 0) EXPECT_EQ(spaces[0]->counters().tables, kPages);
  const u32 after = low_totals().free.count();
  const u32 bytes = made == 0 || after >= before ? 0 : (before - after) * kPageSize / made;
  test.note("{} bytes of lowmem for each of {} spaces", bytes, made);
  EXPECT(bytes <= kLimitBytes);
  for (u32 i = 0; i < made; ++i) spaces[i]->put();
}

}  // namespace paean
