// Files in user spaces: private and shared maps through the page cache.
#include "kernel/fs/map_file.hpp"
#include "mm/zone.hpp"
#include "tmpfs_space.hpp"
#include "user_space.hpp"

namespace paean {

namespace {

constexpr VirtAddr kHere{0x10000000};
constexpr VirtAddr page_at(u32 n) { return kHere + n * kPageSize; }

std::span<const u8> bytes_of_word(const u32& word) { return {bytes_at(&word), 4}; }

/// What one read brings: pages in highmem with their neighbours. Those in lowmem are lent, and come alone.
u32 pages_brought(u32 in_highmem) { return high_totals().total.count() != 0 ? in_highmem : 1; }

/// A file of three pages less 100 bytes, whose words are their numbers.
class Words {
 public:
  static constexpr u32 kBytes = 3 * kPageSize - 100;
  Words() {
    const Result<OpenFile*> made =
        open_file("/t/words", OpenMode::Read | OpenMode::Write | OpenMode::Create | OpenMode::Truncate);
    if (!made) return;
    file_ = *made;
    for (u32 i = 0; i < kBytes / 4; ++i) good_ &= write_file(*file_, bytes_of_word(i)).value_or(0) == 4;
  }
  ~Words() {
    if (file_ != nullptr) close_file(file_);
  }
  Words(const Words&) = delete;
  Words& operator=(const Words&) = delete;
  bool good() const { return file_ != nullptr && good_; }
  OpenFile& file() { return *file_; }
  u32 word(u32 number) {
    u32 value = 0;
    (void)read_file_at(*file_, u64{number} * 4, std::span<u8>{bytes_at(&value), 4});
    return value;
  }
  /// Three pages of it at kHere.
  Result<VirtAddr> map(UserSpace& space, MapFlag flags, UserAccess access = kUserRw, u32 first_page = 0) {
    MappedFile* mapped = TRY(map_file(*file_));
    const Result<VirtAddr> at = space.map({.at = kHere,
                                           .bytes = 4 * kPageSize,
                                           .access = access,
                                           .flags = flags | MapFlag::Fixed,
                                           .file = mapped,
                                           .first_page = first_page});
    mapped->put();
    return at;
  }

