// Failures on the way to disks and to what is cached of them.
#include "kernel/block/bounce.hpp"
#include "kernel/block/ram_disk.hpp"
#include "kernel/fs/folio_io.hpp"
#include "kernel/test/fail_nth.hpp"

namespace paean {

namespace {

Result<> fill_a_pool() {
  BouncePool pool;
  TRY(pool.fill(3, AllocFlags::Dma32, PhysAddr{~u64{0}}));
  pool.drain();
  return {};
}

/// Reads the first bytes of a disk through its cached contents.
Result<> read_cached(BlockDevice& disk) {
  AddressSpace* contents = TRY(open_device_contents(disk));
  u8 bytes[16];
  const Result<u32> read = contents->read(0, bytes, nullptr);
  const Result<> closed = close_device_contents(disk);
  if (!read) return std::unexpected(read.error());
  return closed;
}

Result<> use_a_disk() {
  RamDisk* disk = TRY(RamDisk::create("ramfault", u64{64} * kKiB));
  const Result<> result = read_cached(*disk);
  const Result<> destroyed = RamDisk::destroy(disk);
  return result ? destroyed : result;
}

}  // namespace

KTEST(fault, disks_survive) {
  const u32 met = fail_nth(test, "bounce pool", fill_a_pool) + fail_nth(test, "cached disk", use_a_disk);
  test.note("{} failures met", met);
  EXPECT(met > 10);
}

}  // namespace paean
