// Lowmem that is lent to programs and files, and comes back with what they wrote: E14, E15 and the third disaster.
#include "lending.hpp"

#include "arch/address_space.hpp"
#include "fake_store.hpp"
#include "kernel/thread.hpp"
#include "lib/bytes.hpp"

namespace paean {

namespace {

constexpr u32 kPages = 1024;
constexpr u32 kFew = 64;
constexpr u32 kMany = 2048;  // more than the kernel must leave free

Page* page_seen_at(VirtAddr va) {
  const arch::Walk walk = arch::walk_current(va);
  return walk.mapped ? pfn_to_page(to_pfn(walk.pte.address())) : nullptr;
}
u32 lent_pages_of(u32 pages) {
  u32 lent = 0;
  for (u32 i = 0; i < pages; ++i) {
    const Page* page = page_seen_at(lent_at(i));
    lent += page != nullptr && is_lent(page) ? 1 : 0;
  }
  return lent;
}

/// How many single pages of lowmem the kernel gets, up to a limit; held by `held`.
u32 take_for_kernel(TakenMemory& held, u32 most) {
  for (u32 taken = 0; taken < most; ++taken) {
    const Result<Page*> page = alloc_page(AllocFlags::Kernel | AllocFlags::NoWarn | AllocFlags::NoIo, Owner::Test);
    if (!page) return taken;
    held.hold(*page, Order{0});
  }
  return most;
}

}  // namespace

KTEST(lending, recall_moves_pages_and_their_contents, .flags = TestFlag::NeedsHighmem) {
  if (!can_lend(kPages)) SKIP("too little memory to lend");
  const InSpace space;
  TakenMemory taken;
  REQUIRE(space && taken.valid());
  taken.take_highmem();
  const u32 before = lent_to_programs().count();
  REQUIRE(fill_lent(*space, kPages));
  const u32 lent = lent_pages_of(kPages);
  EXPECT(lent > kPages / 2);
  EXPECT_EQ(lent_to_programs().count() - before, lent);
  EXPECT_EQ(recall_lent_pages(kPages), 0u);  // nowhere to go
  EXPECT_EQ(damaged_pages(kPages), 0u);
  taken.give_all();
  const u32 moved = lending_counters().moved;
  EXPECT_EQ(recall_lent_pages(100), 100u);
  EXPECT_EQ(lent_pages_of(kPages), lent - 100);
  EXPECT_EQ(recall_lent_pages(~0u >> 1), lent - 100);
  EXPECT_EQ(lending_counters().moved - moved, lent);
  EXPECT_EQ(lent_pages_of(kPages), 0u);
  EXPECT_EQ(lent_to_programs().count(), before);
  EXPECT_EQ(damaged_pages(kPages), 0u);
  EXPECT_EQ(space->counters().anonymous, kPages);
  for (u32 i = 0; i < kPages; ++i) REQUIRE(set_user_word(lent_at(i), i));
  EXPECT_EQ(space->counters().copies, 0u);  // each has one owner, as before
}

KTEST(lending, shared_pages_move_for_parent_and_child, .flags = TestFlag::NeedsHighmem) {
  if (!can_lend(kFew)) SKIP("too little memory to lend");
  const InSpace parent;
  TakenMemory taken;
  REQUIRE(parent && taken.valid());
  taken.take_highmem();
  REQUIRE(fill_lent(*parent, kFew));
  Result<UserSpace*> first = UserSpace::fork(), second = UserSpace::fork();
  REQUIRE(first.has_value() && second.has_value());
  const u32 lent = lent_pages_of(kFew);
  EXPECT(lent > 0);
  taken.give_all();
  EXPECT_EQ(recall_lent_pages(~0u >> 1), lent);
  EXPECT_EQ(lent_pages_of(kFew), 0u);
  Page* const shared = page_seen_at(lent_at(kFew - 1));
  EXPECT_EQ(shared->references(), 3u);
  for (UserSpace* space : {*first, *second}) {
    UserSpace::switch_to(space);
    EXPECT_EQ(damaged_pages(kFew), 0u);
    EXPECT_EQ(page_seen_at(lent_at(kFew - 1)), shared);
    EXPECT(set_user_word(lent_at(kFew - 1), 1));
    EXPECT(page_seen_at(lent_at(kFew - 1)) != shared);
  }
  UserSpace::switch_to(&*parent);
  EXPECT_EQ(damaged_pages(kFew), 0u);
  (*first)->put();
  (*second)->put();
}

// A page of which somebody has a reference that no entry explains may be written to by him.
KTEST(lending, page_in_use_stays, .flags = TestFlag::NeedsHighmem) {
  if (!can_lend(kFew)) SKIP("too little memory to lend");
  const InSpace space;
  TakenMemory taken;
  REQUIRE(space && taken.valid());
  taken.take_highmem();
  REQUIRE(fill_lent(*space, kFew));
  Page* const held = page_seen_at(lent_at(kFew - 1));
  REQUIRE(held != nullptr && is_lent(held));
  held->get();
  taken.give_all();
  const u32 stayed = lending_counters().stayed;
  (void)recall_lent_pages(~0u >> 1);
  EXPECT_EQ(page_seen_at(lent_at(kFew - 1)), held);
  EXPECT(lending_counters().stayed > stayed);
  EXPECT_EQ(lent_pages_of(kFew), 1u);
  const u32 word = 0x600d;
  copy_to_page(held, 64, {bytes_at(&word), sizeof word});
  put_page(held);
  EXPECT_EQ(recall_lent_pages(~0u >> 1), 1u);
  EXPECT_EQ(user_word(lent_at(kFew - 1) + 64), word);
  EXPECT_EQ(damaged_pages(kFew), 0u);
}

KTEST(lending, protected_and_moved_areas_keep_their_rights, .flags = TestFlag::NeedsHighmem) {
  if (!can_lend(kFew)) SKIP("too little memory to lend");
  const InSpace space;
  TakenMemory taken;
  REQUIRE(space && taken.valid());
  taken.take_highmem();
  REQUIRE(fill_lent(*space, kFew));
  REQUIRE(space->protect(lent_at(0), kPageSize, UserAccess::None).has_value());
  REQUIRE(space->protect(lent_at(1), kPageSize, UserAccess::Read).has_value());
  const VirtAddr away = kLentHere + 64 * kMiB;
  REQUIRE(space->remap(lent_at(kFew / 2), kFew / 2 * kPageSize, kFew / 2 * kPageSize, UserSpace::Remap::Fixed, away)
              .has_value());
  const u32 lent = lent_to_programs().count();
  taken.give_all();
  EXPECT_EQ(recall_lent_pages(~0u >> 1), lent);
  EXPECT(!get_user<u32>(lent_at(0)).has_value());
  EXPECT(!set_user_word(lent_at(1), 1));
  EXPECT_EQ(user_word(lent_at(1)), lent_word(1));
  EXPECT_EQ(user_word(away), lent_word(kFew / 2));
  EXPECT(set_user_word(away, 5));
  REQUIRE(space->protect(lent_at(0), kPageSize, kUserRw).has_value());
  EXPECT_EQ(user_word(lent_at(0)), lent_word(0));
}

KTEST(lending, cached_pages_move_unless_they_are_in_use, .flags = TestFlag::NeedsHighmem) {
  if (!can_lend(kFew)) SKIP("too little memory to lend");
  TakenMemory taken;
  const FileHolder file{kFew * kPageSize, u64{kFew} * kPageSize};
  REQUIRE(taken.valid());
  taken.take_highmem();
  fill(file->store.medium(), 0, 1);
  u8 bytes[64];
  for (u32 i = 0; i < kFew; ++i) REQUIRE(file->space.read(u64{i} * kPageSize, bytes, nullptr).has_value());
  const u32 lent = lent_to_files().count();
  EXPECT(lent >= kFew / 2);
  REQUIRE(file->space.write(kPageSize, std::span<const u8>{bytes_at("dirty"), 5}).has_value());
  taken.give_all();
  Page* held_page = nullptr;
  {
    const FolioRef held = file->space.find_page(kFew - 1);
    REQUIRE(held);
    held_page = held->page_at(kFew - 1);
    REQUIRE(is_lent(held_page));
    EXPECT_EQ(recall_lent_pages(~0u >> 1), lent - held->pages());
    EXPECT_EQ(held->page_at(kFew - 1), held_page);
  }
  EXPECT(recall_lent_pages(~0u >> 1) != 0);
  EXPECT_EQ(lent_to_files().count(), 0u);
  EXPECT(file->space.find_page(kFew - 1)->page_at(kFew - 1) != held_page);
  const u32 reads = file->store.reads;
  for (u32 i = 2; i < kFew; ++i) {
    EXPECT_EQ(*file->space.read(u64{i} * kPageSize, bytes, nullptr), sizeof bytes);
    EXPECT_EQ(differences(bytes, u64{i} * kPageSize, 1), 0u);
  }
  EXPECT_EQ(file->store.reads, reads);  // still cached
  EXPECT(file->space.sync().has_value());
  EXPECT_EQ(file->store.medium()[kPageSize], u8{'d'});
}

KTEST(lending, mapped_memory_of_files_comes_back_too, .flags = TestFlag::NeedsHighmem) {
  if (!can_lend(kFew)) SKIP("too little memory to lend");
  const InSpace parent;
  TakenMemory taken;
  REQUIRE(parent && taken.valid());
  taken.take_highmem();
  REQUIRE(map_anonymous(*parent, kFew, kLentHere, kUserRw, MapFlag::Shared).has_value());
  for (u32 i = 0; i < kFew; ++i) REQUIRE(set_user_word(lent_at(i), lent_word(i)));
  Result<UserSpace*> child = UserSpace::fork();
  REQUIRE(child.has_value());
  UserSpace::switch_to(*child);
  for (u32 i = 0; i < kFew; ++i) EXPECT_EQ(user_word(lent_at(i)), lent_word(i));
  const u32 lent = lent_pages_of(kFew);
  EXPECT(lent > 0);
  taken.give_all();
  EXPECT(recall_lent_pages(~0u >> 1) >= lent);
  EXPECT_EQ((*child)->counters().file, kFew - lent);  // their entries went
  EXPECT(set_user_word(lent_at(kFew - 1), 77));
  EXPECT_EQ((*child)->counters().file, kFew - lent + 1);
  UserSpace::switch_to(&*parent);
  EXPECT_EQ(user_word(lent_at(kFew - 1)), 77u);
  for (u32 i = 0; i + 1 < kFew; ++i) EXPECT_EQ(user_word(lent_at(i)), lent_word(i));
  EXPECT_EQ(lent_pages_of(kFew), 0u);
  (*child)->put();
}

// E14: lowmem is used up, highmem is nearly free, the kernel wants single pages.
KTEST(lending, kernel_gets_lent_pages_back, .flags = TestFlag::NeedsHighmem) {
  if (!can_lend(kPages)) SKIP("too little memory to lend");
  const InSpace space;
  TakenMemory high, low;
  REQUIRE(space && high.valid() && low.valid());
  high.take_highmem();
  low.take_lowmem_but(kPages);
  REQUIRE(fill_lent(*space, kPages - kFew));
  const u32 lent = lent_pages_of(kPages - kFew);
  EXPECT(lent > kPages / 2);
  high.give_all();
  {
    const UnderRule control{LendingRule::LendForGood};
    while (take_for_kernel(low, 64) == 64) {}  // until it gets none, with gigabytes free
    EXPECT_EQ(lent_pages_of(kPages - kFew), lent);
  }
  // What the shrink thread frees lies in its CPU's stack for a moment.
  u32 taken = 0;
  for (u32 tries = 0; taken < lent && tries < 20; ++tries) {
    taken += take_for_kernel(low, lent - taken);
    if (taken < lent) thread_sleep_ms(10);
  }
  EXPECT_EQ(taken, lent);
  EXPECT(lent_pages_of(kPages - kFew) < 64u);
  EXPECT_EQ(damaged_pages(kPages - kFew), 0u);
}

// E15: what programs and files may have of lowmem, and that it is nearly all of it.
KTEST(lending, borrowers_leave_the_reserve, .flags = TestFlag::NeedsHighmem) {
  const Zone& normal = zone(ZoneId::Normal);
  const u32 fence = normal.reserve[std::to_underlying(ZoneId::HighMem)].count();
  if (lent_words == 0) SKIP("nothing is lent");
  u32 idle[2]{};
  for (const LendingRule rule : {LendingRule::LendAndRecall, LendingRule::Fence}) {
    const UnderRule scope{rule};
    TakenMemory taken;
    REQUIRE(taken.valid());
    for (u32 order = kOrderCount; order-- != 0;) {
      while (Page* page = take_block_quietly(AllocFlags::HighUser | AllocFlags::Movable, Order{order}, Owner::Test))
        taken.hold(page, Order{order});
    }
    const u32 free = free_pages_in(ZoneId::Normal).count();
    idle[rule == LendingRule::Fence ? 1 : 0] = free;
    EXPECT(free >= (rule == LendingRule::Fence ? fence : normal.lend_reserve.count()));
    const Result<Page*> urgent = alloc_page(AllocFlags::Atomic | AllocFlags::NoWarn, Owner::Test);
    EXPECT(urgent.has_value());
    if (urgent) free_page(*urgent);
  }
  test.note("idle of {} pages: {} lent, {} behind a fence", normal.managed, idle[0], idle[1]);
  EXPECT(idle[0] <= normal.lend_reserve.count() + normal.high.count() + 256);
  if (fence > 2 * normal.lend_reserve.count()) EXPECT(idle[1] > idle[0]);
}

// The third disaster: half of lowmem is free, in single pages, and somebody needs eight of them in a row.
KTEST(lending, order_3_with_fragmented_lowmem, .flags = TestFlag::NeedsHighmem) {
  if (!can_lend(2 * kMany)) SKIP("too little memory to lend");
  const InSpace space;
  TakenMemory high, low;
  REQUIRE(space && high.valid() && low.valid());
  REQUIRE(lend_every_second(*space, high, low, kMany));
  high.give_all();
  const AllocFlags flags = AllocFlags::Kernel | AllocFlags::NoWarn | AllocFlags::NoIo;
  {
    const UnderRule control{LendingRule::LendForGood};
    low.take_blocks_of_lowmem(Order{1});
    EXPECT(free_pages_in(ZoneId::Normal).count() > kMany / 4);
    EXPECT(!alloc_pages(flags, Order{3}, Owner::Test).has_value());
  }
  const u32 compacted = lending_counters().compacted;
  for (const u32 order : {9, 7, 5, 3, 1}) {
    const Result<Page*> block = alloc_pages(flags, Order{order}, Owner::Test);
    if (!block) test.note("no block of order {}, {} pages lent", order, lent_to_programs());
    EXPECT(block.has_value());
    if (block) low.hold(*block, Order{order});
  }
  EXPECT(lending_counters().compacted >= compacted + 3);
  EXPECT_EQ(damaged_pages(kMany), 0u);
}

// Without room in highmem blocks are made within lowmem.
KTEST(lending, lowmem_is_compacted_in_itself, .flags = TestFlag::NeedsHighmem) {
  if (!can_lend(2 * kMany)) SKIP("too little memory to lend");
  const InSpace space;
  TakenMemory high, low;
  REQUIRE(space && high.valid() && low.valid());
  REQUIRE(lend_every_second(*space, high, low, kMany));
  low.take_blocks_of_lowmem(Order{1});
  const u32 lent = lent_pages_of(kMany);
  REQUIRE(compact_lowmem(Order{5}));
  u32 blocks = 0;
  for (u32 order = 5; order < kOrderCount; ++order) blocks += free_blocks_in(ZoneId::Normal)[order];
  EXPECT_EQ(blocks, 1u);
  EXPECT(lent_pages_of(kMany) >= lent - kFew);  // most of what moved is still in lowmem
  EXPECT_EQ(damaged_pages(kMany), 0u);
}

}  // namespace paean
