// Contents of files in memory.
#include <algorithm>

#include "kernel/fault.hpp"
#include "kernel/fs/mount_table.hpp"
#include "kernel/fs/open_file.hpp"
#include "mm/page_cache.hpp"
#include "mm/shrink.hpp"
#include "mm/slab.hpp"
#include "mm/vmalloc.hpp"
#include "tmpfs_space.hpp"

namespace paean {

namespace {

constexpr OpenMode kCreate = OpenMode::Read | OpenMode::Write | OpenMode::Create;

/// Closes at the end of the scope, after the checks.
class Opened {
 public:
  explicit Opened(std::string_view path, OpenMode mode = kCreate) : file_(open_file(path, mode)) {}
  ~Opened() {
    if (file_) close_file(*file_);
  }
  Opened(const Opened&) = delete;
  Opened& operator=(const Opened&) = delete;
  bool good() const { return file_.has_value(); }
  OpenFile& operator*() const { return **file_; }

 private:
  Result<OpenFile*> file_;
};

Tmpfs& tmpfs_of(OpenFile& file) { return static_cast<Tmpfs&>(*file_inode(file).super); }

}  // namespace

KTEST(tmpfs, positions_move_as_posix_says) {
  const TmpfsSpace space;
  REQUIRE(space.ready());
  const Opened file{"/t/f"};
  REQUIRE(file.good());
  EXPECT_EQ(*write_file(*file, bytes_of("hello, world")), 12);
  u8 bytes[16]{};
  EXPECT_EQ(*read_file(*file, bytes), 0);
  EXPECT_EQ(*seek_file(*file, 7, SeekFrom::Start), 7);
  EXPECT_EQ(*read_file(*file, std::span{bytes}.first(3)), 3);
  EXPECT_EQ(bytes[0], u8{'w'});
  EXPECT_EQ(*seek_file(*file, -2, SeekFrom::Current), 8);
  EXPECT_EQ(*seek_file(*file, -1, SeekFrom::End), 11);
  EXPECT_EQ(*read_file(*file, bytes), 1);
  EXPECT_EQ(bytes[0], u8{'d'});
  EXPECT(fails_with(seek_file(*file, -1, SeekFrom::Start), Error::InvalidArgument));
  EXPECT(fails_with(seek_file(*file, -13, SeekFrom::End), Error::InvalidArgument));
  EXPECT_EQ(*read_file_at(*file, 0, std::span{bytes}.first(5)), 5);
  EXPECT_EQ(bytes[4], u8{'o'});
  EXPECT_EQ(*write_file_at(*file, 0, bytes_of("J")), 1);
  EXPECT_EQ(*seek_file(*file, 0, SeekFrom::Current), 12);
  EXPECT(holds_text("/t/f", "Jello, world"));
  EXPECT(fails_with(write_file_at(*file, ~u64{0}, bytes_of("x")), Error::TooLarge));
}

KTEST(tmpfs, modes_are_kept_to) {
  const TmpfsSpace space;
  REQUIRE(space.ready());
  REQUIRE(write_text("/t/f", "one"));
  u8 bytes[8];
  {
    const Opened file{"/t/f", OpenMode::Read};
    REQUIRE(file.good());
    EXPECT(fails_with(write_file(*file, bytes_of("x")), Error::InvalidArgument));
    EXPECT(fails_with(truncate_file(*file, 0), Error::InvalidArgument));
  }
  {
    const Opened file{"/t/f", OpenMode::Write | OpenMode::Append};
    REQUIRE(file.good());
    EXPECT(fails_with(read_file(*file, bytes), Error::InvalidArgument));
    EXPECT_EQ(*write_file(*file, bytes_of("two")), 3);
  }
  EXPECT(holds_text("/t/f", "onetwo"));
  const Opened directory{"/t", OpenMode::Read | OpenMode::Directory};
  REQUIRE(directory.good());
  EXPECT(fails_with(read_file(*directory, bytes), Error::IsDirectory));
  EXPECT(fails_with(write_file(*directory, bytes_of("x")), Error::InvalidArgument));
  EXPECT(fails_with(truncate_path("/t", 0), Error::IsDirectory));
  const Opened file{"/t/f", OpenMode::Read};
  REQUIRE(file.good());
  EXPECT(fails_with(read_directory(*file, nullptr, nullptr), Error::NotDirectory));
}

KTEST(tmpfs, holes_are_zeros) {
  const TmpfsSpace space;
  REQUIRE(space.ready());
  const Opened file{"/t/f"};
  REQUIRE(file.good());
  EXPECT_EQ(*write_file_at(*file, 10 * u64{kMiB}, bytes_of("end")), 3);
  EXPECT_EQ(status_of(*file).size, 10 * kMiB + 3);
  EXPECT_EQ(tmpfs_of(*file).charged(), 1);  // a hole costs nothing until somebody reads it
  u8 bytes[64];
  for (u8& byte : bytes) byte = 0xee;
  EXPECT_EQ(*read_file_at(*file, 5 * u64{kMiB} - 32, bytes), 64);
  for (const u8 byte : bytes) EXPECT_EQ(byte, 0);
  EXPECT_EQ(tmpfs_of(*file).charged(), 1);
  EXPECT(truncate_file(*file, 0));
  EXPECT_EQ(tmpfs_of(*file).charged(), 0);
  EXPECT(truncate_file(*file, u64{kMiB} * kMiB));
  EXPECT_EQ(status_of(*file).size, u64{kMiB} * kMiB);
  EXPECT_EQ(*read_file_at(*file, u64{kMiB} * kMiB - 10, bytes), 10);
  EXPECT(fails_with(truncate_file(*file, ~u64{0}), Error::TooLarge));
}

KTEST(tmpfs, a_sparse_file_is_read_without_memory) {
  const TmpfsSpace space;
  REQUIRE(space.ready());
  const Opened file{"/t/f"};
  REQUIRE(file.good());
  REQUIRE(truncate_file(*file, kMaxFileBytes));
  constexpr u64 kIsland = kMaxFileBytes / 2 + 100;
  EXPECT_EQ(*write_file_at(*file, kIsland, bytes_of("land")), 4);
  const u32 before = tmpfs_of(*file).charged();
  const Result<void*> memory = vmalloc(16 * kPageSize, AllocFlags::HighUser, "test buffer");
  REQUIRE(memory);
  const std::span<u8> buffer{static_cast<u8*>(*memory), 16 * kPageSize};
  const std::span<u32> words{static_cast<u32*>(*memory), buffer.size() / sizeof(u32)};
  constexpr u32 kReads = 512;  // 32 MiB of 8 TiB, from its first byte to its last
  for (u32 i = 0; i < kReads; ++i) {
    std::ranges::fill(words, 0xeeeeeeee);
    const u64 at = (kMaxFileBytes - buffer.size()) / (kReads - 1) * i;
    REQUIRE(read_file_at(*file, at, buffer).value_or(0) == buffer.size());
    REQUIRE(std::ranges::all_of(words, [](u32 word) { return word == 0; }));
  }
  EXPECT_EQ(tmpfs_of(*file).charged(), before);
  // Over the island, which is not page-aligned, and over the end.
  EXPECT_EQ(*read_file_at(*file, kIsland - 5000, buffer), buffer.size());
  EXPECT(std::ranges::equal(buffer.subspan(5000, 4), bytes_of("land")));
  EXPECT(std::ranges::count(buffer, u8{0}) == static_cast<i32>(buffer.size()) - 4);
  EXPECT_EQ(*read_file_at(*file, kMaxFileBytes - 5000, buffer), 5000);
  EXPECT_EQ(*read_file_at(*file, kMaxFileBytes, buffer), 0);
  EXPECT_EQ(tmpfs_of(*file).charged(), before);
  vfree(*memory);
}

KTEST(tmpfs, what_was_cut_off_is_zero_when_the_file_grows) {
  const TmpfsSpace space;
  REQUIRE(space.ready());
  REQUIRE(write_text("/t/f", "abcdefgh"));
  EXPECT(truncate_path("/t/f", 3));
  EXPECT(truncate_path("/t/f", 8));
  EXPECT(holds_text("/t/f", {"abc\0\0\0\0\0", 8}));
  EXPECT(write_text("/t/f", "x"));  // truncates
  EXPECT(holds_text("/t/f", "x"));
}

KTEST(tmpfs, an_open_file_outlives_its_name) {
  const TmpfsSpace space;
  REQUIRE(space.ready());
  REQUIRE(write_text("/t/f", "still here"));
  const u32 before = page_cache_totals().pages;
  {
    const Opened file{"/t/f"};
    REQUIRE(file.good());
    REQUIRE(remove_file("/t/f"));
    REQUIRE(write_text("/t/f", "another"));
    EXPECT_EQ(status_of(*file).links, 0);
    u8 bytes[16];
    EXPECT_EQ(*read_file(*file, bytes), 10);
    EXPECT_EQ(bytes[0], u8{'s'});
    EXPECT_EQ(*write_file(*file, bytes_of("!")), 1);
    EXPECT_EQ(page_cache_totals().pages, before + 1);
  }
  EXPECT_EQ(page_cache_totals().pages, before);
  EXPECT(holds_text("/t/f", "another"));
}

KTEST(tmpfs, full_is_an_error_and_nothing_is_lost) {
  const TmpfsSpace space;
  REQUIRE(space.ready());
  const Opened file{"/t/f"};
  REQUIRE(file.good());
  tmpfs_of(*file).set_limit(10);
  static constinit u8 page[kPageSize]{};
  u32 written = 0;
  Result<u32> last = 0u;
  for (u32 i = 0; i < 20 && last; ++i) {
    last = write_file(*file, page);
    if (last) written += *last;
  }
  EXPECT(fails_with(last, Error::NoSpace));
  EXPECT_EQ(written, 10 * kPageSize);
  EXPECT_EQ(status_of(*file).size, 10 * kPageSize);
  EXPECT_EQ(statistics_of("/t")->free_blocks, 0);
  EXPECT_EQ(*write_file_at(*file, 0, page), kPageSize);  // what is there may change
  EXPECT(truncate_file(*file, u64{5} * kPageSize));
  EXPECT_EQ(statistics_of("/t")->free_blocks, 5);
  EXPECT_EQ(*write_file_at(*file, u64{5} * kPageSize, page), kPageSize);
}

KTEST(tmpfs, pages_that_were_not_made_are_not_paid_twice) {
  const TmpfsSpace space;
  REQUIRE(space.ready());
  const Opened file{"/t/f"};
  REQUIRE(file.good());
  Tmpfs& tmpfs = tmpfs_of(*file);
  static constinit u8 pages[16 * kPageSize]{};
  tmpfs.set_limit(10);
  EXPECT_EQ(*write_file(*file, pages), 10 * kPageSize);  // as much as fits
  EXPECT_EQ(tmpfs.charged(), 10);
  EXPECT(fails_with(write_file(*file, pages), Error::NoSpace));
  EXPECT_EQ(tmpfs.charged(), 10);
  EXPECT(truncate_file(*file, 0));
  EXPECT_EQ(tmpfs.charged(), 0);
  tmpfs.set_limit(100);
  FaultSite* site = find_fault_site("page_alloc");
  REQUIRE(site != nullptr);
  arm_fault(*site, 1, FaultMode::Once);  // no block of 16 pages, so two of 8
  const Result<u32> written = write_file_at(*file, 0, pages);
  disarm_faults();
  EXPECT_EQ(written.value_or(0), sizeof(pages));
  EXPECT_EQ(tmpfs.charged(), 16);
}

KTEST(tmpfs, readdir_goes_on_where_it_was) {
  const TmpfsSpace space;
  REQUIRE(space.ready());
  char text[16];
  BufferSink path{text};
  for (u32 i = 0; i < 50; ++i) {
    path.clear();
    format_to(path, "/t/{}", i);
    REQUIRE(write_text(path.view(), ""));
  }
  const Opened directory{"/t", OpenMode::Read | OpenMode::Directory};
  REQUIRE(directory.good());
  struct Seen {
    u64 numbers = 0;
    u32 dots = 0, left = 0;
  } seen;
  const DirectoryVisitor visit = [](void* context, const DirectoryEntry& entry) {
    auto& so_far = *static_cast<Seen*>(context);
    if (entry.name.starts_with('.')) {
      ++so_far.dots;
    } else {
      u32 number = 0;
      for (const char c : entry.name) number = number * 10 + static_cast<u32>(c - '0');
      so_far.numbers += u64{1} << number;  // twice the same shows as another bit
    }
    return --so_far.left != 0;
  };
  for (u32 i = 0; i < 52; i += 7) {
    seen.left = 7;
    EXPECT(read_directory(*directory, visit, &seen));
    path.clear();
    format_to(path, "/t/{}", i);  // one that was seen, or one that comes
    if (i == 21) EXPECT(remove_file("/t/3"));
  }
  EXPECT_EQ(seen.dots, 2);
  EXPECT_EQ(seen.numbers, (u64{1} << 50) - 1);
  EXPECT_EQ(*seek_file(*directory, 0, SeekFrom::Start), 0);
  seen = {.left = 100};
  EXPECT(read_directory(*directory, visit, &seen));
  EXPECT_EQ(seen.numbers, (u64{1} << 50) - 1 - 8);
}

KTEST(tmpfs, attributes_survive_the_inode) {
  const TmpfsSpace space;
  REQUIRE(space.ready());
  {
    const Result<OpenFile*> file = open_file("/t/f", kCreate, 0600);
    REQUIRE(file.has_value());
    Inode& inode = file_inode(**file);
    inode.modified = 12'345;
    inode.uid = 7;
    inode.attributes_dirty = true;
    close_file(*file);
  }
  EXPECT(run_shrinkers(0) > 0);
  const Result<FileStatus> status = status_of("/t/f");
  REQUIRE(status.has_value());
  EXPECT_EQ(status->modified, 12'345);
  EXPECT_EQ(status->uid, 7);
  EXPECT_EQ(status->permissions, 0600);
}

}  // namespace paean