 private:
  OpenFile* file_ = nullptr;
  bool good_ = true;
};

constexpr u32 kWordsInPage = kPageSize / 4;

}  // namespace

KTEST(user_file, private_map_copies_on_write) {
  const TmpfsSpace fs;
  Words words;
  const InSpace space;
  REQUIRE(fs.ready() && words.good() && space);
  REQUIRE(words.map(*space, MapFlag::None).has_value());
  EXPECT(set_user_word(page_at(2) + 4, 9));  // never read before
  EXPECT_EQ(space->counters().anonymous, 1u);
  EXPECT_EQ(space->counters().file, 0u);
  EXPECT_EQ(user_word(page_at(1) + 8), kWordsInPage + 2);
  const u32 brought = pages_brought(2);  // its neighbour in the cache comes with it, what is the program's own stays
  EXPECT_EQ(space->counters().file, brought);
  EXPECT_EQ(user_word(page_at(2) + 4), 9u);
  EXPECT(set_user_word(page_at(1) + 8, 1));
  EXPECT_EQ(space->counters().file, brought - 1);
  EXPECT_EQ(space->counters().anonymous, 2u);
  EXPECT_EQ(words.word(kWordsInPage + 2), kWordsInPage + 2);
  EXPECT_EQ(user_word(page_at(1) + 12), kWordsInPage + 3);
  EXPECT_EQ(user_word(page_at(2) + 8), 2 * kWordsInPage + 2);
  EXPECT_EQ(space->counters().anonymous, 2u);
  // Behind the end of the file, in its last page and beyond.
  EXPECT_EQ(user_word(page_at(2) + kPageSize - 4), 0u);
  EXPECT_EQ(space->handle_fault(page_at(3), UserAccess::Read), FaultResult::BusError);
  EXPECT(!get_user<u32>(page_at(3)).has_value());
}

KTEST(user_file, shared_map_is_the_file) {
  const TmpfsSpace fs;
  Words words;
  const InSpace space;
  REQUIRE(fs.ready() && words.good() && space);
  REQUIRE(words.map(*space, MapFlag::Shared).has_value());
  EXPECT_EQ(user_word(kHere + 4), 1u);
  EXPECT(set_user_word(kHere + 4, 0x99));
  EXPECT_EQ(words.word(1), 0x99u);
  const u32 stored = 0x77;
  EXPECT_EQ(write_file_at(words.file(), 8, bytes_of_word(stored)).value_or(0), 4u);
  EXPECT_EQ(user_word(kHere + 8), 0x77u);
  EXPECT(space->sync(kHere, 3 * kPageSize, UserSpace::Sync::Wait).has_value());
  EXPECT_EQ(space->counters().file, pages_brought(3));
  const Result<UserSpace*> child = UserSpace::fork();
  REQUIRE(child.has_value());
  EXPECT_EQ((*child)->counters().file, 0u);  // it can bring them itself
  UserSpace::switch_to(*child);
  EXPECT_EQ(user_word(kHere + 4), 0x99u);
  EXPECT(set_user_word(kHere + 12, 0x66));
  UserSpace::switch_to(&*space);
  (*child)->put();
  EXPECT_EQ(user_word(kHere + 12), 0x66u);
}

KTEST(user_file, mapped_pages_are_not_evicted) {
  const TmpfsSpace fs;
  Words words;
  const InSpace space;
  REQUIRE(fs.ready() && words.good() && space);
  REQUIRE(words.map(*space, MapFlag::None, UserAccess::Read, 1).has_value());
  EXPECT_EQ(user_word(kHere), kWordsInPage);
  const u32 pages = file_inode(words.file()).contents->pages();
  (void)file_inode(words.file()).contents->invalidate();
  EXPECT_EQ(user_word(kHere), kWordsInPage);
  EXPECT_EQ(file_inode(words.file()).contents->pages(), pages);
  // A truncated page stays the program's until it is unmapped, and is nobody else's meanwhile.
  EXPECT(truncate_file(words.file(), 0).has_value());
  EXPECT_EQ(file_inode(words.file()).contents->pages(), 0u);
  (void)user_word(kHere);
  EXPECT_EQ(space->handle_fault(page_at(2), UserAccess::Read), FaultResult::BusError);
  REQUIRE(words.map(*space, MapFlag::None, UserAccess::Read, 1).has_value());
  EXPECT_EQ(space->handle_fault(kHere, UserAccess::Read), FaultResult::BusError);
  EXPECT_EQ(space->handle_fault(page_at(1), UserAccess::Read), FaultResult::BusError);
}

KTEST(user_file, neighbours_come_with_a_page) {
  const TmpfsSpace fs;
  const InSpace space;
  REQUIRE(fs.ready() && space);
  const Result<OpenFile*> file =
      open_file("/t/many", OpenMode::Read | OpenMode::Write | OpenMode::Create | OpenMode::Truncate);
  REQUIRE(file.has_value());
  constexpr u32 kPages = 40, kHole = 21;
  for (u32 i = 0; i < kPages; ++i) {
    if (i != kHole) EXPECT_EQ(write_file_at(**file, u64{i} * kPageSize, bytes_of_word(i)).value_or(0), 4u);
  }
  const Result<MappedFile*> mapped = map_file(**file);
  REQUIRE(mapped.has_value());
  // Pages 3 to 38 of it, so that blocks begin elsewhere in the file.
  REQUIRE(space
              ->map({.at = kHere,
                     .bytes = 35 * kPageSize,
                     .access = UserAccess::Read,
                     .flags = MapFlag::Fixed,
                     .file = *mapped,
                     .first_page = 3})
              .has_value());
  (*mapped)->put();
  EXPECT_EQ(user_word(page_at(20)), 23u);
  const u32 brought = pages_brought(15);  // of 16, without the hole, which a read would make
  EXPECT_EQ(space->counters().file, brought);
  for (u32 i = 0; i < 35; ++i) EXPECT_EQ(user_word(page_at(i)), i + 3 == kHole ? 0 : i + 3);
  EXPECT_EQ(space->counters().file, 35u);
  EXPECT_EQ(space->counters().faults, brought == 1 ? 35u : 4u);  // one for each block, and one for the hole
  EXPECT(space->unmap(page_at(5), 20 * kPageSize).has_value());
  EXPECT_EQ(space->counters().file, 15u);
  close_file(*file);
  EXPECT(remove_file("/t/many").has_value());
}

KTEST(user_file, rights_of_the_open_file) {
  const TmpfsSpace fs;
  Words words;
  const InSpace space;
  REQUIRE(fs.ready() && words.good() && space);
  Result<OpenFile*> reader = open_file("/t/words", OpenMode::Read);
  REQUIRE(reader.has_value());
  Result<MappedFile*> mapped = map_file(**reader);
  close_file(*reader);
  REQUIRE(mapped.has_value());
  MapRequest request{.at = kHere, .bytes = kPageSize, .access = kUserRw, .flags = MapFlag::Shared, .file = *mapped};
  EXPECT_EQ(space->map(request).error(), Error::NoAccess);
  request.access = UserAccess::Read;
  const Result<VirtAddr> at = space->map(request);
  EXPECT(at.has_value());
  if (at) {
    EXPECT_EQ(space->protect(*at, kPageSize, kUserRw).error(), Error::NoAccess);
    EXPECT_EQ(user_word(*at + 4), 1u);
    EXPECT(!set_user_word(*at + 4, 2));
  }
  (*mapped)->put();
  Result<OpenFile*> writer = open_file("/t/words", OpenMode::Write);
  REQUIRE(writer.has_value());
  EXPECT_EQ(map_file(**writer).error(), Error::NoAccess);
  close_file(*writer);
}

}  // namespace paean
