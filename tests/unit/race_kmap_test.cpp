// kmap on two CPUs at once: one page, more pages than slots, several at a time, and translations that must be gone.
// For runs of their own, with few slots: `pkmap=64` or 512, and `kmap=force`, so that a machine of any size will do.
#include "kernel/test/race.hpp"

#include "arch/traps.hpp"
#include "mm/kmap.hpp"
#include "race_window.hpp"

namespace paean {

namespace {

/// Pages whose first word says which frame they are.
class TaggedPages {
 public:
  TaggedPages() = default;

  [[nodiscard]] bool take(u32 count) {
    for (u32 i = 0; blocks_.valid() && i < count; ++i) {
      const Result<Page*> page = alloc_page(AllocFlags::HighUser | AllocFlags::Zero, Owner::Test);
      if (!page) break;
      blocks_.add(*page, Order{0});
      const KmapLocal map{*page};
      *map.as<u32>() = tag(*page);
    }
    return blocks_.valid() && blocks_.count() == count;
  }
  Page* operator[](u32 index) { return blocks_[index % blocks_.count()].page; }
  u32 count() const { return blocks_.count(); }
  static u32 tag(const Page* page) { return number(page_to_pfn(page)) ^ 0x5a5a0000; }

  /// Pages that somebody wrote another page's tag into.
  u32 spoiled() {
    u32 wrong = 0;
    for (u32 i = 0; i < count(); ++i) {
      const KmapLocal map{blocks_[i].page};
      for (u32 word = 0; word < 3; ++word) {
        const u32 value = map.as<u32>()[word];
        wrong += value != tag(blocks_[i].page) && (word == 0 || value != 0) ? 1 : 0;
      }
    }
    return wrong;
  }

