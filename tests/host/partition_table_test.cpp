#include "kernel/block/partition_table.hpp"

#include <array>
#include <map>

#include "support.hpp"

namespace paean::host {

namespace {

using Block = std::array<u8, kSectorBytes>;

/// A disk of tables; sectors that nobody wrote are zeros.
struct Disk {
  std::map<Sector, Block> blocks;
  u64 sectors = 1'000'000;

  void entry(Sector at, u32 index, u8 type, u32 start, u32 count, u8 status = 0) {
    Block& block = blocks[at];
    u8* entry = &block[446 + 16 * index];
    entry[0] = status;
    entry[4] = type;
    for (u32 i = 0; i < 4; ++i) {
      entry[8 + i] = static_cast<u8>(start >> 8 * i);
      entry[12 + i] = static_cast<u8>(count >> 8 * i);
    }
    block[510] = 0x55;
    block[511] = 0xaa;
  }
  /// `number:start+sectors `... and the complaints.
  std::string scan() {
    StringSink complaints, found;
    PartitionScan scan{sectors, complaints};
    u32 reads = 0;
    while (const auto sector = scan.next()) {
      REQUIRE(++reads <= 1 + PartitionScan::kMostLogical);
      scan.feed(blocks[*sector]);
    }
    for (const PartitionEntry& entry : scan.partitions())
      format_to(found, "{}:{}+{} ", entry.number, entry.start, entry.sectors);
    return found.text() + complaints.text();
  }
};

}  // namespace

TEST_SUITE("partition_table") {
  TEST_CASE("an empty disk has none") {
    Disk disk;
    CHECK(disk.scan() == "");
  }

  TEST_CASE("primary partitions keep their numbers") {
    Disk disk;
    disk.entry(0, 0, 0x83, 2048, 1000, 0x80);
    disk.entry(0, 2, 0x82, 4096, 100);
    CHECK(disk.scan() == "1:2048+1000 3:4096+100 ");
  }

  TEST_CASE("logical ones count from 5, relative to their table and to the extended partition") {
    Disk disk;
    disk.entry(0, 0, 0x83, 100, 100);
    disk.entry(0, 1, 0x05, 1000, 9000);
    disk.entry(1000, 0, 0x83, 10, 500);
    disk.entry(1000, 1, 0x05, 2000, 1000);
    disk.entry(3000, 0, 0x83, 20, 600);
    CHECK(disk.scan() == "1:100+100 5:1010+500 6:3020+600 ");
  }

  TEST_CASE("a chain that comes back ends there") {
    Disk disk;
    disk.entry(0, 1, 0x0f, 1000, 9000);
    disk.entry(1000, 0, 0x83, 10, 500);
    disk.entry(1000, 1, 0x05, 2000, 1000);
    disk.entry(3000, 1, 0x05, 0, 1000);
    CHECK(disk.scan() == "5:1010+500 the chain of logical partitions leads to sector 1000, which cannot be\n");
  }

  TEST_CASE("a chain that leaves its partition, or has no table, ends there") {
    Disk disk;
    disk.entry(0, 1, 0x05, 1000, 9000);
    disk.entry(1000, 1, 0x05, 9000, 1);
    CHECK(disk.scan() == "the chain of logical partitions leads to sector 10000, which cannot be\n");
    disk.entry(1000, 1, 0x05, 8000, 1);
    CHECK(disk.scan() == "no table at sector 9000, which should have one\n");
  }

  TEST_CASE("a chain without an end is cut after 59") {
    Disk disk;
    disk.entry(0, 0, 0x05, 1000, 900'000);
    for (u32 i = 0; i < 100; ++i) disk.entry(1000 + 10 * i, 1, 0x05, 10 * (i + 1), 10);
    CHECK(disk.scan() == "more than 59 logical partitions\n");
  }

  TEST_CASE("absurd partitions are left out, the others stay") {
    Disk disk;
    disk.entry(0, 0, 0x83, 0, 1000);
    disk.entry(0, 1, 0x83, 999'999, 2);
    disk.entry(0, 2, 0x83, 0xffffffff, 0xffffffff);
    disk.entry(0, 3, 0x83, 999'999, 1);
    CHECK(disk.scan() ==
          "4:999999+1 partition 1 begins at the table itself, ignored\npartition 2 runs over the end, ignored\n"
          "partition 3 runs over the end, ignored\n");
  }

  TEST_CASE("overlaps and empty ones") {
    Disk disk;
    disk.entry(0, 0, 0x83, 100, 100);
    disk.entry(0, 1, 0x83, 199, 100);
    disk.entry(0, 2, 0x83, 200, 0);
    CHECK(disk.scan() == "1:100+100 partition 2 overlaps another one, ignored\npartition 3 is empty, ignored\n");
  }

  TEST_CASE("a boot sector and a GPT are no table") {
    Disk disk;
    disk.entry(0, 0, 0x83, 100, 100);
    disk.entry(0, 1, 0x83, 300, 100, 0x41);
    CHECK(disk.scan() == "");
    Disk gpt;
    gpt.entry(0, 0, 0xee, 1, 999'999);
    CHECK(gpt.scan() == "a GPT, which is not supported\n");
  }
}

}  // namespace paean::host
