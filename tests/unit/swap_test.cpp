// Pages that go to the swap and come back: a store in memory takes the disk's place, and the clock is asked by hand.
#include "mm/swap.hpp"

#include <array>
#include <bit>

#include "kernel/fault.hpp"
#include "mm/user_swap.hpp"
#include "user_space.hpp"

namespace paean {

namespace {

constexpr u32 kSlots = 64;

/// Slots are pages; any of them can be told to fail.
class MemorySwap final : public SwapStore {
 public:
  MemorySwap() {
    for (Page*& page : pages_) page = take_page_quietly(AllocFlags::HighUser, Owner::Test);
    for (Page* page : pages_) ready_ = ready_ && page != nullptr;
    map_.init(words_, kSlots);
    ready_ = ready_ && add_swap(*this, map_).has_value();
  }
  ~MemorySwap() {
    if (ready_ && !removed_) (void)remove_swap(path());
    for (Page* page : pages_) {
      if (page != nullptr) free_page(page);
    }
  }
  MemorySwap(const MemorySwap&) = delete;
  MemorySwap& operator=(const MemorySwap&) = delete;

  Result<> read(u32 slot, std::span<Page* const> pages) override {
    ++reads_;
    pages_read_ += static_cast<u32>(pages.size());
    for (Page* page : pages) copy_highpage(page, pages_[slot++]);
    return {};
  }
  Result<> write(u32 slot, std::span<Page* const> pages) override {
    if (while_writing_ != nullptr) std::exchange(while_writing_, nullptr)();
    for (Page* page : pages) copy_highpage(pages_[slot++], page);
    return {};
  }
  std::string_view path() const override { return "/test/swap"; }
  std::string_view kind() const override { return "file"; }

  bool ready() const { return ready_; }
  u32 used() const { return map_.used(); }
  /// Requests so far, and pages that they brought.
  u32 reads() const { return reads_; }
  u32 pages_read() const { return pages_read_; }
  Result<> remove() {
    const Result<SwapStore*> removed = remove_swap(path());
    if (!removed) return std::unexpected(removed.error());
    removed_ = true;
    return {};
  }
  /// Once, in the clock's thread.
  void while_writing(void (*action)()) { while_writing_ = action; }

