// Reads the partition table of a disk: MBR with extended partitions.
//
//   sector 0        entries 1-4, one of them may be an extended partition
//   its first       entry 1: logical partition, relative to this sector
//                   entry 2: where the next such sector is, relative to the first one   -> 5, 6, 7 ...
//
//   PartitionScan scan{sectors};
//   while (const auto sector = scan.next()) { ... read it ...; scan.feed(bytes); }
//   for (const PartitionEntry& entry : scan.partitions()) ...
//
// Nothing on the disk is believed: partitions that are empty, begin at 0, leave the disk or their extended partition,
// or overlap an earlier one are left out, each with a complaint. The chain ends where it comes back to a sector that
// was read before, and after 59 logical partitions. A sector without the signature, or with status bytes that no table
// has (the boot sector of a file system), has no partitions at all.
// Pure; no memory but its own (2 KiB). Source: the layout that DOS 3.3 wrote.
#pragma once

#include <optional>
#include <span>

#include "kernel/block/request.hpp"
#include "lib/format.hpp"

namespace paean {

struct PartitionEntry {
  u32 number = 0;  // 1 to 4; from 5 on for logical ones
  Sector start = 0;
  u64 sectors = 0;
  u8 type = 0;
};

class PartitionScan {
 public:
  static constexpr u32 kMostLogical = 59, kMost = 4 + kMostLogical;

  /// Complaints are whole lines.
  PartitionScan(u64 sectors, Sink& complaints) : sectors_(sectors), complaints_(complaints) {}

  /// The sector to read next; nullopt at the end. Each sector is asked for once at most.
  std::optional<Sector> next() const { return next_; }
  void feed(std::span<const u8, kSectorBytes> bytes);
  /// It could not be read.
  void stop() { next_.reset(); }

  std::span<const PartitionEntry> partitions() const { return {found_, count_}; }

 private:
  struct Entry {
    u8 status, type;
    u32 start, sectors;
  };
  static Entry entry_at(std::span<const u8, kSectorBytes> bytes, u32 index);
  void feed_first(std::span<const u8, kSectorBytes> bytes);
  void feed_extended(std::span<const u8, kSectorBytes> bytes, Sector here);
  void add(u32 number, Sector start, const Entry& entry, Sector end);
  void go_on_at(Sector sector);
  const char* fault_of(Sector start, u64 sectors, Sector end) const;

  u64 sectors_;
  Sink& complaints_;
  std::optional<Sector> next_ = Sector{0};
  Sector extended_ = 0, extended_end_ = 0;
  Sector read_[kMostLogical]{};  // of the chain
  u32 links_ = 0;
  PartitionEntry found_[kMost]{};
  u32 count_ = 0;
};

}  // namespace paean
