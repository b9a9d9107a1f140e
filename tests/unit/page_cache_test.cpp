// The page cache on a store whose answers the tests give: reading, writing, truncating, what is kept and what is lost.
#include <algorithm>

#include "fake_store.hpp"
#include "kernel/fault.hpp"
#include "kernel/test/ktest.hpp"

namespace paean {

namespace {

/// Page-sized room that is not on the stack.
class Buffer {
 public:
  explicit Buffer(u32 bytes) : bytes_(bytes), at_(static_cast<u8*>(*vmalloc(bytes))) {}
  ~Buffer() { vfree(at_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  std::span<u8> all() const { return {at_, bytes_}; }
  std::span<u8> first(u32 bytes) const { return {at_, bytes}; }

 private:
  u32 bytes_;
  u8* at_;
};

}  // namespace

KTEST(page_cache, reads_what_the_store_has) {
  const FileHolder file{20 * kPageSize, 20 * kPageSize - 100};
  fill(file->store.medium(), 0, 1);
  const Buffer buffer{20 * kPageSize};
  const Result<u32> got = file->space.read(0, buffer.all(), nullptr);
  REQUIRE(got.has_value());
  EXPECT_EQ(*got, 20 * kPageSize - 100);
  EXPECT_EQ(differences(buffer.first(*got), 0, 1), 0u);
  const u32 reads = file->store.reads;
  EXPECT_EQ(*file->space.read(5000, buffer.first(9000), nullptr), 9000u);
  EXPECT_EQ(differences(buffer.first(9000), 5000, 1), 0u);
  EXPECT_EQ(file->store.reads, reads);  // from the cache
  EXPECT_EQ(*file->space.read(u64{20} * kPageSize, buffer.first(10), nullptr), 0u);
  EXPECT_EQ(*file->space.read(u64{1} << 50, buffer.first(10), nullptr), 0u);
  EXPECT_EQ(file->space.read_page(20, nullptr).error(), Error::NotFound);
  EXPECT(!file->space.find_page(21));
}

KTEST(page_cache, read_ahead_grows_with_folios) {
  const FileHolder file{0, u64{256} * kPageSize};
  const Buffer buffer{kPageSize};
  ReadAhead ahead;
  for (u32 i = 0; i < 256; ++i) { EXPECT_EQ(*file->space.read(u64{i} * kPageSize, buffer.all(), &ahead), kPageSize); }
  EXPECT_EQ(file->store.pages_read, 256u);
  EXPECT_EQ(file->store.largest_read, 16u);
  EXPECT(file->store.reads < 50);
  EXPECT_EQ(file->space.pages(), 256u);
}

KTEST(page_cache, written_bytes_come_back_and_reach_the_store) {
  const FileHolder file{8 * kPageSize, 0};
  const Buffer buffer{8 * kPageSize};
  fill(buffer.all(), 0, 7);
  EXPECT_EQ(*file->space.write(0, buffer.first(3 * kPageSize + 10)), 3 * kPageSize + 10);
  EXPECT_EQ(file->space.size(), 3 * kPageSize + 10);
  EXPECT_EQ(file->store.reads, 0u);  // nothing of it needed reading
  EXPECT(file->space.dirty_pages() >= 4);
  std::ranges::fill(buffer.all(), u8{0});
  EXPECT_EQ(*file->space.read(0, buffer.all(), nullptr), 3 * kPageSize + 10);
  EXPECT_EQ(differences(buffer.first(3 * kPageSize + 10), 0, 7), 0u);
  EXPECT(file->space.sync().has_value());
  EXPECT_EQ(file->space.dirty_pages(), 0u);
  EXPECT_EQ(differences(file->store.medium().first(3 * kPageSize + 10), 0, 7), 0u);
  EXPECT_EQ(file->space.invalidate(), 4u);
  EXPECT_EQ(*file->space.read(100, buffer.first(9000), nullptr), 9000u);
  EXPECT_EQ(differences(buffer.first(9000), 100, 7), 0u);
}

KTEST(page_cache, without_large_blocks_smaller_folios_do) {
  const FileHolder file{16 * kPageSize, 0};
  const Buffer buffer{16 * kPageSize};
  fill(buffer.all(), 0, 4);
  FaultSite* site = find_fault_site("page_alloc");
  REQUIRE(site != nullptr);
  arm_fault(*site, 1, FaultMode::Once);
  const Result<u32> written = file->space.write(0, buffer.all());
  disarm_faults();
  EXPECT(written.has_value() && *written == 16 * kPageSize);
  EXPECT_EQ(file->space.find_page(0)->pages(), 8u);
  std::ranges::fill(buffer.all(), u8{0});
  EXPECT_EQ(*file->space.read(0, buffer.all(), nullptr), 16 * kPageSize);
  EXPECT_EQ(differences(buffer.all(), 0, 4), 0u);
}

KTEST(page_cache, update_changes_bytes_in_place) {
  const FileHolder file{4 * kPageSize, u64{4} * kPageSize};
  fill(file->store.medium(), 0, 3);
  EXPECT(file->space.update(5000, 8, [](std::span<u8> bytes) { std::ranges::fill(bytes, u8{0xaa}); }).has_value());
  EXPECT(file->space.sync().has_value());
  EXPECT_EQ(file->store.medium()[4999], pattern(4999, 3));
  EXPECT_EQ(file->store.medium()[5000], 0xaa);
  EXPECT_EQ(file->store.medium()[5007], 0xaa);
  EXPECT_EQ(file->store.medium()[5008], pattern(5008, 3));
}

KTEST(page_cache, a_part_of_a_page_is_read_before_it_is_written) {
  const FileHolder file{4 * kPageSize, u64{4} * kPageSize};
  fill(file->store.medium(), 0, 3);
  const u8 byte[] = {0x55};
  EXPECT_EQ(*file->space.write(kPageSize + 17, byte), 1u);
  EXPECT(file->space.sync().has_value());
  for (u32 i = 0; i < 4 * kPageSize; ++i) {
    const u8 wanted = i == kPageSize + 17 ? 0x55 : pattern(i, 3);
    if (file->store.medium()[i] != wanted) EXPECT_EQ(i, ~0u);
  }
}

KTEST(page_cache, truncate_drops_and_zeroes) {
  const FileHolder file{8 * kPageSize, 0};
  file->store.largest = Order{0};
  const Buffer buffer{8 * kPageSize};
  fill(buffer.all(), 0, 9);
  EXPECT_EQ(*file->space.write(0, buffer.all()), 8 * kPageSize);
  EXPECT(file->space.truncate(kPageSize + 100).has_value());
  EXPECT_EQ(file->space.size(), kPageSize + 100);
  EXPECT_EQ(*file->space.read(0, buffer.all(), nullptr), kPageSize + 100);
  // What was cut off does not come back when the file grows again, neither from the cache nor from the store.
  EXPECT(file->space.truncate(u64{6} * kPageSize).has_value());
  EXPECT_EQ(file->space.size(), 6 * kPageSize);
  EXPECT(file->space.sync().has_value());
  EXPECT_EQ(*file->space.read(0, buffer.all(), nullptr), 6 * kPageSize);
  EXPECT_EQ(differences(buffer.first(kPageSize + 100), 0, 9), 0u);
  const auto zeros = std::ranges::count(buffer.first(6 * kPageSize).subspan(kPageSize + 100), u8{0});
  EXPECT_EQ(zeros, 5 * kPageSize - 100);
  EXPECT_EQ(std::ranges::count(file->store.medium().subspan(kPageSize + 100, kPageSize - 100), u8{0}), kPageSize - 100);
}

KTEST(page_cache, truncate_does_not_forget_what_the_store_has_behind_the_new_end) {
  const FileHolder file{2 * kPageSize, u64{2} * kPageSize};
  fill(file->store.medium(), 0, 11);
  EXPECT(file->space.truncate(100).has_value());  // nothing cached
  EXPECT(file->space.sync().has_value());
  EXPECT(file->space.truncate(kPageSize).has_value());
  const Buffer buffer{kPageSize};
  (void)file->space.invalidate();
  EXPECT_EQ(*file->space.read(0, buffer.all(), nullptr), kPageSize);
  EXPECT_EQ(differences(buffer.first(100), 0, 11), 0u);
  EXPECT_EQ(std::ranges::count(buffer.all().subspan(100), u8{0}), kPageSize - 100);
}

KTEST(page_cache, truncate_fails_when_the_page_it_cuts_cannot_be_read) {
  const FileHolder file{2 * kPageSize, u64{2} * kPageSize};
  fill(file->store.medium(), 0, 11);
  file->store.fail_reads = 1;
  const Result<> cut = file->space.truncate(100);
  EXPECT(!cut && cut.error() == Error::Io);
  EXPECT_EQ(file->space.size(), 2 * kPageSize);
  EXPECT(file->space.sync().has_value());
  EXPECT(file->space.truncate(100).has_value());
  EXPECT_EQ(file->space.size(), 100u);
}

KTEST(page_cache, a_read_error_is_reported_and_the_next_reader_tries_again) {
  const FileHolder file{2 * kPageSize, u64{2} * kPageSize};
  fill(file->store.medium(), 0, 5);
  file->store.fail_reads = 2;
  const Buffer buffer{kPageSize};
  EXPECT_EQ(file->space.read(0, buffer.all(), nullptr).error(), Error::Io);
  EXPECT_EQ(file->space.read(0, buffer.all(), nullptr).error(), Error::Io);
  EXPECT_EQ(*file->space.read(0, buffer.all(), nullptr), kPageSize);
  EXPECT_EQ(differences(buffer.all(), 0, 5), 0u);
  EXPECT_EQ(file->store.reads, 3u);
}

KTEST(page_cache, a_write_error_is_reported_once) {
  const FileHolder file{2 * kPageSize, 0};
  const Buffer buffer{2 * kPageSize};
  fill(buffer.all(), 0, 5);
  EXPECT_EQ(*file->space.write(0, buffer.all()), 2 * kPageSize);
  file->store.fail_writes = 1;
  const Result<> first = file->space.sync();
  EXPECT(!first && first.error() == Error::Io);
  EXPECT(file->space.sync().has_value());
  EXPECT_EQ(file->space.dirty_pages(), 0u);
}

KTEST(page_cache, everybody_hears_of_a_write_error) {
  const FileHolder file{kPageSize, 0};
  u32 first = file->space.known_errors(), second = first;
  const u8 byte[] = {'a'};
  EXPECT_EQ(*file->space.write(0, byte), 1u);
  file->store.fail_writes = 1;
  EXPECT(!file->space.sync());
  for (u32* known : {&first, &second}) {
    const Result<> told = file->space.errors_since(*known);
    EXPECT(!told && told.error() == Error::Io);
    EXPECT(file->space.errors_since(*known).has_value());
  }
  // Who comes now is told what nobody has been told.
  u32 third = file->space.known_errors();
  EXPECT(file->space.errors_since(third).has_value());
  EXPECT_EQ(*file->space.write(0, byte), 1u);
  file->store.fail_writes = 1;
  EXPECT_EQ(file->space.start_write_back(1), 1u);
  third = file->space.known_errors();
  EXPECT(!file->space.errors_since(third));
}

KTEST(page_cache, what_could_not_be_written_for_want_of_memory_stays_dirty) {
  const FileHolder file{2 * kPageSize, 0};
  const Buffer buffer{2 * kPageSize};
  fill(buffer.all(), 0, 5);
  EXPECT_EQ(*file->space.write(0, buffer.all()), 2 * kPageSize);
  file->store.write_failure = Error::OutOfMemory;
  file->store.fail_writes = ~0u;
  const Result<> synced = file->space.sync();
  EXPECT(!synced && synced.error() == Error::OutOfMemory);
  EXPECT_EQ(file->space.dirty_pages(), 2u);
  EXPECT_EQ(file->space.invalidate(), 0u);
  u32 known = 0;
  EXPECT(file->space.errors_since(known).has_value());  // nothing is lost
  file->store.fail_writes = 0;
  EXPECT(file->space.sync().has_value());
  EXPECT_EQ(file->space.dirty_pages(), 0u);
  EXPECT_EQ(differences(file->store.medium(), 0, 5), 0u);
}

KTEST(page_cache, a_full_store_refuses_the_write_and_not_the_write_back) {
  const FileHolder file{4 * kPageSize, 0};
  file->store.room = u64{2} * kPageSize;
  file->store.largest = Order{0};
  const Buffer buffer{4 * kPageSize};
  EXPECT_EQ(*file->space.write(0, buffer.all()), 2 * kPageSize);
  EXPECT_EQ(file->space.write(u64{2} * kPageSize, buffer.all()).error(), Error::NoSpace);
  EXPECT_EQ(file->space.size(), 2 * kPageSize);
  EXPECT(file->space.sync().has_value());
}

KTEST(page_cache, what_fits_of_a_large_folio_is_written) {
  const FileHolder file{0, 0};
  file->store.room = u64{5} * kPageSize;
  const Buffer buffer{16 * kPageSize};
  EXPECT_EQ(*file->space.write(0, buffer.all()), 5 * kPageSize);
  EXPECT_EQ(file->space.size(), 5 * kPageSize);
  EXPECT_EQ(file->space.write(u64{5} * kPageSize, buffer.all()).error(), Error::NoSpace);
}

KTEST(page_cache, no_file_is_longer_than_page_numbers_reach) {
  const FileHolder file{0, u64{1} << 44};  // 2^32 pages, which would be none
  EXPECT_EQ(file->space.size(), AddressSpace::kMostBytes);
  const Buffer buffer{kPageSize};
  EXPECT_EQ(*file->space.read(0, buffer.all(), nullptr), kPageSize);
  EXPECT_EQ(*file->space.read(AddressSpace::kMostBytes, buffer.all(), nullptr), 0u);
}

KTEST(page_cache, a_memory_file_is_never_written_nor_evicted) {
  const FileHolder file{0, 0};
  file->store.keeps = FakeStore::Keeps::InPages;
  const Buffer buffer{4 * kPageSize};
  fill(buffer.all(), 0, 2);
  EXPECT_EQ(*file->space.write(0, buffer.all()), 4 * kPageSize);
  EXPECT(file->space.sync().has_value());
  (void)shrink_page_cache(~0u);
  EXPECT_EQ(file->space.pages(), 4u);
  EXPECT_EQ(*file->space.read(0, buffer.all(), nullptr), 4 * kPageSize);
  EXPECT_EQ(differences(buffer.all(), 0, 2), 0u);
  EXPECT_EQ(file->store.writes, 0u);
  EXPECT_EQ(file->space.dirty_pages(), 0u);
}

KTEST(page_cache, eviction_takes_clean_pages_and_writes_dirty_ones_first) {
  const FileHolder file{16 * kPageSize, u64{16} * kPageSize};
  const Buffer buffer{16 * kPageSize};
  fill(buffer.all(), 0, 2);
  EXPECT_EQ(*file->space.write(0, buffer.all()), 16 * kPageSize);
  EXPECT_EQ(shrink_page_cache(~0u), 16u);
  EXPECT_EQ(file->space.pages(), 0u);
  EXPECT_EQ(differences(file->store.medium(), 0, 2), 0u);
}

KTEST(page_cache, pages_lie_in_highmem, .flags = TestFlag::NeedsHighmem) {
  const FileHolder file{0, u64{64} * kPageSize};
  const PageCacheTotals before = page_cache_totals();
  const Buffer buffer{64 * kPageSize};
  EXPECT_EQ(*file->space.read(0, buffer.all(), nullptr), 64 * kPageSize);
  const PageCacheTotals after = page_cache_totals();
  EXPECT_EQ(after.pages - before.pages, 64u);
  EXPECT_EQ(after.high_pages - before.high_pages, 64u);
  EXPECT_EQ(after.misses - before.misses, 64u);
}

}  // namespace paean