 private:
  bool ready_ = true, removed_ = false;
  u32 reads_ = 0, pages_read_ = 0;
  Page* pages_[kSlots];
  u32 words_[SwapMap::words_needed(kSlots)]{};
  SwapMap map_;
  void (*while_writing_)() = nullptr;
};

/// Two visits of everything: the first one takes the accessed bits.
u32 push_out(u32 pages) {
  const ReclaimRequest request{AllocFlags::HighUser, Order{0}};
  u32 before = swap_totals().free, gone = 0;
  for (u32 i = 0; i < 8 && gone < pages; ++i) {
    (void)wait_for_swap(request);
    gone = before - swap_totals().free;
  }
  return gone;
}

constexpr u32 kPages = 40;
constexpr VirtAddr kAt{0x10000000};

bool fill(u32 seed) {
  for (u32 i = 0; i < kPages; ++i) {
    if (!set_user_word(kAt + i * kPageSize, seed + i)) return false;
  }
  return true;
}
u32 wrong_words(u32 seed) {
  u32 wrong = 0;
  for (u32 i = 0; i < kPages; ++i) wrong += user_word(kAt + i * kPageSize) != seed + i;
  return wrong;
}

}  // namespace

KTEST(swap, pages_come_back_as_they_went) {
  MemorySwap swap;
  InSpace space;
  REQUIRE(swap.ready() && space);
  REQUIRE(map_anonymous(*space, kPages, kAt).has_value());
  REQUIRE(fill(1000));
  EXPECT_EQ(push_out(kPages), kPages);
  EXPECT_EQ(space->counters().swapped, kPages);
  EXPECT_EQ(space->counters().anonymous, 0);
  EXPECT_EQ(wrong_words(1000), 0);
  EXPECT_EQ(space->counters().anonymous, kPages);
  EXPECT_EQ(swap.used(), 0);
  REQUIRE(fill(5000));
  EXPECT_EQ(push_out(kPages), kPages);
  EXPECT_EQ(wrong_words(5000), 0);
}

KTEST(swap, who_reads_in_order_has_the_next_pages_read_with_his) {
  MemorySwap swap;
  InSpace space;
  REQUIRE(swap.ready() && space);
  REQUIRE(map_anonymous(*space, kPages, kAt).has_value());
  REQUIRE(fill(40));
  EXPECT_EQ(push_out(kPages), kPages);
  EXPECT_EQ(wrong_words(40), 0);
  test.note("{} pages in {} requests", swap.pages_read(), swap.reads());
  EXPECT_EQ(swap.pages_read(), kPages);
  EXPECT(swap.reads() <= 8);  // 1, 2, 4, 8, 16, and what lies in another run of slots
  REQUIRE(fill(80));
  EXPECT_EQ(push_out(kPages), kPages);
  const u32 reads = swap.reads(), pages = swap.pages_read();
  for (u32 i = kPages; i-- != 0;) EXPECT_EQ(user_word(kAt + i * kPageSize), 80 + i);  // backwards: each for itself
  EXPECT_EQ(swap.reads() - reads, kPages);
  EXPECT_EQ(swap.pages_read() - pages, kPages);
}

KTEST(swap, a_page_that_cannot_be_read_costs_its_neighbours_nothing) {
  MemorySwap swap;
  InSpace space;
  REQUIRE(swap.ready() && space);
  REQUIRE(map_anonymous(*space, kPages, kAt).has_value());
  REQUIRE(fill(60));
  EXPECT_EQ(push_out(kPages), kPages);
  EXPECT_EQ(user_word(kAt), 60);
  arm_fault(*find_fault_site("swap_read"), 1, FaultMode::Once);  // of two pages: the first one alone comes through
  EXPECT_EQ(user_word(kAt + kPageSize), 61);
  disarm_faults();
  EXPECT_EQ(swap.pages_read(), 2u);
  EXPECT_EQ(wrong_words(60), 0);
  EXPECT_EQ(swap.used(), 0);
}

KTEST(swap, slots_go_with_their_areas) {
  MemorySwap swap;
  InSpace space;
  REQUIRE(swap.ready() && space);
  REQUIRE(map_anonymous(*space, kPages, kAt).has_value());
  REQUIRE(fill(1));
  EXPECT_EQ(push_out(kPages), kPages);
  EXPECT(space->unmap(kAt, 10 * kPageSize).has_value());
  EXPECT_EQ(swap.used(), kPages - 10);
  const VirtAddr to = kAt + 64 * kMiB;
  EXPECT(space->remap(kAt + 10 * kPageSize, 4 * kPageSize, 4 * kPageSize, UserSpace::Remap::Fixed, to).has_value());
  EXPECT_EQ(user_word(to + kPageSize), 12);
  space->clear();
  EXPECT_EQ(swap.used(), 0);
  EXPECT_EQ(space->counters().swapped, 0);
}

KTEST(swap, access_is_what_the_area_says_when_the_page_comes_back) {
  MemorySwap swap;
  InSpace space;
  REQUIRE(swap.ready() && space);
  REQUIRE(map_anonymous(*space, kPages, kAt).has_value());
  REQUIRE(fill(7));
  EXPECT_EQ(push_out(kPages), kPages);
  REQUIRE(space->protect(kAt, kPages * kPageSize, UserAccess::None).has_value());
  EXPECT(!get_user<u32>(kAt).has_value());
  REQUIRE(space->protect(kAt, kPages * kPageSize, UserAccess::Read).has_value());
  EXPECT_EQ(user_word(kAt), 7);
  EXPECT(!set_user_word(kAt, 8));
  REQUIRE(space->protect(kAt, kPages * kPageSize, kUserRw).has_value());
  EXPECT(set_user_word(kAt, 8));
  EXPECT_EQ(user_word(kAt), 8);
}

KTEST(swap, a_child_has_the_slots_too) {
  MemorySwap swap;
  InSpace space;
  REQUIRE(swap.ready() && space);
  REQUIRE(map_anonymous(*space, kPages, kAt).has_value());
  REQUIRE(fill(300));
  EXPECT_EQ(push_out(kPages), kPages);
  const Result<UserSpace*> child = UserSpace::fork();
  REQUIRE(child.has_value());
  EXPECT_EQ((*child)->counters().swapped, kPages);
  EXPECT_EQ(swap.used(), kPages);
  EXPECT_EQ(wrong_words(300), 0);
  EXPECT_EQ(swap.used(), kPages);  // the child's
  REQUIRE(fill(900));
  std::array<u8, sizeof(u32)> word{};
  EXPECT((*child)->read(word, kAt + 5 * kPageSize).has_value());
  EXPECT_EQ(std::bit_cast<u32>(word), 305);
  EXPECT_EQ(swap.used(), kPages - 1);
  (*child)->put();
  EXPECT_EQ(swap.used(), 0);
  EXPECT_EQ(wrong_words(900), 0);
}

KTEST(swap, what_is_stored_while_a_page_is_written_is_not_lost) {
  MemorySwap swap;
  InSpace space;
  REQUIRE(swap.ready() && space);
  REQUIRE(map_anonymous(*space, kPages, kAt).has_value());
  REQUIRE(fill(1));
  static constinit UserSpace* written = nullptr;
  written = &*space;
  // From the clock's thread, as another thread of the program would.
  swap.while_writing([] {
    const auto word = std::bit_cast<std::array<u8, sizeof(u32)>>(u32{0xfeed});
    (void)written->write(kAt + 3 * kPageSize, word);
  });
  EXPECT(push_out(kPages) >= kPages - 1);
  EXPECT_EQ(user_word(kAt + 3 * kPageSize), 0xfeed);
  EXPECT_EQ(user_word(kAt + 4 * kPageSize), 5);
}

// In the suite that asks afterwards whether every site has failed.
KTEST(fault, errors_of_the_swap_cost_a_page_at_most) {
  MemorySwap swap;
  InSpace space;
  REQUIRE(swap.ready() && space);
  REQUIRE(map_anonymous(*space, kPages, kAt).has_value());
  REQUIRE(fill(50));
  for (const char* site : {"swap_write", "swap_slot"}) {
    arm_fault(*find_fault_site(site), 1, FaultMode::FromThenOn);
    EXPECT_EQ(push_out(kPages), 0);
    EXPECT_EQ(wrong_words(50), 0);
    EXPECT_EQ(swap.used(), 0);
    disarm_faults();
  }
  EXPECT_EQ(push_out(kPages), kPages);
  arm_fault(*find_fault_site("swap_read"), 1, FaultMode::Once);
  EXPECT(space->handle_fault(kAt, UserAccess::Read) == FaultResult::BusError);
  disarm_faults();
  EXPECT_EQ(wrong_words(50), 0);
}

KTEST(swap, an_area_is_emptied_before_it_leaves) {
  MemorySwap swap;
  InSpace space;
  REQUIRE(swap.ready() && space);
  REQUIRE(map_anonymous(*space, kPages, kAt).has_value());
  REQUIRE(fill(70));
  EXPECT_EQ(push_out(kPages), kPages);
  arm_fault(*find_fault_site("swap_read"), 2, FaultMode::FromThenOn);  // the first 16 come back
  EXPECT(swap.remove() == std::unexpected(Error::Io));
  disarm_faults();
  EXPECT(swap.used() != 0);
  EXPECT(swap.remove().has_value());
  EXPECT_EQ(swap.used(), 0);
  EXPECT_EQ(space->counters().swapped, 0);
  EXPECT_EQ(wrong_words(70), 0);
}

}  // namespace paean