 private:
  HeldBlocks blocks_;
};

/// Is it the page that was meant? Leaves its tag in `mine`, so that a write that went astray is found later too.
u32 check_page(volatile u32* words, const Page* page, u32 mine) {
  const u32 tag = TaggedPages::tag(page);
  const u32 wrong = words[0] != tag ? 1 : 0;
  words[mine] = tag;
  return wrong;
}

/// Where each of two CPUs has the same thing at this moment; 0: nowhere.
struct OnePlace {
  u32 at[2]{}, wrong[2]{};
  void enter(u32 me, u32 where) {
    __atomic_store_n(&at[me], where, __ATOMIC_SEQ_CST);
    const u32 other = __atomic_load_n(&at[1 - me], __ATOMIC_SEQ_CST);
    if (other != 0 && other != where) ++wrong[me];
  }
  void leave(u32 me) { __atomic_store_n(&at[me], 0, __ATOMIC_SEQ_CST); }
  u32 wrongs() const { return wrong[0] + wrong[1]; }
};

u32 live_maps() { return kmap_statistics().live; }

constexpr u32 kMaxSlots = 512;

/// Why kmap cannot race here; nullptr if it can.
const char* why_no_race() {
  if (kmap_statistics().slots > kMaxSlots) return "the pool has more than 512 slots: boot with pkmap=64 or 512";
  const Result<Page*> page = alloc_page(AllocFlags::HighUser, Owner::Test);
  if (!page) return "no memory";
  const bool needs_map = !has_address(*page);
  free_page(*page);
  return needs_map ? nullptr : "pages have addresses here: no highmem, and no kmap=force";
}

/// Both CPUs map the one page, and one of them ends cached maps now and then, so that its slot changes.
u32 race_for_one_page(TestContext& test, TaggedPages& pages, u32 first_cpu) {
  constexpr u32 kFlushEvery = 512;
  OnePlace place;
  Page* page = pages[0];
  const u32 before = live_maps();
  const auto use = [&](u32 me, u32 i) {
    if (me == 1 && i % kFlushEvery == 0) kmap_flush_unused();
    void* at = kmap(page);
    place.enter(me, number(address_of(at)));
    place.wrong[me] += check_page(static_cast<volatile u32*>(at), page, 1 + me);
    place.leave(me);
    if (i % 2 == 0)
      kunmap_address(at);
    else
      kunmap(page);
  };
  EXPECT(run_race(test.random(), first_cpu, race_iterations(), [&](u32 i) { use(0, i); }, [&](u32 i) { use(1, i); }));
  const u32 after = live_maps();
  return place.wrongs() + pages.spoiled() + (after > before ? after - before : before - after);
}

u32 race_for_two_slots(TestContext& test, Page* page, u32 first_cpu) {
  constexpr u32 kRecycleEvery = 4;
  CarelessKmap careless;
  EXPECT(careless.valid());
  OnePlace place;
  const auto use = [&](u32 me, u32 i) {
    if (me == 1 && i % kRecycleEvery == 0) careless.recycle();
    CarelessKmap::Slot* slot = careless.map(page);
    place.enter(me, number(CarelessKmap::address(slot)));
    place.wrong[me] += CarelessKmap::words(slot)[0] != TaggedPages::tag(page) ? 1 : 0;
    place.leave(me);
    CarelessKmap::unmap(slot);
  };
  EXPECT(run_race(test.random(), first_cpu, race_iterations(), [&](u32 i) { use(0, i); }, [&](u32 i) { use(1, i); }));
  return place.wrongs();
}

/// With a small pool, which makes far more flushes of the same maps, a million over both orders of the roles.
u32 wrap_iterations() { return kmap_statistics().slots < kMaxSlots ? race_iterations() / 2 : race_iterations(); }

/// Both CPUs walk over more pages than there are slots, in opposite directions: one that followed the other would find
/// what that has mapped. Nearly every map is a miss.
u32 race_over_the_pool(TestContext& test, TaggedPages& pages, u32 first_cpu, u32& total_wraps) {
  u32 wrong[2]{};
  const KmapStatistics before = kmap_statistics();
  const auto use = [&](u32 me, u32 i) {
    const u32 at = i % pages.count();
    Page* page = pages[me == 0 ? at : pages.count() - 1 - at];
    const Kmap map{page};
    wrong[me] += check_page(map.as<volatile u32>(), page, 1 + me);
  };
  EXPECT(run_race(test.random(), first_cpu, wrap_iterations(), [&](u32 i) { use(0, i); }, [&](u32 i) { use(1, i); }));
  const KmapStatistics after = kmap_statistics();
  const u32 wraps = static_cast<u32>((after.misses - before.misses) / after.slots);
  test.note("{} slots reused {} times over, {} flushes of others, {} of itself", after.slots, wraps,
            after.flushes - before.flushes, after.own_flushes - before.own_flushes);
  EXPECT(wraps >= wrap_iterations() / after.slots);  // every other map at least is a miss
  total_wraps += wraps;
  return wrong[0] + wrong[1] + pages.spoiled();
}

u32 race_over_hasty_pool(TestContext& test, TaggedPages& pages, u32 first_cpu) {
  HastyKmap hasty;
  EXPECT(hasty.valid());
  u32 wrong[2]{};
  const auto use = [&](u32 me, u32 i) {
    Page* page = pages[i + me * pages.count() / 2];
    HastyKmap::Slot* slot = hasty.map(page);
    wrong[me] += HastyKmap::words(slot)[0] != TaggedPages::tag(page) ? 1 : 0;
    HastyKmap::unmap(slot);
  };
  EXPECT(run_race(test.random(), first_cpu, wrap_iterations(), [&](u32 i) { use(0, i); }, [&](u32 i) { use(1, i); }));
  return wrong[0] + wrong[1];
}

constexpr u32 kSet = 4;

/// Three neighbours, the middle one twice; the next set begins with the middle of this one.
void choose_set(TaggedPages& pages, u32 i, Page* (&set)[kSet]) {
  for (u32 k = 0; k < kSet; ++k) set[k] = pages[i + (k == 3 ? 1 : k)];
}

u32 race_many_against_one(TestContext& test, TaggedPages& pages, u32 first_cpu) {
  u32 wrong[2]{};
  const u32 before = live_maps();
  const auto many = [&](u32 i) {
    Page* set[kSet];
    void* at[kSet];
    choose_set(pages, i, set);
    if (!kmap_many(set, at)) {
      ++wrong[0];
      return;
    }
    for (u32 k = 0; k < kSet; ++k) wrong[0] += check_page(static_cast<volatile u32*>(at[k]), set[k], 1);
    if (at[3] != at[1]) ++wrong[0];
    kunmap_many(set);
  };
  const auto one = [&](u32 i) {
    Page* page = pages[i + 1];
    const Kmap map{page};
    wrong[1] += check_page(map.as<volatile u32>(), page, 2);
  };
  EXPECT(run_race(test.random(), first_cpu, wrap_iterations(), many, one));
  return wrong[0] + wrong[1] + pages.spoiled() + (live_maps() != before ? 1 : 0);
}

u32 race_many_of_hasty_pool(TestContext& test, TaggedPages& pages, u32 first_cpu) {
  HastyKmap hasty;
  EXPECT(hasty.valid());
  u32 wrong[2]{};
  const auto use = [&](u32 me, Page* page) {
    HastyKmap::Slot* slot = hasty.map(page);
    wrong[me] += HastyKmap::words(slot)[0] != TaggedPages::tag(page) ? 1 : 0;
    HastyKmap::unmap(slot);
  };
  const auto many = [&](u32 i) {
    Page* set[kSet];
    choose_set(pages, i, set);
    for (Page* page : set) use(0, page);
  };
  EXPECT(run_race(test.random(), first_cpu, wrap_iterations(), many, [&](u32 i) { use(1, pages[i + 1]); }));
  return wrong[0] + wrong[1];
}

// What is in a frame while it is mapped at the window, and once nobody may reach it there.
constexpr u32 kOld = 0x01d01d01, kNew = 0x2e2e2e2e;
constexpr Order kFrames{5};
constexpr u32 kBatch = 1u << 5;  // pages that are unmapped together, with one interrupt
static_assert(kBatch <= arch::kTlbRangeLimit && kBatch <= kRaceWindowPages);

/// A CPU maps frames, unmaps them, and gives them new contents; the other reads the window all the time.
u32 race_against_reader(TestContext& test, RaceVariant variant, u32 first_cpu) {
  const Result<Page*> frames = alloc_pages(AllocFlags::Kernel, kFrames, Owner::Test);
  EXPECT(frames.has_value());
  if (!frames) return 0;
  auto* alias = pointer_to<volatile u32>(*page_address(*frames));
  constexpr u32 kWords = kPageSize / 4;
  u32 seen_old = 0, seen_new = 0;
  const auto writer = [&](u32 i) {
    const u32 at = i % kBatch;
    alias[at * kWords] = kOld;
    race_entry(at).set(race_leaf(page_to_pfn(*frames + at)));
    if (at != kBatch - 1) return;
    for (u32 page = 0; page < kBatch; ++page) race_entry(page).clear();
    if (variant == RaceVariant::Right) arch::tlb_shootdown(race_window(0), kBatch);
    for (u32 page = 0; page < kBatch; ++page) alias[page * kWords] = kNew;
  };
  const auto reader = [&](u32 i) {
    const Result<u32> value = arch::probe_read(race_window(i % kBatch));
    if (value && *value == kOld) ++seen_old;
    if (value && *value == kNew) ++seen_new;
  };
  // A seeded bug is looked for again by who finds none.
  const auto enough = [&] { return seen_old >= 100 || variant == RaceVariant::Seeded; };
  EXPECT(run_race_until(test, first_cpu, writer, reader, enough));
  close_race_window();
  free_pages(*frames, kFrames);
  if (variant == RaceVariant::Right) test.note("the reader saw mapped pages {} times", seen_old);
  return seen_new;
}

}  // namespace

KTEST(race, one_page_mapped_by_two_cpus, .flags = TestFlag::NeedsSmp | TestFlag::Slow) {
  if (const char* reason = why_no_race()) SKIP(reason);
  TaggedPages pages;
  REQUIRE(pages.take(1));
  race_verdict(test, [&](RaceVariant variant, u32 first_cpu) {
    return variant == RaceVariant::Right ? race_for_one_page(test, pages, first_cpu)
                                         : race_for_two_slots(test, pages[0], first_cpu);
  });
}

KTEST(race, slots_are_reused_under_two_cpus, .flags = TestFlag::NeedsSmp | TestFlag::Slow) {
  if (const char* reason = why_no_race()) SKIP(reason);
  TaggedPages pages;
  REQUIRE(pages.take(4 * kmap_statistics().slots));
  u32 wraps = 0;
  race_verdict(test, [&](RaceVariant variant, u32 first_cpu) {
    return variant == RaceVariant::Right ? race_over_the_pool(test, pages, first_cpu, wraps)
                                         : race_over_hasty_pool(test, pages, first_cpu);
  });
  if (kmap_statistics().slots == kMinPkmapSlots) EXPECT(wraps >= 10'000);
}

KTEST(race, several_maps_at_once_against_single_ones, .flags = TestFlag::NeedsSmp | TestFlag::Slow) {
  if (const char* reason = why_no_race()) SKIP(reason);
  TaggedPages pages;
  REQUIRE(pages.take(kmap_statistics().slots + kmap_statistics().slots / 4));
  race_verdict(test, [&](RaceVariant variant, u32 first_cpu) {
    return variant == RaceVariant::Right ? race_many_against_one(test, pages, first_cpu)
                                         : race_many_of_hasty_pool(test, pages, first_cpu);
  });
}

KTEST(race, an_unmapped_page_is_not_seen_by_the_other_cpu, .flags = TestFlag::NeedsSmp | TestFlag::Slow) {
  if (const char* reason = why_no_race()) SKIP(reason);
  race_verdict(test, [&](RaceVariant variant, u32 first_cpu) { return race_against_reader(test, variant, first_cpu); });
}

}  // namespace paean
