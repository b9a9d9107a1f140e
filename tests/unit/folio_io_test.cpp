// From folios to a disk and back: a RAM disk under a file of scattered blocks, and the contents of the disk itself.
#include "kernel/fs/folio_io.hpp"

#include <algorithm>

#include "block.hpp"
#include "fake_store.hpp"
#include "kernel/block/ram_disk.hpp"
#include "kernel/fault.hpp"
#include "kernel/test/ktest.hpp"
#include "mm/vm_events.hpp"
#include "test_disk.hpp"

namespace paean {

namespace {

constexpr u32 kBlock = 1024;  // bytes, as the smallest of ext2

/// A file whose blocks lie backwards on the disk in runs of `run`, every `hole`-th missing.
class Scattered final : public BackingStore {
 public:
  Scattered(BlockDevice& device, u32 run, u32 hole) : device_(device), run_(run), hole_(hole) {}

  void read_folio(AddressSpace& space, Folio& folio) override { read_folio_extents(device_, folio, map(space, folio)); }
  void write_folio(AddressSpace& space, Folio& folio) override {
    write_folio_extents(device_, folio, map(space, folio));
  }
  Result<> prepare_write(AddressSpace& /*space*/, u64 /*offset*/, u32 /*bytes*/) override { return {}; }

  bool is_hole(u32 block) const { return hole_ != 0 && block % hole_ == hole_ - 1; }
  Sector sector_of(u32 block) const {
    const u32 blocks = static_cast<u32>(device_.sectors()) * kSectorBytes / kBlock;
    return Sector{blocks - (block / run_ + 1) * run_ + block % run_} * (kBlock / kSectorBytes);
  }

 private:
  std::span<const Extent> map(const AddressSpace& space, const Folio& folio) {
    const u32 first = folio.index() * (kPageSize / kBlock);
    const u64 end = std::min(space.size(), folio.end());
    u32 count = 0;
    for (u32 i = 0; folio.offset() + u64{i} * kBlock < end; ++i) {
      extents_[count++] = {i * kBlock, kBlock, is_hole(first + i), sector_of(first + i)};
    }
    return {extents_, count};
  }
  BlockDevice& device_;
  u32 run_, hole_;
  Extent extents_[kMaxExtents]{};  // one test, one thread at a time
};

/// A disk that goes with the test.
class Disk {
 public:
  explicit Disk(u32 bytes) : disk_(RamDisk::create("ramtest", bytes)) {}
  ~Disk() {
    if (disk_) (void)RamDisk::destroy(*disk_);
  }
  Disk(const Disk&) = delete;
  Disk& operator=(const Disk&) = delete;
  bool good() const { return disk_.has_value(); }
  RamDisk& operator*() { return **disk_; }

