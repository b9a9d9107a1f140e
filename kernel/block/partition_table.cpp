#include "kernel/block/partition_table.hpp"

#include <algorithm>

namespace paean {

namespace {

constexpr u32 kTable = 446, kEntryBytes = 16;
constexpr u8 kActive = 0x80, kProtective = 0xee;  // 0xee: the disk has a GPT

bool is_extended(u8 type) { return type == 0x05 || type == 0x0f || type == 0x85; }

u32 word_at(std::span<const u8, kSectorBytes> bytes, u32 offset) {
  u32 value = 0;
  for (u32 i = 4; i-- != 0;) value = value << 8 | bytes[offset + i];
  return value;
}

bool has_signature(std::span<const u8, kSectorBytes> bytes) { return bytes[510] == 0x55 && bytes[511] == 0xaa; }

}  // namespace

PartitionScan::Entry PartitionScan::entry_at(std::span<const u8, kSectorBytes> bytes, u32 index) {
  const u32 at = kTable + index * kEntryBytes;
  return {bytes[at], bytes[at + 4], word_at(bytes, at + 8), word_at(bytes, at + 12)};
}

const char* PartitionScan::fault_of(Sector start, u64 sectors, Sector end) const {
  if (sectors == 0) return "is empty";
  if (start == 0) return "begins at the table itself";
  if (start >= end || sectors > end - start) return "runs over the end";
  for (const PartitionEntry& other : partitions()) {
    if (start < other.start + other.sectors && other.start < start + sectors) return "overlaps another one";
  }
  return nullptr;
}

void PartitionScan::add(u32 number, Sector start, const Entry& entry, Sector end) {
  if (const char* fault = fault_of(start, entry.sectors, end)) {
    format_to(complaints_, "partition {} {}, ignored\n", number, fault);
    return;
  }
  found_[count_++] = {number, start, entry.sectors, entry.type};
}

void PartitionScan::feed(std::span<const u8, kSectorBytes> bytes) {
  const Sector here = *next_;
  next_.reset();
  if (!has_signature(bytes)) {
    if (here != 0) format_to(complaints_, "no table at sector {}, which should have one\n", here);
    return;
  }
  here == 0 ? feed_first(bytes) : feed_extended(bytes, here);
}

void PartitionScan::feed_first(std::span<const u8, kSectorBytes> bytes) {
  for (u32 i = 0; i < 4; ++i) {
    const Entry entry = entry_at(bytes, i);
    if ((entry.status & ~kActive) != 0) return;
    if (entry.type == kProtective) {
      format_to(complaints_, "a GPT, which is not supported\n");
      return;
    }
  }
  for (u32 i = 0; i < 4; ++i) {
    const Entry entry = entry_at(bytes, i);
    if (entry.type == 0) continue;
    if (!is_extended(entry.type)) {
      add(i + 1, entry.start, entry, sectors_);
    } else if (const char* fault = fault_of(entry.start, entry.sectors, sectors_); fault != nullptr) {
      format_to(complaints_, "extended partition {} {}, ignored\n", i + 1, fault);
    } else if (extended_ == 0) {
      extended_ = entry.start;
      extended_end_ = extended_ + entry.sectors;
    }
  }
  if (extended_ != 0) go_on_at(extended_);
}

void PartitionScan::feed_extended(std::span<const u8, kSectorBytes> bytes, Sector here) {
  const Entry logical = entry_at(bytes, 0), link = entry_at(bytes, 1);
  if (logical.type != 0 && !is_extended(logical.type)) add(4 + links_, here + logical.start, logical, extended_end_);
  if (is_extended(link.type) && link.sectors != 0) go_on_at(extended_ + link.start);
}

void PartitionScan::go_on_at(Sector sector) {
  const auto read = std::span{read_}.first(links_);
  if (sector >= extended_end_ || std::ranges::find(read, sector) != read.end()) {
    format_to(complaints_, "the chain of logical partitions leads to sector {}, which cannot be\n", sector);
  } else if (links_ == kMostLogical) {
    format_to(complaints_, "more than {} logical partitions\n", kMostLogical);
  } else {
    read_[links_++] = sector;
    next_ = sector;
  }
}

}  // namespace paean
