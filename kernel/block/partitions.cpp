#include "kernel/block/partitions.hpp"

#include <algorithm>
#include <new>

#include "kernel/block/partition_table.hpp"
#include "kernel/block/registry.hpp"
#include "kernel/log_lines.hpp"
#include "mm/highmem.hpp"
#include "mm/kmalloc.hpp"
#include "mm/page_alloc.hpp"

namespace paean {

namespace {

class Partition final : public BlockDevice {
 public:
  Partition(BlockDevice& whole, const PartitionEntry& entry) : whole_(whole), first_(entry.start) {
    BufferSink name{name_};
    const char last = whole.name().back();
    format_to(name, "{}{}{}", whole.name(), last >= '0' && last <= '9' ? "p" : "", entry.number);
    fits_ = !name.truncated();
    sectors_ = entry.sectors;
    limits_ = whole.limits();
    read_only_ = whole.read_only();
  }
  bool name_fits() const { return fits_; }
  BlockDevice& whole() override { return whole_; }
  Sector first_sector() const override { return first_; }
  void start(BlockCommand&) override { panic("a command for a partition"); }
  void abort(BlockCommand&) override { panic("a command for a partition"); }

 private:
  BlockDevice& whole_;
  Sector first_;
  bool fits_;
};

Result<> add_partition(BlockDevice& whole, const PartitionEntry& entry) {
  void* memory = TRY(kmalloc(sizeof(Partition), AllocFlags::Kernel));
  auto* partition = new (memory) Partition{whole, entry};
  const Result<> added = partition->name_fits() ? block_registry().insert(*partition, whole.queue())
                                                : Result<>{std::unexpected(Error::NameTooLong)};
  if (!added) kfree(partition);
  return added;
}

/// Feeds the sector to the scan.
Result<> read_into(BlockDevice& whole, Page* page, PartitionScan& scan) {
  const Segment segment{page, 0, kSectorBytes};
  TRY(submit_and_wait(whole, BlockOp::Read, *scan.next(), {&segment, 1}));
  const KmapLocal map{page};
  scan.feed(map.bytes().first<kSectorBytes>());
  return {};
}

Result<> scan_and_add(BlockDevice& whole, PartitionScan& scan) {
  Page* page = TRY(alloc_page(AllocFlags::HighUser));
  Result<> result{};
  while (result && scan.next()) result = read_into(whole, page, scan);
  free_page(page);
  for (const PartitionEntry& entry : scan.partitions()) {
    if (const Result<> added = add_partition(whole, entry); !added) result = added;
  }
  return result;
}

}  // namespace

void add_partitions(BlockDevice& whole) {
  LogLines complaints{LogLevel::Warning};
  Result<> result = std::unexpected(Error::OutOfMemory);
  if (const Result<void*> memory = kmalloc(sizeof(PartitionScan), AllocFlags::Kernel)) {
    result = scan_and_add(whole, *new (*memory) PartitionScan{whole.sectors(), complaints});
    kfree(*memory);
  }
  if (!result) format_to(complaints, "{}: partition table: {}\n", whole.name(), error_name(result.error()));
}

void free_partitions(BlockDevice* first) {
  while (first != nullptr) {
    BlockDevice* next = BlockRegistry::behind(*first);
    kfree(static_cast<Partition*>(first));
    first = next;
  }
}

}  // namespace paean
