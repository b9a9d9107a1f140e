// Partition tables out of any bytes: whatever comes, the partitions that are found lie on the disk, are not empty, do
// not overlap, and the scan ends.
#include <array>

#include "entry.hpp"
#include "kernel/block/partition_table.hpp"

namespace paean::fuzz {

void fuzz_one(Input& input) {
  const u64 sectors = input.wide() % (1ull << (1 + input.below(40))) + 1;
  StringSink complaints;
  PartitionScan scan{sectors, complaints};
  u32 reads = 0;
  while (const auto sector = scan.next()) {
    CHECK(++reads <= 1 + PartitionScan::kMostLogical);
    CHECK(*sector < sectors);
    std::array<u8, kSectorBytes> bytes{};
    for (u32 i = 0; i < 4; ++i) {  // only what a table is made of, so that the input is not wasted
      u8* entry = &bytes[446 + 16 * i];
      entry[0] = input.below(20) == 0 ? static_cast<u8>(input.byte()) : 0;
      static constexpr u8 kTypes[] = {0, 0x83, 0x05, 0x0f, 0x85, 0xee};
      entry[4] = input.below(20) == 0 ? static_cast<u8>(input.byte()) : kTypes[input.below(5)];
      const u64 start = input.below(4) == 0 ? input.wide() : input.word(),
                count = input.below(4) == 0 ? input.wide() : input.word();
      for (u32 k = 0; k < 4; ++k) {
        entry[8 + k] = static_cast<u8>(start >> 8 * k);
        entry[12 + k] = static_cast<u8>(count >> 8 * k);
      }
    }
    if (input.below(30) != 1) bytes[510] = 0x55, bytes[511] = 0xaa;
    scan.feed(bytes);
  }
  for (const PartitionEntry& entry : scan.partitions()) {
    CHECK(entry.start != 0 && entry.sectors != 0);
    CHECK(entry.start < sectors && entry.sectors <= sectors - entry.start);
    for (const PartitionEntry& other : scan.partitions()) {
      CHECK(&other == &entry || (other.number != entry.number && (other.start + other.sectors <= entry.start ||
                                                                  entry.start + entry.sectors <= other.start)));
    }
  }
}

}  // namespace paean::fuzz
