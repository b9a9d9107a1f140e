// Disks that fail, do not answer, or vanish. Each test needs something done to them from outside, by
// tests/boot/disks.py.
#include "disk_images.hpp"
#include "kernel/sync.hpp"
#include "kernel/thread.hpp"
#include "threads.hpp"

namespace paean {

namespace {

// The host lets these sectors of the scratch area fail, the last of them in the last group.
constexpr u32 kBadPeriod = 80, kBadToRead = 7, kBadToWrite = 47;

bool has_bad(Sector sector, u32 sectors, u32 which) {
  for (u32 i = 0; i < sectors; ++i) {
    if ((sector - kScratchStart + i) % kBadPeriod == which) return true;
  }
  return false;
}

/// Requests of one page each, side by side and all on their way at once, so that they are merged.
class Batch {
 public:
  static constexpr u32 kRequests = 16, kSectors = kPageSize / kSectorBytes;

  bool take() { return pages_.take(kRequests, AllocFlags::HighUser); }
  TestPages<kRequests>& pages() { return pages_; }
  Segment& page(u32 number) { return pages_[number]; }
  const Result<>& result(u32 number) const { return requests_[number].result; }

  void run(BlockDevice& disk, BlockOp op, Sector start) {
    for (u32 i = 0; i < kRequests; ++i) {
      Request& request = requests_[i];
      request.op = op;
      request.sector = start + u64{i} * kSectors;
      request.segments = {&pages_[i], 1};
      request.owner = this;
      request.done = note;
      submit(disk, request);
    }
    for (u32 i = 0; i < kRequests; ++i) done_.down();
  }

 private:
  struct Request : BlockRequest {
    Result<> result{};
  };
  static void note(BlockRequest& request, Result<> result) {
    static_cast<Request&>(request).result = result;
    static_cast<Batch*>(request.owner)->done_.up();
  }

  TestPages<kRequests> pages_;
  Request requests_[kRequests];
  Semaphore done_{0};
};

void check_batch(TestContext& test, BlockDevice& disk, Batch& batch, Sector start) {
  constexpr u32 kStep = Batch::kSectors;
  fill_sectors(batch.pages().segments(), start, kScratchSeed);
  batch.run(disk, BlockOp::Write, start);
  for (u32 i = 0; i < Batch::kRequests; ++i) {
    const bool bad = has_bad(start + u64{i} * kStep, kStep, kBadToWrite);
    EXPECT_EQ(batch.result(i).has_value(), !bad);
    if (bad && !batch.result(i)) EXPECT(batch.result(i).error() == Error::Io);
  }
  clear_segments(batch.pages().segments());
  batch.run(disk, BlockOp::Read, start);
  for (u32 i = 0; i < Batch::kRequests; ++i) {
    const Sector at = start + u64{i} * kStep;
    const bool bad = has_bad(at, kStep, kBadToRead);
    EXPECT_EQ(batch.result(i).has_value(), !bad);
    const Segment segments[] = {batch.page(i)};
    if (!bad && !has_bad(at, kStep, kBadToWrite)) EXPECT_EQ(wrong_in_sectors(segments, at, kScratchSeed), 0u);
  }
}

Result<> read_sectors(BlockDevice& disk, Sector sector, TestPages<32>& pages) {
  return submit_and_wait(disk, BlockOp::Read, sector, pages.segments());
}

/// Until one fails.
Result<> read_repeatedly(BlockDevice& disk, u32 times, u32 pause_ms, TestPages<32>& pages) {
  for (u32 i = 0; i < times; ++i) {
    TRY(read_sectors(disk, kHostStart + u64{256} * (i % 4), pages));
    if (pause_ms != 0) thread_sleep_ms(pause_ms);
  }
  return {};
}

bool is_readable_within(BlockDevice& disk, u32 tries, TestPages<32>& pages) {
  for (u32 i = 0; i < tries; ++i) {
    if (read_sectors(disk, kHostStart + 512, pages)) return true;
  }
  return false;
}

/// Reads from the second disk, all the time.
struct Neighbour {
  BlockDevice* disk;
  u32 done = 0, failed = 0, leaving = 0;

