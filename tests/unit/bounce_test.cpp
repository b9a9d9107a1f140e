#include "kernel/block/bounce.hpp"

#include "block.hpp"
#include "kernel/block/device.hpp"
#include "mm/vmalloc.hpp"
#include "test_disk.hpp"
#include "threads.hpp"

namespace paean {

namespace {

constexpr PhysAddr k24Bits{16 * kMiB - 1}, k28Bits{256 * kMiB - 1}, k32Bits{4 * kGiB - 1};

BlockLimits reaching(PhysAddr highest) {
  return {.highest = highest, .max_segments = 16, .boundary = 64 * 1024, .queue_depth = 2};
}

bool reaches_everything(PhysAddr highest) { return to_phys(frame_limit()) <= highest + 1; }

bool pools_are_full() {
  for (const BounceKind kind : {BounceKind::Dma, BounceKind::Dma32}) {
    const BounceStatistics pool = bounce_pool(kind).statistics();
    if (pool.free != pool.sectors || pool.waiting != 0) return false;
  }
  return true;
}

u64 bytes_above(std::span<const Segment> segments, PhysAddr highest) {
  u64 bytes = 0;
  for (const Segment& segment : segments) bytes += to_phys(page_to_pfn(segment.page)) > highest ? segment.bytes : 0;
  return bytes;
}

/// `count` segments: pages from high and low memory, parts of them, in any order.
template <u32 kCapacity>
bool take_mixed(TestContext& test, TestPages<kCapacity>& pages, u32 count) {
  for (u32 i = 0; i < count; ++i) {
    const AllocFlags flags = test.random_below(4) == 0   ? AllocFlags::Dma
                             : test.random_below(3) == 0 ? AllocFlags::Dma32
                                                         : AllocFlags::HighUser;
    if (!pages.take(1, flags)) return false;
    const u32 first = test.random_below(8), length = 1 + test.random_below(8 - first);
    if (test.random_below(2) == 0) pages[i] = {pages[i].page, first * kSectorBytes, length * kSectorBytes};
  }
  return true;
}

void write_and_read(TestContext& test, TestDisk& disk, std::span<const Segment> segments, PhysAddr highest) {
  const u32 seed = test.random();
  const u64 bounced = block_statistics(disk).bounced_bytes;
  fill_pattern(segments, seed);
  EXPECT(submit_and_wait(disk, BlockOp::Write, 3, segments).has_value());
  EXPECT_EQ(wrong_words(segments, seed), 0u);
  clear_segments(segments);
  EXPECT(submit_and_wait(disk, BlockOp::Read, 3, segments).has_value());
  EXPECT_EQ(wrong_words(segments, seed), 0u);
  EXPECT_EQ(block_statistics(disk).bounced_bytes - bounced, 2 * bytes_above(segments, highest));
  EXPECT_EQ(disk.violations, 0u);
  EXPECT(pools_are_full());
}

void try_all_counts(TestContext& test, PhysAddr highest) {
  if (reaches_everything(highest)) SKIP("the device reaches all memory");
  TestDisk disk{reaching(highest)};
  disk.finish = TestDisk::Finish::InInterrupt;
  REQUIRE(disk.connect());
  for (const u32 count : {1u, 2u, 3u, 15u, 16u, 17u, 31u, 32u, 33u, 64u, 100u, 255u, 256u, 257u}) {
    TestPages<257> pages;
    REQUIRE(take_mixed(test, pages, count));
    write_and_read(test, disk, pages.segments(), highest);
  }
}

KTEST(bounce, segments_1_to_257_with_24_bits) { try_all_counts(test, k24Bits); }
KTEST(bounce, segments_1_to_257_with_28_bits) { try_all_counts(test, k28Bits); }
KTEST(bounce, segments_1_to_257_with_32_bits) { try_all_counts(test, k32Bits); }

KTEST(bounce, runs_across_the_limit) {
  TestDisk disk{reaching(k28Bits)};
  if (reaches_everything(k28Bits)) SKIP("the device reaches all memory");
  REQUIRE(disk.connect());
  // Eight frames, four on each side, as one segment.
  const Pfn first = to_pfn(k28Bits + 1) - PageCount{4};
  u32 got = 0;
  while (got < 8 && alloc_page_at(first + PageCount{got}, Owner::Test)) ++got;
  if (got == 8) {
    const Segment run{pfn_to_page(first), 512, 8 * kPageSize - 1024};
    TestPages<8> source;
    EXPECT(source.take(8, AllocFlags::HighUser));
    source[0] = {source[0].page, 512, kPageSize - 512};
    source[7] = {source[7].page, 0, kPageSize - 512};
    fill_pattern(source.segments(), 77);
    EXPECT(submit_and_wait(disk, BlockOp::Write, 0, source.segments()).has_value());
    const u64 bounced = block_statistics(disk).bounced_bytes;
    EXPECT(submit_and_wait(disk, BlockOp::Read, 0, {&run, 1}).has_value());
    EXPECT_EQ(block_statistics(disk).bounced_bytes - bounced, 4 * kPageSize - 512);
    u32 wrong = 0;
    for (u32 i = 0; i < 8; ++i) {
      const KmapLocal here{pfn_to_page(first + PageCount{i})}, there{source[i].page};
      const Segment& part = source[i];
      for (u32 at = part.offset; at < part.offset + part.bytes; ++at) wrong += here.bytes()[at] != there.bytes()[at];
    }
    EXPECT_EQ(wrong, 0u);
  } else {
    test.skip("the frames at 256 MiB are in use");
  }
  while (got != 0) free_page(pfn_to_page(first + PageCount{--got}));
}

KTEST(bounce, read_error_leaves_the_page) {
  TestDisk disk{reaching(k24Bits)};
  disk.bad_first = disk.bad_last = 4;
  disk.finish = TestDisk::Finish::InInterrupt;
  REQUIRE(disk.connect());
  TestPages<1> pages;
  REQUIRE(pages.take(1, AllocFlags::HighUser));
  fill_pattern(pages.segments(), 5);
  EXPECT(submit_and_wait(disk, BlockOp::Read, 0, pages.segments()).error() == Error::Io);
  EXPECT_EQ(wrong_words(pages.segments(), 5), 0u);
  EXPECT(pools_are_full());
}

KTEST(bounce, small_requests_cost_what_they_need) {
  TestDisk disk{reaching(k24Bits)};
  disk.hold();
  REQUIRE(disk.connect());
  TestPages<20> pages;
  REQUIRE(pages.take(20, AllocFlags::HighUser));
  BlockRequest requests[20];
  u32 done = 0;
  for (u32 i = 0; i < 20; ++i) {
    pages[i] = {pages[i].page, 1024, 1024};
    requests[i].op = BlockOp::Write;
    requests[i].sector = Sector{16} * i;
    requests[i].segments = pages.segments().subspan(i, 1);
    requests[i].owner = &done;
    requests[i].done = [](BlockRequest& request, Result<>) { add(*static_cast<u32*>(request.owner), 1); };
    submit(disk, requests[i]);
  }
  const BounceStatistics pool = bounce_pool(BounceKind::Dma).statistics();
  EXPECT_EQ(pool.sectors - pool.free, 40u);
  disk.let_go();
  EXPECT(within_ms(2000, [&] { return load(done) == 20; }));
  EXPECT(pools_are_full());
}

KTEST(bounce, pieces_are_split_where_the_pool_is_in_pieces) {
  BouncePool& pool = bounce_pool(BounceKind::Dma);
  const u32 pages = pool.statistics().pages;
  if (pages > BounceRecord::kPieces) SKIP("the pool has more pages than a record has pieces");
  TestDisk disk{reaching(k24Bits)};
  REQUIRE(disk.connect());
  TestPages<12> memory;
  REQUIRE(memory.take(12, AllocFlags::HighUser));
  // Three sectors of each page stay in use, so the longest run is of five.
  Page* somewhere = memory[0].page;
  BounceRecord& stays = pool.reserve(3 * pages);
  BounceRecord* goes[2] = {&pool.reserve(pool.most_sectors()), nullptr};
  for (u32 i = 0; i < pages; ++i) {
    EXPECT_EQ(pool.add_bounced(stays, somewhere, 0, 3 * kSectorBytes), 3 * kSectorBytes);
    if (goes[0]->reserved < 5 && goes[1] == nullptr) {
      pool.give_rest(*goes[0]);
      goes[1] = &pool.reserve(pool.statistics().free);
    }
    EXPECT_EQ(pool.add_bounced(*goes[goes[1] == nullptr ? 0 : 1], somewhere, 0, 5 * kSectorBytes), 5 * kSectorBytes);
  }
  for (BounceRecord* record : goes) {
    if (record != nullptr) pool.release(*record);
  }
  fill_pattern(memory.segments(), 4);
  EXPECT(submit_and_wait(disk, BlockOp::Write, 3, memory.segments()).has_value());
  clear_segments(memory.segments());
  EXPECT(submit_and_wait(disk, BlockOp::Read, 3, memory.segments()).has_value());
  EXPECT_EQ(wrong_words(memory.segments(), 4), 0u);
  EXPECT_EQ(disk.violations, 0u);
  pool.release(stays);
  EXPECT(pools_are_full());
}

/// Takes from the pool of 24-bit devices, and tells when it got it.
struct Taker {
  u32 sectors;
  BounceRecord* got = nullptr;
  static void run(void* argument) {
    auto& taker = *static_cast<Taker*>(argument);
    BounceRecord& record = bounce_pool(BounceKind::Dma).reserve(taker.sectors);
    __atomic_store_n(&taker.got, &record, __ATOMIC_SEQ_CST);
  }
  bool has() const { return __atomic_load_n(&got, __ATOMIC_SEQ_CST) != nullptr; }
};

KTEST(bounce, who_waits_first_is_served_first) {
  BouncePool& pool = bounce_pool(BounceKind::Dma);
  const u32 half = pool.most_sectors();
  BounceRecord& all = pool.reserve(half);
  BounceRecord& rest = pool.reserve(half - 1);
  BounceRecord& one = pool.reserve(1);
  Taker large{half}, small{1};
  Crew<2> crew;
  const auto waiting = [&] { return pool.statistics().waiting; };
  REQUIRE(crew.add("large", Taker::run, &large));
  EXPECT(within_ms(2000, [&] { return waiting() == 1; }));
  pool.release(one);  // enough for the small one, but it comes later
  REQUIRE(crew.add("small", Taker::run, &small));
  EXPECT(within_ms(2000, [&] { return waiting() == 2; }));
  pool.release(rest);
  EXPECT(within_ms(2000, [&] { return large.has(); }));
  EXPECT_EQ(waiting(), 1u);
  EXPECT(!small.has());
  pool.release(all);
  EXPECT(within_ms(2000, [&] { return small.has(); }));
  crew.join();
  pool.release(*large.got);
  pool.release(*small.got);
  EXPECT(pools_are_full());
}

/// A thread that writes its own part of the disk, reads it back and compares.
struct Writer {
  TestDisk* disk;
  u32 number;
  u32 rounds;
  u32 wrong = 0;
  struct Gate {
    u32 ready = 0, open = 0;
  };
  Gate* gate = nullptr;  // with its pages, it waits there for the others

