// A large file that is read once, front to back, beside what the same driver gives without a cache and a file system:
// the same number of bytes from the front of the disk, in requests of 128 KiB, eight on their way at a time, into
// blocks of 16 pages from the memory that files of this disk get, and each of them copied out as read() has to.
//
// The disk holds a file system with /cold, as scripts/diskbench makes it. Disk and file take turns, and each one's best
// counts; the cache is empty before each turn, because the file system is mounted anew. `bare` is the disk without the
// copy: on an emulated CPU most of a turn is the copy, on a real one the disk.
#include <algorithm>
#include <new>

#include "arch/tsc.hpp"
#include "disk_reader.hpp"
#include "kernel/bench/kbench.hpp"
#include "kernel/fs/file.hpp"
#include "kernel/fs/folio_io.hpp"
#include "mm/highmem.hpp"
#include "mm/kmalloc.hpp"

namespace paean {

namespace {

constexpr u32 kTotalBytes = 256 * kMiB, kTurns = 3, kCallBytes = 64 * kKiB;
constexpr std::string_view kFolder = "/cold_read", kPath = "/cold_read/cold";

/// Microseconds; 0 if something failed.
template <typename Work>
u32 time_of(Work work) {
  const u64 begin = arch::microseconds_since_entry();
  if (!work()) return 0;
  return static_cast<u32>(std::max<u64>(arch::microseconds_since_entry() - begin, 1));
}

template <typename Take>
u32 time_disk(BlockDevice& disk, Take take) {
  const Result<void*> memory = kmalloc(sizeof(DiskReader), AllocFlags::Kernel);  // more than a stack has room for
  if (!memory) return 0;
  auto* reader = new (*memory) DiskReader{Order{4}, pages_for(disk)};
  const u32 time = reader->prepare() ? time_of([&] { return reader->run(disk, kTotalBytes, take); }) : 0;
  reader->~DiskReader();
  kfree(reader);
  return time;
}

void copy_out(std::span<const Segment> segments, std::span<u8> buffer) {
  for (const Segment& segment : segments) {
    for (u32 at = 0; at < segment.bytes; at += kPageSize) {
      copy_from_page(buffer.subspan(at, kPageSize), segment.page + (at >> kPageShift), 0);
    }
  }
}

bool read_whole(OpenFile& file, std::span<u8> buffer) {
  u32 bytes = 0;
  Result<u32> got = 0u;
  do {
    got = read_file(file, buffer);
    if (got) bytes += *got;
  } while (got && *got != 0);
  return got && bytes == kTotalBytes;
}

u32 time_file(std::string_view disk, std::span<u8> buffer) {
  if (!mount(disk, kFolder, "ext2", MountMode::ReadOnly)) return 0;
  u32 time = 0;
  if (const Result<OpenFile*> file = open_file(kPath, OpenMode::Read)) {
    time = time_of([&] { return read_whole(**file, buffer); });
    close_file(*file);
  }
  return unmount(kFolder) ? time : 0;
}

struct Times {
  u32 bare = ~0u, raw = ~0u, file = ~0u;
};

/// Zeros if something failed.
Times best_times(BlockDevice& disk, std::span<u8> buffer) {
  Times best;
  for (u32 turn = 0; turn < kTurns; ++turn) {
    const u32 bare = time_disk(disk, [](std::span<const Segment>) {});
    const u32 raw = time_disk(disk, [&](std::span<const Segment> segments) { copy_out(segments, buffer); });
    const u32 file = time_file(disk.name(), buffer);
    if (bare == 0 || raw == 0 || file == 0) return {0, 0, 0};
    best = {std::min(best.bare, bare), std::min(best.raw, raw), std::min(best.file, file)};
  }
  return best;
}

void report(BenchContext& bench, const Times& times) {
  // Bytes in a microsecond are MB in a second.
  const u32 file = kTotalBytes / times.file, raw = kTotalBytes / times.raw, bare = kTotalBytes / times.bare;
  char text[80];
  BufferSink line{text};
  format_to(line, "{} MB/s raw {} MB/s share {} % bare {} MB/s", file, raw,
            static_cast<u32>(u64{times.raw} * 100 / times.file), bare);
  bench.report(line.view());
}

void measure(BenchContext& bench, std::string_view name) {
  BlockDevice* disk = find_block_device(name);
  if (disk == nullptr || disk->sectors() <= kTotalBytes / kSectorBytes) return bench.skip("no such disk");
  const Result<void*> buffer = kmalloc(kCallBytes, AllocFlags::Kernel);
  if (!buffer) return bench.skip("not enough memory");
  if (make_directory(kFolder)) {
    const Times times = best_times(*disk, {static_cast<u8*>(*buffer), kCallBytes});
    (void)remove_directory(kFolder);
    if (times.raw != 0) report(bench, times);
  }
  kfree(*buffer);
}

}  // namespace

KBENCH(cold_read_ide, "/cold of 256 MB on hda, beside the disk itself") { measure(bench, "hda"); }
KBENCH(cold_read_virtio, "/cold of 256 MB on vda, beside the disk itself") { measure(bench, "vda"); }

}  // namespace paean
