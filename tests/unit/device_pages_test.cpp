// Where pages for files on a disk of 32 bits should come from: bytes copied, because the disk does not reach their
// page, by three ways of using a file of 1 MiB, from DMA32 and from anywhere.
#include <algorithm>

#include "block.hpp"
#include "kernel/fs/folio_io.hpp"
#include "mm/kmalloc.hpp"
#include "mm/vmalloc.hpp"
#include "mm/zone.hpp"
#include "test_disk.hpp"

namespace paean {

namespace {

constexpr u32 kFileBytes = 1 * kMiB, kCallBytes = 64 * kKiB, kRepeats = 4;
constexpr PhysAddr kLast{4 * kGiB - 1};

/// Restores what is usual.
class Policy {
 public:
  explicit Policy(DevicePages policy) { set_device_pages(policy); }
  ~Policy() { set_device_pages(DevicePages::WhereItReaches); }
  Policy(const Policy&) = delete;
  Policy& operator=(const Policy&) = delete;
};

/// The first megabyte of a disk, used as a file is.
class File {
 public:
  File() {
    if (!disk_.connect()) return;
    const Result<AddressSpace*> contents = open_device_contents(disk_);
    const Result<void*> buffer = kmalloc(kCallBytes, AllocFlags::Kernel | AllocFlags::Zero);
    if (contents) contents_ = *contents;
    if (buffer) buffer_ = {static_cast<u8*>(*buffer), kCallBytes};
  }
  ~File() {
    if (contents_ != nullptr) ASSERT(close_device_contents(disk_));
    kfree(buffer_.data());
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  bool ready() const { return contents_ != nullptr && !buffer_.empty(); }

  /// Bytes copied by `use(file)`, which begins without a page in the cache; all ones if that failed.
  template <typename Use>
  u32 copied(Use use) {
    (void)contents_->invalidate();
    const u64 before = block_statistics(disk_).bounced_bytes;
    if (contents_->pages() != 0 || !use(*this)) return ~0u;
    return static_cast<u32>(block_statistics(disk_).bounced_bytes - before);
  }
  bool read() {
    ReadAhead ahead;
    for (u32 at = 0; at < kFileBytes; at += kCallBytes) {
      if (contents_->read(at, buffer_, &ahead) != kCallBytes) return false;
    }
    return true;
  }
  bool rewrite() {
    for (u32 at = 0; at < kFileBytes; at += kCallBytes) {
      if (contents_->write(at, buffer_) != kCallBytes) return false;
    }
    return contents_->sync().has_value();
  }

 private:
  // Nothing behind the file, so that nothing more is read ahead.
  TestDisk disk_{{.highest = kLast, .max_segments = 64}, kFileBytes / kSectorBytes};
  AddressSpace* contents_ = nullptr;
  std::span<u8> buffer_;
};

bool read_once(File& file) { return file.read(); }
bool read_often(File& file) {
  for (u32 i = 0; i < kRepeats; ++i) {
    if (!file.read()) return false;
  }
  return true;
}
bool rewrite_often(File& file) {
  for (u32 i = 0; i < kRepeats; ++i) {
    if (!file.rewrite()) return false;
  }
  return true;
}

bool is_reached() { return to_phys(frame_limit()) <= kLast + 1; }

/// What zone DMA32 may give to caches of devices, taken away.
class NoDma32 {
 public:
  NoDma32() {
    for (Order order{9}; taken_ < kMost;) {
      const Zone& dma32 = zone(ZoneId::Dma32);
      const u32 keep = dma32.high.count() + dma32.reserve[std::to_underlying(ZoneId::HighMem)].count();
      if (free_pages_in(ZoneId::Dma32).count() <= keep) return;
      if (free_pages_in(ZoneId::Dma32).count() <= keep + order.pages()) order = Order{0};
      const Result<Page*> page = alloc_pages(AllocFlags::Dma32, order, Owner::Test);
      if (!page) return;
      blocks_[taken_++] = {*page, order};
    }
  }
  ~NoDma32() {
    while (taken_ != 0) {
      --taken_;
      free_pages(blocks_[taken_].page, blocks_[taken_].order);
    }
    vfree(blocks_);
  }
  NoDma32(const NoDma32&) = delete;
  NoDma32& operator=(const NoDma32&) = delete;
  bool done() const { return taken_ < kMost; }

 private:
  static constexpr u32 kMost = u64{4} * kGiB / (u64{512} * kPageSize) + 1024;
  struct Block {
    Page* page;
    Order order;
  };
  Block* blocks_ =
      static_cast<Block*>(vmalloc(kMost * sizeof(Block), AllocFlags::HighUser, "blocks").value_or(nullptr));
  u32 taken_ = blocks_ == nullptr ? kMost : 0;
};

}  // namespace

KTEST(device_pages, from_anywhere_each_transfer_is_copied, .flags = TestFlag::NeedsHighmem) {
  if (is_reached()) SKIP("nothing lies beyond 4 GiB");
  const Policy policy{DevicePages::Anywhere};
  File file;
  REQUIRE(file.ready());
  EXPECT_EQ(file.copied(read_often), kFileBytes);
  EXPECT_EQ(file.copied(read_once), kFileBytes);
  EXPECT_EQ(file.copied(rewrite_often), kRepeats * kFileBytes);
}

KTEST(device_pages, where_the_device_reaches_nothing_is_copied) {
  File file;
  REQUIRE(file.ready());
  EXPECT_EQ(file.copied(read_often), 0u);
  EXPECT_EQ(file.copied(read_once), 0u);
  EXPECT_EQ(file.copied(rewrite_often), 0u);
}

KTEST(device_pages, without_such_pages_others_are_taken, .flags = TestFlag::NeedsHighmem) {
  if (is_reached()) SKIP("nothing lies beyond 4 GiB");
  File file;
  REQUIRE(file.ready());
  const NoDma32 none;
  REQUIRE(none.done());
  const u32 low = low_totals().free.count();
  EXPECT_EQ(file.copied(read_often), kFileBytes);
  EXPECT_EQ(file.copied(rewrite_often), kRepeats * kFileBytes);
  EXPECT(low_totals().free.count() + 64 >= low);  // descriptors, not pages
}

}  // namespace paean