 private:
  Result<RamDisk*> disk_;
};

/// Bytes through vmalloc, because stacks are small.
class Bytes {
 public:
  explicit Bytes(u32 count) : all{static_cast<u8*>(*vzalloc(count)), count} {}
  ~Bytes() { vfree(all.data()); }
  Bytes(const Bytes&) = delete;
  Bytes& operator=(const Bytes&) = delete;
  const std::span<u8> all;
};

constexpr u32 kDiskBytes = 512 * kKiB, kFileBytes = 40 * kPageSize - 1000;

/// Writes a pattern through the cache, drops it, and reads it back in large folios.
void round_trip(TestContext& test, BlockDevice& disk, u32 run) {
  Scattered store{disk, run, 0};
  AddressSpace file{store};
  const Bytes bytes{kFileBytes};
  fill(bytes.all, 0, run);
  EXPECT_EQ(*file.write(0, bytes.all), kFileBytes);
  EXPECT(file.sync().has_value());
  (void)file.invalidate();
  EXPECT_EQ(file.pages(), 0u);
  std::ranges::fill(bytes.all, u8{0});
  ReadAhead ahead;
  EXPECT_EQ(*file.read(0, bytes.all, &ahead), kFileBytes);
  EXPECT_EQ(differences(bytes.all, 0, run), 0u);
  EXPECT(file.truncate(0).has_value());
}

}  // namespace

KTEST(folio_io, scattered_blocks_come_back) {
  Disk disk{kDiskBytes};
  REQUIRE(disk.good());
  for (const u32 run : {1u, 3u, 16u, 64u}) round_trip(test, *disk, run);
}

KTEST(folio_io, without_memory_for_requests_it_goes_on) {
  Disk disk{kDiskBytes};
  REQUIRE(disk.good());
  FaultSite* site = find_fault_site("folio_transfer");
  REQUIRE(site != nullptr);
  for (const u32 n : {1u, 2u, 5u}) {
    arm_fault(*site, n, FaultMode::FromThenOn);
    round_trip(test, *disk, 1);
    disarm_faults();
  }
}

KTEST(folio_io, holes_read_as_zeros_and_stay_holes) {
  Disk disk{kDiskBytes};
  REQUIRE(disk.good());
  const Result<AddressSpace*> raw = open_device_contents(*disk);
  REQUIRE(raw.has_value());
  const Bytes bytes{kDiskBytes};
  std::ranges::fill(bytes.all, u8{0xee});
  EXPECT_EQ(*(*raw)->write(0, bytes.all), kDiskBytes);
  EXPECT((*raw)->sync().has_value());
  {
    Scattered store{*disk, 4, 3};
    AddressSpace file{store, kFileBytes};
    EXPECT_EQ(*file.read(0, bytes.all, nullptr), kFileBytes);
    u32 wrong = 0;
    for (u32 i = 0; i < kFileBytes; ++i) wrong += bytes.all[i] != (store.is_hole(i / kBlock) ? 0 : 0xee);
    EXPECT_EQ(wrong, 0u);
    // Behind the end of the file the page has zeros, whatever the disk has there.
    const Result<FolioRef> last = file.read_page(39, nullptr);
    REQUIRE(last.has_value());
    {
      const KmapLocal map{(*last)->page_at(39)};
      EXPECT_EQ(std::ranges::count(map.bytes().last(1000), u8{0}), 1000);
    }
    EXPECT(file.update(0, kPageSize, [](std::span<u8> page) { std::ranges::fill(page, u8{0x11}); }).has_value());
    EXPECT(file.sync().has_value());
    (void)(*raw)->invalidate();
    u8 block[2]{};
    EXPECT_EQ(*(*raw)->read(store.sector_of(1) * kSectorBytes, block, nullptr), 2u);
    EXPECT_EQ(block[0], 0x11);
    EXPECT_EQ(*(*raw)->read(store.sector_of(2) * kSectorBytes, block, nullptr), 2u);
    EXPECT_EQ(block[0], 0xee);
    EXPECT(file.truncate(0).has_value());
  }
  EXPECT(close_device_contents(*disk).has_value());
}

KTEST(folio_io, contents_of_a_device) {
  Disk disk{kDiskBytes};
  REQUIRE(disk.good());
  AddressSpace* contents = *open_device_contents(*disk);
  EXPECT_EQ(*open_device_contents(*disk), contents);
  EXPECT_EQ(contents->size(), kDiskBytes);
  EXPECT(contents->update(9000, 4, [](std::span<u8> bytes) { bytes[0] = 'x'; }).has_value());
  const u8 byte[] = {'y'};
  EXPECT_EQ(contents->write(kDiskBytes, byte).error(), Error::NoSpace);
  EXPECT(close_device_contents(*disk).has_value());
  EXPECT_EQ(contents->dirty_pages(), 1u);
  EXPECT(close_device_contents(*disk).has_value());  // the last one writes
  TestPages<1> page;
  REQUIRE(page.take(1, AllocFlags::Kernel));
  EXPECT(submit_and_wait(*disk, BlockOp::Read, 16, page.segments()).has_value());
  u8 got[1];
  copy_from_page(got, page[0].page, 9000 - 8192);
  EXPECT_EQ(got[0], u8{'x'});
}

KTEST(folio_io, contents_are_counted_while_their_disk_does_not_answer) {
  TestDisk disk{{.queue_depth = 1}};
  REQUIRE(disk.connect());
  const Result<AddressSpace*> contents = open_device_contents(disk);
  REQUIRE(contents.has_value());
  EXPECT((*contents)->update(0, 4, [](std::span<u8> bytes) { bytes[0] = 'x'; }).has_value());
  disk.hold();
  struct Closing {
    BlockDevice* device;
    u32 done = 0;
    static void run(void* self) {
      auto& me = *static_cast<Closing*>(self);
      (void)close_device_contents(*me.device);
      store(me.done, 1);
    }
  } closing{&disk};
  {
    Crew<1> crew;
    REQUIRE(crew.add("closing", Closing::run, &closing));
    EXPECT(within_ms(2000, [&] { return (*contents)->dirty_pages() == 0; }));  // on its way
    EXPECT(device_contents_pages() != 0);
    EXPECT_EQ(load(closing.done), 0u);
    disk.let_go();
  }
  EXPECT_EQ(load(closing.done), 1u);
  EXPECT_EQ(disk.contents()[0], u8{'x'});
}

KTEST(folio_io, contents_that_are_being_closed_are_read_from_the_disk_again) {
  TestDisk disk{{.queue_depth = 1}};
  REQUIRE(disk.connect());
  const Result<AddressSpace*> contents = open_device_contents(disk);
  REQUIRE(contents.has_value());
  EXPECT((*contents)->update(0, 4, [](std::span<u8> bytes) { bytes[0] = 'x'; }).has_value());
  disk.hold();
  struct Reopening {
    BlockDevice* device;
    u32 done = 0;
    u8 first = 0;
    static void close(void* self) { (void)close_device_contents(*static_cast<Reopening*>(self)->device); }
    static void open(void* self) {
      auto& me = *static_cast<Reopening*>(self);
      if (const Result<AddressSpace*> again = open_device_contents(*me.device)) {
        (void)(*again)->read(0, {&me.first, 1}, nullptr);
        (void)close_device_contents(*me.device);
      }
      store(me.done, 1);
    }
  } reopening{&disk};
  {
    Crew<2> crew;
    REQUIRE(crew.add("closing", Reopening::close, &reopening));
    EXPECT(within_ms(2000, [&] { return (*contents)->dirty_pages() == 0; }));
    const bool added = crew.add("opening", Reopening::open, &reopening);
    thread_sleep_ms(30);
    EXPECT(added && load(reopening.done) == 0);
    disk.let_go();
    EXPECT(within_ms(2000, [&] { return load(reopening.done) != 0; }));
  }
  EXPECT_EQ(reopening.first, u8{'x'});
}

KTEST(folio_io, pages_that_no_disk_takes_are_counted) {
  TestDisk disk{{}};
  REQUIRE(disk.connect());
  const Result<AddressSpace*> contents = open_device_contents(disk);
  REQUIRE(contents.has_value());
  const u32 lost = vm_events(VmEvent::Lost);
  for (const u64 page : {0u, 3u, 9u}) {
    EXPECT((*contents)->update(page * kPageSize, 4, [](std::span<u8> bytes) { bytes[0] = 'x'; }).has_value());
  }
  disk.bad_first = 3 * kPageSize / kSectorBytes;
  disk.bad_last = disk.bad_first;
  const Result<> written = close_device_contents(disk);
  disk.bad_first = disk.bad_last = ~Sector{0};
  EXPECT(!written && written.error() == Error::Io);
  EXPECT_EQ(vm_events(VmEvent::Lost) - lost, 1u);
  EXPECT_EQ(disk.contents()[9 * kPageSize], u8{'x'});
}

}  // namespace paean
