// How fast a disk reads, front to back, into single pages of highmem.
#include <new>

#include "arch/tsc.hpp"
#include "disk_reader.hpp"
#include "kernel/bench/kbench.hpp"
#include "mm/kmalloc.hpp"

namespace paean {

namespace {

constexpr u32 kTotalBytes = 64 * kMiB;

void measure_with(BenchContext& bench, BlockDevice& disk, DiskReader& reader) {
  if (!reader.prepare()) return bench.skip("not enough memory");
  const u64 begin = arch::microseconds_since_entry();
  if (!reader.run(disk, kTotalBytes, [](std::span<const Segment>) {})) return;
  const u64 microseconds = arch::microseconds_since_entry() - begin;
  bench.report(BenchValue::ratio(kTotalBytes, static_cast<u32>(microseconds == 0 ? 1 : microseconds)), "MB/s");
}

void measure(BenchContext& bench, std::string_view name) {
  BlockDevice* disk = find_block_device(name);
  if (disk == nullptr || disk->sectors() < kTotalBytes / kSectorBytes) return bench.skip("no such disk");
  const Result<void*> memory = kmalloc(sizeof(DiskReader), AllocFlags::Kernel);  // more than a stack has room for
  if (!memory) return bench.skip("not enough memory");
  auto* reader = new (*memory) DiskReader{Order{0}, AllocFlags::HighUser};
  measure_with(bench, *disk, *reader);
  reader->~DiskReader();
  kfree(reader);
}

}  // namespace

KBENCH(disk_read_ide, "64 MB from the front of hda into highmem") { measure(bench, "hda"); }
KBENCH(disk_read_virtio, "64 MB from the front of vda into highmem") { measure(bench, "vda"); }

}  // namespace paean