  static void read(void* self) {
    auto& me = *static_cast<Neighbour*>(self);
    TestPages<32> pages;
    if (!pages.take(32, AllocFlags::HighUser)) return;
    while (load(me.leaving) == 0) add(read_sectors(*me.disk, kHostStart, pages) ? me.done : me.failed, 1);
  }
};

void check_others(TestContext& test, const TestDisks& disks, TestPages<32>& pages) {
  for (BlockDevice* other : disks.all().subspan(1)) {
    EXPECT(read_sectors(*other, kHostStart, pages).has_value());
    EXPECT_EQ(wrong_in_sectors(pages.segments(), kHostStart, kHostSeed), 0u);
  }
}

}  // namespace

KTEST(disk_faults, a_bad_sector_fails_alone, .flags = TestFlag::ByName | TestFlag::Slow) {
  const TestDisks disks;
  REQUIRE(!disks.all().empty());
  for (BlockDevice* disk : disks.all()) {
    Batch batch;
    REQUIRE(batch.take());
    constexpr Sector kStepOfBatch = Sector{Batch::kRequests} * Batch::kSectors;
    for (Sector at = kScratchStart; at != kScratchStart + kScratchSectors; at += kStepOfBatch)
      check_batch(test, *disk, batch, at);
    EXPECT(block_statistics(*disk).errors != 0);
    EXPECT(block_statistics(*disk).timeouts == 0);
  }
}

// The first disk answers two pages a minute until the host has seen our note. The second, which may wait for the same
// channel, must not pay for it.
KTEST(disk_faults, one_that_does_not_answer, .flags = TestFlag::ByName | TestFlag::Slow) {
  const TestDisks disks;
  REQUIRE(disks.all().size() == 2);
  BlockDevice& disk = *disks.all()[0];
  TestPages<32> pages;
  REQUIRE(pages.take(32, AllocFlags::HighUser));
  Neighbour neighbour{disks.all()[1]};
  Crew<1> crew;
  REQUIRE(crew.add("neighbour", Neighbour::read, &neighbour));
  const u32 start = ticks_now();
  const Result<> result = read_repeatedly(disk, 4, 0, pages);
  const u32 seconds = (ticks_now() - start) / 100;
  store(neighbour.leaving, 1);
  crew.join();
  EXPECT(neighbour.done != 0);
  EXPECT_EQ(neighbour.failed, 0u);
  EXPECT_EQ(block_statistics(*neighbour.disk).timeouts, 0u);
  REQUIRE(!result);
  EXPECT(result.error() == Error::TimedOut);
  EXPECT(seconds >= 9 && seconds <= 40);
  EXPECT(block_statistics(disk).timeouts != 0);
  check_others(test, disks, pages);
  test.note("timed out after {} s, let it answer", seconds);
  EXPECT(is_readable_within(disk, 5, pages));
  EXPECT_EQ(wrong_in_sectors(pages.segments(), kHostStart + 512, kHostSeed), 0u);
}

// The host takes the first disk's medium away when it has seen our note.
KTEST(disk_faults, one_that_vanishes, .flags = TestFlag::ByName | TestFlag::Slow) {
  const TestDisks disks;
  REQUIRE(!disks.all().empty());
  BlockDevice& disk = *disks.all()[0];
  TestPages<32> pages;
  REQUIRE(pages.take(32, AllocFlags::HighUser));
  REQUIRE(read_sectors(disk, kHostStart, pages).has_value());
  test.note("take {} away", disk.name());
  const Result<> result = read_repeatedly(disk, 500, 10, pages);
  REQUIRE(!result);
  EXPECT(result.error() == Error::Io);
  EXPECT(submit_and_wait(disk, BlockOp::Write, kScratchStart, pages.segments()).error() == Error::Io);
  check_others(test, disks, pages);
}

}  // namespace paean