  static constexpr u32 kPages = 24;  // more than half a pool of 16 pages
  static void run(void* argument) { static_cast<Writer*>(argument)->work(); }
  void work() {
    TestPages<kPages> pages;
    if (!pages.take(kPages, AllocFlags::HighUser)) {
      ++wrong;
      return;
    }
    if (gate != nullptr) {
      add(gate->ready, 1);
      while (load(gate->open) == 0) thread_sleep_ms(1);
    }
    const Sector here = Sector{number} * kPages * kSectorsPerPage;
    for (u32 i = 0; i < rounds; ++i) {
      const u32 seed = number * 1000 + i;
      fill_pattern(pages.segments(), seed);
      if (!submit_and_wait(*disk, BlockOp::Write, here, pages.segments())) ++wrong;
      clear_segments(pages.segments());
      if (!submit_and_wait(*disk, BlockOp::Read, here, pages.segments())) ++wrong;
      wrong += wrong_words(pages.segments(), seed);
    }
  }
};

KTEST(bounce, writers_64_share_a_small_pool, .flags = TestFlag::Slow) {
  constexpr u32 kWriters = 64;
  TestDisk disk{reaching(k24Bits), kWriters * Writer::kPages * kSectorsPerPage};
  disk.finish = TestDisk::Finish::InInterrupt;
  REQUIRE(disk.connect());
  const u32 waits = bounce_pool(BounceKind::Dma).statistics().waits;
  Writer* writers = static_cast<Writer*>(*vmalloc(kWriters * sizeof(Writer)));
  {
    Crew<kWriters> crew;
    for (u32 i = 0; i < kWriters; ++i) {
      writers[i] = {.disk = &disk, .number = i, .rounds = 4};
      EXPECT(crew.add("writer", Writer::run, &writers[i]));
    }
  }
  for (u32 i = 0; i < kWriters; ++i) EXPECT_EQ(writers[i].wrong, 0u);
  vfree(writers);
  EXPECT_EQ(disk.violations, 0u);
  EXPECT(bounce_pool(BounceKind::Dma).statistics().waits > waits);
  EXPECT(pools_are_full());
}

/// 64 writers, each with more than half a pool of 16 pages, when there is no page left below 4 GiB but the pool's.
void try_writers_without_memory(TestContext& test, PhysAddr highest) {
  if (reaches_everything(highest)) SKIP("the device reaches all memory");
  constexpr u32 kWriters = 64;
  TestDisk disk{reaching(highest), kWriters * Writer::kPages * kSectorsPerPage};
  disk.finish = TestDisk::Finish::InInterrupt;
  REQUIRE(disk.connect());
  Writer* writers = static_cast<Writer*>(*vmalloc(kWriters * sizeof(Writer)));
  Writer::Gate gate;
  {
    Crew<kWriters> crew;
    for (u32 i = 0; i < kWriters; ++i) {
      writers[i] = {.disk = &disk, .number = i, .rounds = 2, .gate = &gate};
      EXPECT(crew.add("writer", Writer::run, &writers[i]));
    }
    EXPECT(within_ms(10'000, [&] { return load(gate.ready) == crew.count(); }));
    NoLowmem nothing_left;
    nothing_left.take(AllocFlags::Atomic | AllocFlags::Dma32);
    EXPECT(!alloc_page(AllocFlags::Atomic | AllocFlags::Dma32 | AllocFlags::NoWarn, Owner::Test));
    store(gate.open, 1);
    crew.join();
  }
  for (u32 i = 0; i < kWriters; ++i) EXPECT_EQ(writers[i].wrong, 0u);
  vfree(writers);
  EXPECT_EQ(disk.violations, 0u);
  EXPECT(pools_are_full());
}

KTEST(bounce, writers_64_without_memory_and_24_bits, .flags = TestFlag::Slow | TestFlag::NeedsHighmem) {
  try_writers_without_memory(test, k24Bits);
}
KTEST(bounce, writers_64_without_memory_and_32_bits, .flags = TestFlag::Slow | TestFlag::NeedsHighmem) {
  try_writers_without_memory(test, k32Bits);
}

/// Sixteen requests of a page each on their way at once.
struct Batch {
  static constexpr u32 kRequests = 16;
  BlockRequest requests[kRequests];
  u32 left = kRequests, errors = 0;
  Completion all_done;

  void run(TestDisk& disk, BlockOp op, u32 first_page, std::span<const Segment> pages) {
    for (u32 i = 0; i < kRequests; ++i) {
      BlockRequest& request = requests[i];
      request.op = op;
      request.sector = Sector{kSectorsPerPage} * (first_page + i);
      request.segments = pages.subspan(first_page + i, 1);
      request.owner = this;
      request.done = one_is_done;
      submit(disk, request);
    }
    all_done.wait();
  }
  static void one_is_done(BlockRequest& request, Result<> result) {
    auto& batch = *static_cast<Batch*>(request.owner);
    if (!result) add(batch.errors, 1);
    if (add(batch.left, ~0u) == 1) batch.all_done.complete();
  }
};

/// Writes the pages and reads them, in turns.
/// Says how far it is, because it takes long beside other guests.
u32 errors_of_stream(TestContext& test, TestDisk& disk, std::span<const Segment> pages, u32 requests) {
  u32 errors = 0, page = 0;
  BlockOp op = BlockOp::Write;
  for (u32 done = 0; done < requests; done += Batch::kRequests) {
    if (done % (Batch::kRequests * 1024) == 0) test.note("{} of {} requests", done, requests);
    Batch batch;
    batch.run(disk, op, page, pages);
    errors += batch.errors;
    page += Batch::kRequests;
    if (page != pages.size()) continue;
    page = 0;
    op = op == BlockOp::Write ? BlockOp::Read : BlockOp::Write;
  }
  return errors;
}

KTEST(bounce, goes_on_without_any_lowmem, .flags = TestFlag::Slow | TestFlag::NeedsHighmem) {
  constexpr u32 kRequests = 100'000;
  TestDisk disk{reaching(k24Bits)};
  disk.finish = TestDisk::Finish::InInterrupt;
  REQUIRE(disk.connect());
  TestPages<64> pages;
  REQUIRE(pages.take(64, AllocFlags::HighUser));
  fill_pattern(pages.segments(), 8);
  {
    NoLowmem nothing_left;
    nothing_left.take(AllocFlags::Atomic);  // what reclaim has found meanwhile, until there is no page
    EXPECT_EQ(errors_of_stream(test, disk, pages.segments(), kRequests), 0u);
    EXPECT(submit_and_wait(disk, BlockOp::Write, 0, pages.segments()).has_value());
  }
  EXPECT_EQ(wrong_words(pages.segments(), 8), 0u);
  EXPECT_EQ(disk.violations, 0u);
  EXPECT(pools_are_full());
}

KTEST(bounce, device_out_of_reach_of_any_pool_is_refused) {
  TestDisk disk{reaching(PhysAddr{1 * kMiB - 1})};
  EXPECT(!disk.connect());
}

}  // namespace

}  // namespace paean
