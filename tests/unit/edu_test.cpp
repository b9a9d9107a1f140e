// Real DMA with a mask. Each test needs a machine with `-device edu,dma_mask=...`, see tests/boot/disks_edu.py.
#include "block.hpp"
#include "edu_disk.hpp"
#include "kernel/block/bounce.hpp"
#include "mm/vmalloc.hpp"
#include "threads.hpp"

namespace paean {

namespace {

constexpr u32 kMost = 257;

/// Small segments, above and below what the device reaches, so that requests of all lengths fit on the platter.
bool take_mixed(TestContext& test, TestPages<kMost>& pages, u32 count) {
  for (u32 i = 0; i < count; ++i) {
    const u32 kind = test.random_below(8);
    const AllocFlags flags = kind == 0 ? AllocFlags::Dma : kind == 1 ? AllocFlags::Dma32 : AllocFlags::HighUser;
    if (!pages.take(1, flags)) return false;
    pages[i] = {pages[i].page, test.random_below(7) * kSectorBytes, (1 + test.random_below(2)) * kSectorBytes};
  }
  return true;
}

u64 bytes_above(std::span<const Segment> segments, PhysAddr highest) {
  u64 bytes = 0;
  for (const Segment& segment : segments) bytes += to_phys(page_to_pfn(segment.page)) > highest ? segment.bytes : 0;
  return bytes;
}

void write_and_read(TestContext& test, EduDisk& disk, std::span<const Segment> segments) {
  const u32 seed = test.random();
  const u64 bounced = block_statistics(disk).bounced_bytes;
  fill_pattern(segments, seed);
  EXPECT(submit_and_wait(disk, BlockOp::Write, 1, segments).has_value());
  clear_segments(segments);
  EXPECT(submit_and_wait(disk, BlockOp::Read, 1, segments).has_value());
  EXPECT_EQ(wrong_words(segments, seed), 0u);
  EXPECT_EQ(block_statistics(disk).bounced_bytes - bounced, 2 * bytes_above(segments, disk.limits().highest));
}

void move_all_counts(TestContext& test, u32 bits) {
  EduDisk disk{bits};
  if (const Result<> connected = disk.connect(); !connected) SKIP("no edu device");
  for (const u32 count : {1u, 2u, 17u, kMost}) {
    TestPages<kMost> pages;
    REQUIRE(take_mixed(test, pages, count));
    write_and_read(test, disk, pages.segments());
  }
  EXPECT(submit_and_wait(disk, BlockOp::Flush, 0, {}).has_value());
  test.note("{} interrupts, {} bytes bounced", disk.interrupts(), block_statistics(disk).bounced_bytes);
}

/// One page each, written and read back, all at once.
struct Client {
  EduDisk* disk;
  u32 number;
  u32 wrong;

  static void run(void* argument) {
    auto& me = *static_cast<Client*>(argument);
    TestPages<2> pages;
    if (!pages.take(2, AllocFlags::HighUser)) {
      me.wrong = 1;
      return;
    }
    fill_pattern(pages.segments(), me.number);
    if (!submit_and_wait(*me.disk, BlockOp::Write, Sector{16} * me.number, pages.segments())) ++me.wrong;
    clear_segments(pages.segments());
    if (!submit_and_wait(*me.disk, BlockOp::Read, Sector{16} * me.number, pages.segments())) ++me.wrong;
    me.wrong += wrong_words(pages.segments(), me.number);
  }
};

void serve_64_clients(TestContext& test, u32 bits) {
  constexpr u32 kClients = 64;
  EduDisk disk{bits};
  if (const Result<> connected = disk.connect(); !connected) SKIP("no edu device");
  Client clients[kClients];
  {
    Crew<kClients> crew;
    for (u32 i = 0; i < kClients; ++i) {
      clients[i] = {&disk, i, 0};
      EXPECT(crew.add("client", Client::run, &clients[i]));
    }
    const NoLowmem nothing_left;  // threads have their stacks by now; requests need no memory
    crew.join();
  }
  for (const Client& client : clients) EXPECT_EQ(client.wrong, 0u);
  for (const BounceKind kind : {BounceKind::Dma, BounceKind::Dma32}) {
    const BounceStatistics pool = bounce_pool(kind).statistics();
    EXPECT_EQ(pool.free, pool.sectors);
  }
}

// Each page takes it 0.4 s at the least, and it has half of that: its interrupts come while commands are aborted, and
// behind that.
KTEST(edu, late_transfers_do_not_go_on_32_bits, .flags = TestFlag::ByName | TestFlag::Slow) {
  EduDisk disk{32, 200};
  if (const Result<> connected = disk.connect(); !connected) SKIP("no edu device");
  TestPages<8> pages;
  REQUIRE(pages.take(8, AllocFlags::Dma32));
  for (u32 i = 0; i < 8; ++i) {
    const Result<> result = submit_and_wait(disk, BlockOp::Write, u64{64} * i, pages.segments());
    EXPECT(!result && result.error() == Error::TimedOut);
    thread_sleep_ms(30 * i);
  }
  const u32 interrupts = disk.interrupts();
  thread_sleep_ms(500);
  EXPECT_EQ(disk.interrupts(), interrupts);
  EXPECT(submit_and_wait(disk, BlockOp::Flush, 0, {}).has_value());
}

KTEST(edu, moves_1_to_257_segments_24_bits, .flags = TestFlag::ByName | TestFlag::Slow) { move_all_counts(test, 24); }
KTEST(edu, moves_1_to_257_segments_28_bits, .flags = TestFlag::ByName | TestFlag::Slow) { move_all_counts(test, 28); }
KTEST(edu, moves_1_to_257_segments_32_bits, .flags = TestFlag::ByName | TestFlag::Slow) { move_all_counts(test, 32); }
KTEST(edu, serves_64_clients_24_bits, .flags = TestFlag::ByName | TestFlag::Slow) { serve_64_clients(test, 24); }
KTEST(edu, serves_64_clients_28_bits, .flags = TestFlag::ByName | TestFlag::Slow) { serve_64_clients(test, 28); }
KTEST(edu, serves_64_clients_32_bits, .flags = TestFlag::ByName | TestFlag::Slow) { serve_64_clients(test, 32); }

}  // namespace

}  // namespace paean
