#include "kernel/block/queue.hpp"

#include "block.hpp"
#include "test_disk.hpp"
#include "threads.hpp"

namespace paean {

namespace {

/// A request that remembers its answer.
struct Asked : BlockRequest {
  Completion completion;
  Result<> result{};
  u32 answers = 0;

  void ask(BlockDevice& device, BlockOp operation, Sector at, std::span<const Segment> memory) {
    set(operation, at, memory);
    submit(device, *this);
  }
  void set(BlockOp operation, Sector at, std::span<const Segment> memory) {
    op = operation;
    sector = at;
    segments = memory;
    done = [](BlockRequest& request, Result<> answer) {
      auto& asked = static_cast<Asked&>(request);
      asked.result = answer;
      ++asked.answers;
      asked.completion.complete();
    };
  }
  Result<> wait() {
    completion.wait();
    return result;
  }
};

constexpr BlockLimits kOneAtATime{.max_segments = 16, .queue_depth = 1};

/// Pages 0 to 15, one request each, with the disk held up by a first one.
struct Sixteen {
  TestPages<17> pages;
  Asked asked[17];

  bool begin(TestDisk& disk) {
    disk.hold();
    if (!disk.connect() || !pages.take(17, AllocFlags::HighUser)) return false;
    fill_pattern(pages.segments(), 1);
    ask(disk, BlockOp::Write, 16, 0);
    return true;
  }
  void ask(TestDisk& disk, BlockOp op, u32 index, Sector sector) {
    asked[index].ask(disk, op, sector, pages.segments().subspan(index, 1));
  }
  u32 errors() {
    u32 found = 0;
    for (Asked& one : asked) found += one.op == BlockOp::Write && one.done != nullptr && !one.wait() ? 1 : 0;
    return found;
  }
};

/// A list of reads of one page each, so many sectors from each other.
void list_reads(BlockRequests& list, std::span<Asked> asked, std::span<const Segment> pages, u32 step) {
  for (u32 i = 0; i < pages.size(); ++i) {
    asked[i].set(BlockOp::Read, 100 + step * i, pages.subspan(i, 1));
    list.push_back(asked[i]);
  }
}

KTEST(block_queue, neighbours_become_one_command) {
  TestDisk disk{kOneAtATime};
  Sixteen sixteen;
  REQUIRE(sixteen.begin(disk));
  for (u32 i = 16; i-- != 0;) sixteen.ask(disk, BlockOp::Write, i, 100 + 8 * i);
  disk.let_go();
  EXPECT_EQ(sixteen.errors(), 0u);
  EXPECT_EQ(disk.commands, 2u);
  EXPECT_EQ(disk.most_sectors, 128u);
  EXPECT_EQ(disk.violations, 0u);
  EXPECT_EQ(block_statistics(disk).merged, 15u);
}

KTEST(block_queue, several_at_once_become_one_command) {
  TestDisk disk{{.max_segments = 16, .queue_depth = 4}};
  TestPages<16> pages;
  REQUIRE(disk.connect());
  REQUIRE(pages.take(16, AllocFlags::HighUser));
  Asked asked[17];
  BlockRequests list;
  list_reads(list, asked, pages.segments(), 8);
  asked[16].set(BlockOp::Read, disk.sectors(), pages.segments().first(1));
  list.push_back(asked[16]);
  submit(disk, list);
  EXPECT(list.empty());
  for (u32 i = 0; i < 16; ++i) EXPECT(asked[i].wait());
  EXPECT_EQ(asked[16].wait(), Result<>{std::unexpected(Error::InvalidArgument)});
  EXPECT_EQ(disk.commands, 1u);
  EXPECT_EQ(disk.most_sectors, 128u);
}

KTEST(block_queue, commands_that_start_together_are_told_once) {
  TestDisk disk{{.max_segments = 16, .queue_depth = 4}};
  TestPages<4> pages;
  REQUIRE(disk.connect());
  REQUIRE(pages.take(4, AllocFlags::HighUser));
  Asked asked[4];
  BlockRequests list;
  list_reads(list, asked, pages.segments(), 100);
  const u32 before = disk.ends_of_starts;
  submit(disk, list);
  for (Asked& one : asked) EXPECT(one.wait());
  EXPECT_EQ(disk.commands, 4u);
  EXPECT_EQ(disk.ends_of_starts - before, 1u);
}

KTEST(block_queue, goes_one_way_and_turns_at_the_end) {
  TestDisk disk{kOneAtATime};
  Sixteen sixteen;
  REQUIRE(sixteen.begin(disk));
  const u32 sectors[] = {900, 100, 500, 300};
  for (u32 i = 0; i < 4; ++i) sixteen.ask(disk, BlockOp::Write, i, sectors[i]);
  disk.let_go();
  EXPECT_EQ(sixteen.errors(), 0u);
  REQUIRE_EQ(disk.commands, 5u);
  const Sector expected[] = {0, 100, 300, 500, 900};
  for (u32 i = 0; i < 5; ++i) EXPECT_EQ(disk.order[i], expected[i]);
}

KTEST(block_queue, nothing_passes_a_flush) {
  TestDisk disk{kOneAtATime};
  Sixteen sixteen;
  REQUIRE(sixteen.begin(disk));
  Asked flush;
  sixteen.ask(disk, BlockOp::Write, 0, 500);
  flush.ask(disk, BlockOp::Flush, 0, {});
  sixteen.ask(disk, BlockOp::Write, 1, 100);
  sixteen.ask(disk, BlockOp::Write, 2, 508);
  disk.let_go();
  EXPECT_EQ(sixteen.errors(), 0u);
  EXPECT(flush.wait().has_value());
  REQUIRE_EQ(disk.commands, 5u);
  EXPECT_EQ(disk.order[1], 500u);
  EXPECT_EQ(disk.order[3], 508u);
  EXPECT_EQ(disk.flushes, 1u);
}

KTEST(block_queue, bad_sector_fails_its_request_alone) {
  TestDisk disk{kOneAtATime};
  disk.bad_first = disk.bad_last = 100 + 8 * 5 + 3;
  Sixteen sixteen;
  REQUIRE(sixteen.begin(disk));
  for (u32 i = 0; i < 16; ++i) sixteen.ask(disk, BlockOp::Write, i, 100 + 8 * i);
  disk.let_go();
  EXPECT_EQ(sixteen.errors(), 1u);
  EXPECT(sixteen.asked[5].result.error() == Error::Io);
  EXPECT_EQ(disk.commands, 2u + 16u);  // all together, then one by one, and no more
  EXPECT_EQ(block_statistics(disk).errors, 2u);
  TestPages<1> read;
  REQUIRE(read.take(1, AllocFlags::HighUser));
  EXPECT(submit_and_wait(disk, BlockOp::Read, 100 + 8 * 6, read.segments()).has_value());
}

KTEST(block_queue, silence_is_a_time_out) {
  BlockLimits limits = kOneAtATime;
  limits.timeout_ms = 50;
  TestDisk disk{limits};
  disk.mute = 1;
  REQUIRE(disk.connect());
  TestPages<1> pages;
  REQUIRE(pages.take(1, AllocFlags::HighUser));
  Asked first, second;
  first.ask(disk, BlockOp::Read, 0, pages.segments());
  second.ask(disk, BlockOp::Flush, 0, {});
  EXPECT(first.wait().error() == Error::TimedOut);
  EXPECT(second.wait().has_value());
  EXPECT_EQ(disk.aborts, 1u);
  EXPECT_EQ(first.answers, 1u);
  EXPECT_EQ(block_statistics(disk).timeouts, 1u);
}

KTEST(block_queue, a_flush_may_take_three_times_as_long) {
  BlockLimits limits = kOneAtATime;
  limits.timeout_ms = 200;
  TestDisk disk{limits};
  disk.mute = 1;
  REQUIRE(disk.connect());
  const u32 start = ticks_now();
  EXPECT(submit_and_wait(disk, BlockOp::Flush, 0, {}).error() == Error::TimedOut);
  EXPECT(ticks_now() - start >= 60);
}

// A driver that gives it to its hardware late, for whatever reason.
KTEST(block_queue, what_waits_in_the_driver_is_not_late) {
  BlockLimits limits = kOneAtATime;
  limits.timeout_ms = 100;
  TestDisk disk{limits};
  disk.clock = TestDisk::Clock::FromThread;
  disk.hold();
  REQUIRE(disk.connect());
  TestPages<1> pages;
  REQUIRE(pages.take(1, AllocFlags::HighUser));
  Asked asked;
  asked.ask(disk, BlockOp::Read, 0, pages.segments());
  EXPECT(!asked.completion.wait_for_ms(500));
  disk.let_go();
  EXPECT(asked.wait().has_value());
  disk.mute = 1;  // but its time runs when the hardware has it
  EXPECT(submit_and_wait(disk, BlockOp::Read, 0, pages.segments()).error() == Error::TimedOut);
  EXPECT_EQ(disk.aborts, 1u);
}

KTEST(block_queue, late_answer_counts) {
  BlockLimits limits = kOneAtATime;
  limits.timeout_ms = 50;
  TestDisk disk{limits};
  disk.mute = 1;
  disk.on_abort = TestDisk::Abort::AnswersFirst;
  REQUIRE(disk.connect());
  TestPages<1> pages;
  REQUIRE(pages.take(1, AllocFlags::HighUser));
  EXPECT(submit_and_wait(disk, BlockOp::Write, 0, pages.segments()).has_value());
  EXPECT_EQ(disk.aborts, 1u);
}

KTEST(block_queue, long_requests_are_done_in_parts) {
  TestDisk disk{{.max_segments = 3, .max_segment_bytes = 2048, .max_sectors = 9, .boundary = 1024, .queue_depth = 4}};
  REQUIRE(disk.connect());
  TestPages<32> pages;
  REQUIRE(pages.take(32, AllocFlags::HighUser));
  fill_pattern(pages.segments(), 9);
  EXPECT(submit_and_wait(disk, BlockOp::Write, 17, pages.segments()).has_value());
  clear_segments(pages.segments());
  EXPECT(submit_and_wait(disk, BlockOp::Read, 17, pages.segments()).has_value());
  EXPECT_EQ(wrong_words(pages.segments(), 9), 0u);
  EXPECT_EQ(disk.violations, 0u);
  EXPECT(disk.commands >= 2 * 256 / 9);
}

KTEST(block_queue, old_requests_are_not_starved) {
  TestDisk disk{{.max_segments = 1, .max_sectors = 8, .queue_depth = 1}};
  Sixteen sixteen;
  REQUIRE(sixteen.begin(disk));
  sixteen.ask(disk, BlockOp::Write, 15, 0);  // behind the elevator
  thread_sleep_ms(10 * RequestOrder::kPatienceTicks + 20);
  for (u32 i = 0; i < 8; ++i) sixteen.ask(disk, BlockOp::Write, i, 500 + 16 * i);
  disk.let_go();
  EXPECT_EQ(sixteen.errors(), 0u);
  EXPECT_EQ(disk.order[1], 0u);
}

KTEST(block_queue, device_that_goes_fails_what_waits) {
  TestPages<1> pages;
  REQUIRE(pages.take(1, AllocFlags::HighUser));
  Asked asked[3];
  {
    TestDisk disk{kOneAtATime};
    disk.hold();
    REQUIRE(disk.connect());
    for (u32 i = 0; i < 3; ++i) asked[i].ask(disk, BlockOp::Read, Sector{100} * i, pages.segments());
    Crew<1> crew;
    REQUIRE(crew.add(
        "letgo",
        [](void* held) {
          thread_sleep_ms(30);
          static_cast<TestDisk*>(held)->let_go();
        },
        &disk));
    EXPECT(unregister_block_device(disk).has_value());
    disk.disconnected();
  }
  EXPECT(asked[0].wait().has_value());
  EXPECT(asked[1].wait().error() == Error::Io);
  EXPECT(asked[2].wait().error() == Error::Io);
}

KTEST(block_queue, silent_device_can_go) {
  BlockLimits limits = kOneAtATime;
  limits.timeout_ms = 300;
  TestDisk disk{limits};
  disk.mute = 1;
  REQUIRE(disk.connect());
  TestPages<1> pages;
  REQUIRE(pages.take(1, AllocFlags::HighUser));
  Asked asked;
  asked.ask(disk, BlockOp::Read, 0, pages.segments());
  EXPECT(unregister_block_device(disk).has_value());
  disk.disconnected();
  EXPECT(asked.wait().error() == Error::TimedOut);
}

KTEST(block_queue, limits_without_sense_are_refused) {
  const BlockLimits wrong[] = {{.max_segments = 0},   {.max_segment_bytes = 100}, {.max_sectors = 0},
                               {.boundary = 3 * 512}, {.queue_depth = 0},         {.highest = PhysAddr{0x12345}},
                               {.timeout_ms = 0}};
  for (const BlockLimits& limits : wrong) {
    TestDisk disk{limits};
    EXPECT(!disk.connect());
  }
}

}  // namespace

}  // namespace paean
